"""Whether a run is compiled is decided once, from trials of its own steps."""

import json

import pytest
import torch

from flows.plans.stored import write_round
from flows.runs.attempts import compile_choice, read_attempts, recording_attempt
from flows.runs.directory import RunDir
from flows.settings import Home
from flows.training.compile_gain import USUAL_WARM_S
from flows.training.compiling import foreseen, micro_step, settled, step_records
from llama_core.config import Placement
from llama_core.trial import Trial
from tests.fakes import commit_checkpoint, planned_run

AUTO = Placement(device="cpu", threads=1)
# Some 100 s of training at 10 ms a step.
LONG = planned_run(steps=(10_000,))
STEPS = LONG.steps


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr("llama_core.compiling.compile_obstacle", lambda device: None)
    return directory_of(LONG, tmp_path)


def directory_of(planned, tmp_path, placement=AUTO):
    directory = RunDir(tmp_path / "runs" / planned.id)
    directory.create(planned)
    directory.place(placement)
    return directory


@pytest.fixture
def trials(monkeypatch):
    """Replaces the timing of steps: seconds of an uncompiled and of a compiled one."""
    seconds, made = {False: 0.01, True: 0.005}, []

    def tried(model, cfg, batches, placement):
        compile = placement.compile == "on"
        made.append(compile)
        if isinstance(seconds[compile], Exception):
            raise seconds[compile]
        return Trial(step_s=seconds[compile], first_s=40.0, loss=6.0)

    monkeypatch.setattr("llama_core.trial.tried", tried)
    return seconds, made


def home_of(run):
    return Home(run.path.parent.parent)


def test_a_long_run_is_tried_and_compiled_and_stays_so(run, trials):
    seconds, made = trials
    # 20 % of 200 s is more than a cold graph takes.
    seconds[False] = 0.02
    assert settled(run, home_of(run), None).compile == "on"
    assert made == [False, True, False]
    choice = compile_choice(run)
    assert choice.gain_s == pytest.approx(STEPS * 0.015 - USUAL_WARM_S)
    seconds[True] = 9.0
    assert settled(run, home_of(run), None).compile == "on"
    assert len(made) == 3
    # Another run of the shape needs no trial, only its own length.
    short = directory_of(planned_run(steps=(6000,)), run.path.parent.parent)
    assert settled(short, home_of(run), None).compile == "on"
    assert len(made) == 3


def test_a_run_that_cannot_repay_its_graph_is_not_compiled(run, trials):
    assert settled(run, home_of(run), None).compile == "off"
    assert trials[1] == [False]
    assert compile_choice(run).reason.startswith("would save 20 s of 100 s for 32 s")


def test_trials_of_a_round_share_what_their_graph_costs(run, trials):
    # Compiled, each of two saves 20 s; a graph takes 32 s, and 5 s for the second.
    round = [LONG, planned_run(steps=(9_000,)), planned_run(width=48)]
    write_round(LONG.sweep, round, home_of(run))
    assert settled(run, home_of(run), None).compile == "on"
    assert trials[1] == [False, True, False]


@pytest.mark.parametrize("compiled", [0.03, RuntimeError("no such header\nand more")])
def test_a_trial_that_shows_no_gain_leaves_the_run_uncompiled_and_is_not_repeated(
    run, trials, compiled
):
    seconds, made = trials
    seconds.update({False: 0.02, True: compiled})
    assert settled(run, home_of(run), None).compile == "off"
    reason = compile_choice(run).reason
    assert reason in (
        "compiled steps are no faster, measured here",
        "the compiler failed: no such header",
    )
    before = len(made)
    other = directory_of(planned_run(steps=(11_000,)), run.path.parent.parent)
    assert settled(other, home_of(run), None).compile == "off"
    assert len(made) == before


@pytest.mark.parametrize("compiled", [False, True])
def test_a_trial_out_of_memory_is_no_fault_of_the_compiler(run, trials, compiled):
    seconds, _ = trials
    seconds.update({False: 0.02, compiled: torch.OutOfMemoryError("CUDA out of memory")})
    with pytest.raises(torch.OutOfMemoryError):
        settled(run, home_of(run), None)
    assert compile_choice(run) is None


def test_the_least_runs_are_not_even_timed(tmp_path, trials, monkeypatch):
    monkeypatch.setattr("llama_core.compiling.compile_obstacle", lambda device: None)
    short = directory_of(planned_run(), tmp_path)
    assert settled(short, Home(tmp_path), None).compile == "off"
    assert (compile_choice(short).reason, trials[1]) == ("too short to gain", [])


def test_without_a_compiler_a_run_trains_uncompiled_also_one_that_was_compiled(
    run, trials, monkeypatch, caplog
):
    trials[0][False] = 0.02
    other = directory_of(planned_run(steps=(11_000,)), run.path.parent.parent)
    assert settled(run, home_of(run), None).compile == "on"
    monkeypatch.setattr("llama_core.compiling.compile_obstacle", lambda device: "there is no g++.")
    assert settled(run, home_of(run), None).compile == "off"
    assert "goes on uncompiled: there is no g++." in caplog.text
    assert settled(other, home_of(run), None).compile == "off"
    assert compile_choice(other).reason == "there is no g++."


def test_on_and_off_count_and_a_run_begun_before_choices_stays_as_it_was(run, trials):
    run.place(AUTO.model_copy(update={"compile": "on"}))
    assert settled(run, home_of(run), None).compile == "on"
    run.place(AUTO)
    commit_checkpoint(run, 100)
    assert settled(run, home_of(run), None).compile == "off"
    assert compile_choice(run).reason == "as always on cpu"
    assert trials[1] == []


def test_the_choice_lies_among_the_attempts_and_is_no_attempt(run, trials):
    with recording_attempt(run, home_of(run)):
        settled(run, home_of(run), None)
    rows = [json.loads(line) for line in run.attempts_path.read_text().splitlines()]
    assert [row["kind"] for row in rows] == ["start", "compile", "end"]
    assert rows[1]["number"] == 1
    assert [attempt.number for attempt in read_attempts(run)] == [1]


def test_a_plan_foresees_what_the_run_will_choose(run, trials):
    home, slot = home_of(run), {"OMP_NUM_THREADS": "2"}
    expected = foreseen(LONG, home, AUTO, slot, step_s=0.01, runs=1)
    settled(run, home, None)
    assert compile_choice(run) == expected
    tiny = planned_run()
    assert foreseen(tiny, home, AUTO, slot, step_s=9.0, runs=1).reason == "too short to gain"
    begun = directory_of(planned_run(steps=(11_000,)), run.path.parent.parent)
    commit_checkpoint(begun, 100)
    choice = foreseen(begun.planned(), home, AUTO, slot, step_s=9.0, runs=1)
    assert choice.reason == "as always on cpu"
    on = AUTO.model_copy(update={"compile": "on"})
    assert foreseen(LONG, home, on, slot, step_s=0.01, runs=1) is None


def test_records_are_of_the_threads_that_a_training_has(tmp_path):
    shape = micro_step(planned_run().run, AUTO)
    assert (shape.rows, shape.tokens) == (8, 1024)
    for placement, threads in ((AUTO, "1"), (Placement(device="cpu"), "4")):
        records = step_records(Home(tmp_path), placement, {"OMP_NUM_THREADS": "4"})
        assert records.threads == threads
