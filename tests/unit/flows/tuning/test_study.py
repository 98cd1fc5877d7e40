"""Trials are proposed a generation at a time, evenly at first, and each is judged by its losses."""

import math

import optuna
import pytest

from flows.runs.directory import Observation, RunResult
from flows.tuning import study as module
from flows.tuning.report import trial_line
from flows.tuning.search import objective
from flows.tuning.study import WidthStudy, propose, study_name
from sweeps.load import load_tune_spec
from sweeps.tune_spec import Dimension
from tests.fakes import planned_run

BOX = (Dimension("lr", 0.001, 0.016), Dimension("batch_tokens", 256.0, 4096.0))


def spec_of(**changes):
    return load_tune_spec("lr-batch").model_copy(update={"startup": 8, "generation": 4} | changes)


@pytest.fixture
def study():
    return WidthStudy("x", spec_of(), BOX, optuna.storages.InMemoryStorage())


def params_of(trials):
    return [trial.params for trial in trials]


def end(study, trials, loss=3.0):
    for trial in trials:
        study.tell(trial.number, loss + trial.number / 100)


def test_first_trials_are_proposed_as_far_as_they_are_wanted(study):
    first = propose(spec_of(), BOX, [], 8)
    opened = study.open_trials(5)
    assert params_of(opened) == first[:5]
    # Those of a killed controller are trained, not proposed again.
    assert [trial.number for trial in study.open_trials(5)] == [0, 1, 2, 3, 4]
    end(study, opened)
    assert study.open_trials(5) == []
    # A study that grows completes its generation whether or not earlier trials have ended.
    assert params_of(study.open_trials(6)) == first[5:6]
    assert params_of(study.open_trials(20)) == first[5:8]
    assert len(study.trials()) == 8


def test_a_generation_waits_for_all_earlier_trials(study, monkeypatch):
    asked = []

    def even(spec, box, outcomes, count):
        asked.append(([outcome.loss for outcome in outcomes], count))
        return propose(spec, box, [], count)

    # The search itself takes seconds.
    monkeypatch.setattr(module, "propose", even)
    opened = study.open_trials(20)
    end(study, opened[:7])
    assert [trial.number for trial in study.open_trials(20)] == [7]
    study.tell(7, None)
    assert [trial.number for trial in study.open_trials(20)] == [8, 9, 10, 11]
    end(study, study.open_trials(20))
    assert [trial.number for trial in study.open_trials(13)] == [12]
    losses = [3.0 + number / 100 for number in range(12)]
    losses[7] = None
    assert asked[1:] == [(pytest.approx(losses[:8]), 4), (pytest.approx(losses), 4)]
    assert study.trials()[7].state == optuna.trial.TrialState.FAIL
    assert study.trials()[3].value == pytest.approx(3.03)


@pytest.mark.parametrize(
    ("count", "generation"),
    [(0, (0, 8)), (7, (0, 8)), (8, (8, 12)), (11, (8, 12)), (12, (12, 16)), (17, (16, 20))],
)
def test_a_trial_belongs_to_the_startup_or_to_a_generation_after_it(study, count, generation):
    assert study._generation(count) == generation


@pytest.mark.parametrize("count", [1, 5, 8])
def test_first_trials_are_even_in_the_logarithm_of_every_parameter(count):
    proposed = propose(spec_of(), BOX, [], count)
    assert len(proposed) == count
    for dimension in BOX:
        shares = sorted(
            math.log(params[dimension.name] / dimension.low)
            / math.log(dimension.high / dimension.low)
            for params in proposed
        )
        assert all(0 <= share <= 1 for share in shares)
        # Sobol's sequence has one of its first eight points in each eighth.
        assert count < 8 or [math.floor(8 * share) for share in shares] == list(range(8))


def test_a_study_is_another_for_another_spec_corpus_width_or_box():
    name = study_name(spec_of(), "a", 16, BOX)
    assert name.startswith("lr-batch-d16-")
    assert name == study_name(spec_of(trials=99), "a", 16, BOX)
    others = {
        study_name(spec_of(seed=1), "a", 16, BOX),
        study_name(spec_of(), "b", 16, BOX),
        study_name(spec_of(), "a", 24, BOX),
        study_name(spec_of(), "a", 16, BOX[:1]),
    }
    assert len(others | {name}) == 5


def result(status, *losses):
    ends = tuple(
        Observation(tokens=number + 1, val_loss=loss, val_bpb=2.0, weights_sha256="0")
        for number, loss in enumerate(losses)
    )
    return RunResult(
        run_id="x", status=status, reason="a bug" if status == "failed" else "",
        observations=ends, train_s=1, device="cpu", finished_at=1.0,
    )  # fmt: skip


def test_a_trial_is_judged_by_its_mean_loss_and_a_diverged_one_by_that_of_a_guess():
    run = planned_run()
    assert objective(run, result("finished", 3.0, 2.5)) == 2.75
    assert objective(run, result("diverged", 3.0)) == math.log(512)
    assert objective(run, result("failed")) is None
    assert objective(run, None) is None


def test_a_trial_is_told_in_a_line():
    run = planned_run()
    assert trial_line(run, result("finished", 3.14159, 2.5)) == (
        "d32: lr 8.00e-03, batch 1,024: 3.1416, 2.5000"
    )
    assert trial_line(run, result("failed")) == "d32: lr 8.00e-03, batch 1,024: failed, a bug"
