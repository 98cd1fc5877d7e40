"""A trial takes a few steps of a recipe, whose batch and horizon it makes its own."""

from llama_core import trial
from llama_core.config import Placement
from llama_core.trial import made_up_batches, tried
from tests.core_tools import batches, recipe, tiny

CPU = Placement(device="cpu", threads=1)


def test_a_trial_takes_ten_micro_steps_and_evaluates_nothing(monkeypatch):
    taken = []
    train = trial.train

    def counted(*arguments, **settings):
        for record in train(*arguments, **settings):
            taken.append(record)
            yield record

    monkeypatch.setattr(trial, "train", counted)
    cfg = recipe(500)
    small = CPU.model_copy(update={"micro_batch_rows": 2})
    tried_steps = tried(tiny(), cfg, batches(cfg), small)
    assert [record.tokens for record in taken] == [32 * step for step in range(1, 11)]
    assert 0 < tried_steps.step_s <= tried_steps.first_s
    assert tried_steps.loss == taken[-1].loss


def test_made_up_batches_fit_the_recipe_and_can_be_learned():
    cfg = recipe(500)
    # Below that of a guess, ln 32.
    assert tried(tiny(), cfg, made_up_batches(tiny(), cfg), CPU).loss < 3.46


def test_a_rate_that_would_diverge_is_not_tried():
    cfg = recipe(500)
    wild = cfg.model_copy(update={"optimizer": cfg.optimizer.model_copy(update={"lr": 1e6})})
    assert tried(tiny(), wild, batches(wild), CPU).loss < 4.0
