"""Compiling pays where the steps saved outweigh the graph, by what a home has measured."""

import pytest

from flows.training.compile_gain import (
    USUAL_COLD_S,
    USUAL_SAVING,
    USUAL_WARM_S,
    MicroStep,
    StepRecords,
    StepTimes,
    choose,
)
from tests.fakes import planned_run

EAGER = StepTimes(device="cpu", eager_s=0.01)
FAST = EAGER.model_copy(update={"compiled_s": 0.006, "cold_s": 60.0})
SLOW = EAGER.model_copy(update={"compiled_s": 0.011, "cold_s": 60.0})


def test_nothing_measured_a_run_compiles_where_the_usual_saving_pays_the_usual_graph():
    break_even = USUAL_COLD_S / USUAL_SAVING / 0.01
    short = choose(0.9 * break_even, 0.01, times=EAGER, others=[EAGER], runs=1)
    long = choose(1.1 * break_even, 0.01, times=None, others=[], runs=1)
    assert (short.compiled, long.compiled) == (False, True)
    assert short.gain_s == pytest.approx(-0.1 * USUAL_COLD_S)
    assert "as measured elsewhere" in short.reason


def test_runs_of_one_shape_share_the_cost_of_its_graph():
    steps = 0.6 * USUAL_COLD_S / USUAL_SAVING / 0.01
    assert not choose(steps, 0.01, times=EAGER, others=[], runs=1).compiled
    shared = choose(steps, 0.01, times=EAGER, others=[], runs=4)
    assert shared.gain_s == pytest.approx(
        0.6 * USUAL_COLD_S - (USUAL_COLD_S + 3 * USUAL_WARM_S) / 4
    )
    assert shared.compiled


def test_a_measured_shape_counts_by_its_own_steps_and_has_its_graph():
    choice = choose(2000, 0.01, times=FAST, others=[SLOW], runs=1)
    assert choice.gain_s == pytest.approx(2000 * 0.01 * 0.4 - USUAL_WARM_S)
    assert choice.reason == "would save 8 s of 20 s for 5 s, measured here"
    slower = choose(1e9, 0.01, times=SLOW, others=[FAST], runs=9)
    assert not slower.compiled
    assert slower.reason == "compiled steps are no faster, measured here"


def test_a_new_shape_is_expected_to_be_as_the_others_on_its_device():
    choice = choose(20_000, 0.01, times=None, others=[EAGER, FAST, FAST, SLOW], runs=1)
    assert choice.gain_s == pytest.approx(200 * 0.4 - 60.0)
    assert choice.reason.endswith("as other shapes here")


def test_records_are_of_a_device_and_its_threads(tmp_path):
    train = planned_run().run.train
    shape = MicroStep(model=planned_run().run.model, rows=8, seq_len=128, dtype=train.dtype)
    one, two = (StepRecords(tmp_path / "steps", "EPYC", threads) for threads in ("1", "2"))
    assert one.read(shape) is None
    one.write(shape, FAST)
    assert (one.read(shape), one.others()) == (FAST, [FAST])
    assert (two.read(shape), two.others()) == (None, [])
    other = shape.model_copy(update={"dtype": "bfloat16"})
    assert one.read(other) is None
    (file,) = (tmp_path / "steps").iterdir()
    file.write_text("torn")
    assert one.others() == []
