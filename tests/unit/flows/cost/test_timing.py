"""Timings are read off a training's records: steps in blocks, warm-up, validation, checkpoints."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from flows.cost import timing as module
from llama_core.config import Placement
from llama_core.records import CheckpointRecord
from tests.fakes import evaluation, planned_run, step

RUN = planned_run().run
START = 1_000.0


@pytest.fixture
def time(monkeypatch, tmp_path):
    """Times a shape whose step, validation and checkpoint take given seconds."""

    def of(steps, *, eval_s, checkpoint_s):
        seconds = steps

        def train(request, model, cfg, *, steps, placement=None, folder=None):
            at = START
            for number in range(1, steps + 1):
                at += seconds[min(number, len(seconds)) - 1]
                yield replace(step(number), at=at)
                if folder:
                    at += checkpoint_s
                    yield CheckpointRecord(number, 1024 * number, None, "c", at)
            yield replace(evaluation(steps), at=at + eval_s * cfg.eval_tokens)

        monkeypatch.setattr(module, "_train", train)
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: START))
        cpu = Placement(device="cpu")
        request = module.Request(home=tmp_path, corpus="c", placement=cpu, trainings=())
        return module._time(request, RUN.model, RUN.train)

    return of


def test_every_part_of_a_training_is_timed_for_itself(time):
    timing = time([2.0, 0.5, 0.3, 0.2], eval_s=1e-4, checkpoint_s=0.05)
    assert timing.step_s == pytest.approx(0.2)
    # The three first steps take 2.8 s, three steady ones 0.6 s.
    assert timing.warm_s == pytest.approx(2.8 - 0.6)
    assert timing.eval_s_per_token == pytest.approx(1e-4)


def test_a_checkpoint_costs_what_it_adds_to_the_steps(time):
    # The steps that are timed with checkpoints are as quick as the steady ones.
    timing = time([0.2], eval_s=1e-4, checkpoint_s=0.05)
    assert timing.checkpoint_s == pytest.approx(0.05)
    assert timing.warm_s == pytest.approx(0.0, abs=1e-9)


def test_quick_first_steps_make_no_negative_warm_up(time):
    assert time([0.1, 0.1, 0.1, 0.2], eval_s=1e-4, checkpoint_s=0.05).warm_s == 0.0


def test_steps_are_timed_in_blocks_of_four_until_there_are_enough(time):
    steps = [1.0, 1.0, 1.0, *(4 * [0.3]), *(4 * [0.1]), *(3 * [0.2]), 0.6]
    timing = time(steps, eval_s=1e-4, checkpoint_s=0.05)
    assert timing.blocks == pytest.approx((0.1, 0.3, 0.3))
    assert timing.step_s == pytest.approx(0.3)


def test_very_short_steps_are_timed_for_longer(time):
    assert len(time([0.001], eval_s=1e-4, checkpoint_s=0.05).blocks) == 10
