"""Runs trained as one program: what each directory holds, and what is left after a kill."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest

from flows.processes import DECLINED
from flows.results.show import run_document
from flows.runs.attempts import compile_choice, read_attempts, spent, stack_choice
from flows.runs.directory import RunDir
from flows.settings import Home
from flows.training import stack_gain, stacked
from flows.training.compile_gain import StepTimes
from flows.training.compiling import micro_step, step_records
from flows.training.execute import execute
from flows.training.signals import Interrupted
from flows.training.stacked import execute_stack
from llama_core.config import AdamW, Placement
from tests.trained import trained_run

TOGETHER = Placement(device="cpu", threads=1, stack=8, compile="off")


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A trained run, in a home with its corpus."""
    return trained_run(tmp_path_factory.mktemp("home"))


@pytest.fixture
def home(first):
    return Home(first.path.parents[1])


def like(first, placement=TOGETHER, **recipe):
    """A run of the same shape that is not trained."""
    planned = first.planned()
    train = planned.run.train.model_copy(update=recipe)
    planned = planned.model_copy(update={"run": planned.run.model_copy(update={"train": train})})
    run = RunDir(first.path.parent / planned.id)
    run.create(planned)
    run.place(placement)
    return run


def foreseen(runs, home, placement):
    return stack_gain.choose([run.planned() for run in runs], home, placement, os.environ)


def losses(run):
    return [row["loss"] for row in run.curve.rows() if row["kind"] == "step"]


def test_each_run_has_the_directory_of_a_single_training(first, home):
    single, *runs = [like(first, seed=seed) for seed in (1, 2, 3)]
    wild = like(first, seed=4, optimizer=AdamW(lr=1e6))
    execute(single, home)
    assert execute_stack([*runs, wild], home)
    assert [run.result().status for run in (*runs, wild)] == ["finished"] * 2 + ["diverged"]
    for run in runs:
        assert run.finished()
        assert len(losses(run)) == len(losses(single))
        (attempt,) = read_attempts(run)
        assert (attempt.how, attempt.together) == ("finished", 3)
        # Three runs shared these seconds.
        assert spent(run).seconds == attempt.seconds / 3
        assert compile_choice(run).compiled is False
        choice = stack_choice(run)
        assert (choice.stacked, choice.runs, choice.gain) == (True, 3, None)
        names = {path.name for path in run.path.iterdir() if path.suffix == ".safetensors"}
        assert names == {
            path.name for path in single.path.iterdir() if path.suffix == ".safetensors"
        }
    # A settled stack is left as it is.
    written = runs[0].result_path.stat().st_mtime_ns
    assert execute_stack([*runs, wild], home)
    assert runs[0].result_path.stat().st_mtime_ns == written


def test_runs_are_declined_that_a_trial_finds_faster_one_by_one(first, home, monkeypatch):
    placement = TOGETHER.model_copy(update={"stack": "auto"})
    runs = [like(first, placement, seed=seed) for seed in (11, 12)]
    trials = []
    monkeypatch.setattr(stacked, "CLEAR_GAIN", math.inf)
    monkeypatch.setattr(stack_gain, "_measured", lambda *_: trials.append(1) or 1.05)
    assert not execute_stack(runs, home)
    assert not execute_stack(runs, home)
    # The home keeps what was measured.
    assert len(trials) == 1
    assert all(run.result() is None and not run.curve_path.exists() for run in runs)
    [row] = [json.loads(line) for line in runs[0].attempts_path.read_text().splitlines()]
    assert (row["kind"], row["choice"]["stacked"], row["choice"]["gain"]) == ("stack", False, 1.05)
    assert run_document(runs[0], home)["stack"]["reason"].startswith("1.05 times as fast")
    assert read_attempts(runs[0]) == []
    more = [like(first, placement, seed=seed) for seed in (11, 12, 13)]
    monkeypatch.setattr(stack_gain, "_measured", lambda *_: 1.5)
    # A plan foresees both, once each was tried.
    assert foreseen(more, home, placement) is None
    assert execute_stack(more, home)
    assert all(run.finished() for run in more)
    assert foreseen(more, home, placement) == stack_choice(more[0])
    assert (stack_choice(more[0]).stacked, stack_choice(more[0]).gain) == (True, 1.5)
    # Where compiled steps are known to be faster still, the runs compile.
    spec = more[0].planned().run
    records = step_records(home, placement, os.environ)
    records.write(micro_step(spec, placement), StepTimes(device="cpu", eager_s=1.0, compiled_s=0.5))
    rival = foreseen(more, home, placement)
    assert not rival.stacked
    assert rival.reason.endswith("and compiled 2.00 times")


def test_a_stack_that_cannot_gain_on_a_core_is_not_tried(first, home):
    rows = first.planned().run.train.seq_len
    auto = Placement(device="cpu", threads=1, compile="off")
    # While the first takes twenty steps, the second takes one: nothing to share.
    uneven = [like(first, auto, batch_tokens=rows * many, seed=8) for many in (1, 20)]
    choice = foreseen(uneven, home, auto)
    assert choice is not None
    assert not choice.stacked
    assert choice.gain is None
    assert choice.reason == "would be 0.97 times as fast, reckoned from their steps"
    # Of equal batches every step is shared, so both ways are tried, where the home knows no gain.
    even = [like(first, auto, batch_tokens=2 * rows, seed=seed) for seed in (8, 9)]
    assert foreseen(even, home, auto) is None


def test_a_stack_whose_gain_is_clear_is_not_tried(first, home, monkeypatch):
    auto = Placement(device="cpu", threads=1, compile="off")
    rows = first.planned().run.train.seq_len
    runs = [like(first, auto, batch_tokens=rows, seed=seed) for seed in range(91, 97)]
    monkeypatch.setattr(stack_gain, "_measured", lambda *_: pytest.fail("tried"))
    assert execute_stack(runs, home)
    choice = stack_choice(runs[0])
    assert choice.reason.endswith("times as fast as one by one, reckoned from their steps")
    assert choice.gain > 1.5
    # A plan, which has time, measures it.
    assert foreseen(runs, home, auto) is None


def test_a_trial_times_both_ways(first, home):
    specs = [like(first, seed=seed).planned().run for seed in (21, 22)]
    # Wide bounds: a busy machine, and models of no size.
    assert 0.2 < stack_gain._measured(specs, home, TOGETHER) < 10


def test_a_signal_stops_all_runs_with_checkpoints(first, home, monkeypatch):
    runs = [like(first, seed=seed) for seed in (41, 42)]
    heard = []

    class Listener(stacked.Listener):
        def hear(self, record):
            super().hear(record)
            heard.append(record)
            if len(heard) == 20:
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(stacked, "Listener", Listener)
    with pytest.raises(Interrupted, match="2 runs"):
        execute_stack(runs, home)
    assert all(run.newest_checkpoint() and run.result() is None for run in runs)
    # One goes on alone, the other in a stack with a new run.
    execute(runs[0], home)
    new = like(first, seed=43)
    assert execute_stack([runs[1], new], home)
    assert all(run.finished() for run in (*runs, new))


@pytest.mark.slow
def test_a_killed_stack_loses_nothing(first, home):
    placement = TOGETHER.model_copy(update={"checkpoint_every_s": 0.05})
    whole = [like(first, seed=seed) for seed in (51, 52)]
    execute_stack(whole, home)
    expected = [run.result().observations for run in whole]
    for run in whole:
        run.path.rename(run.path.with_name(f"{run.id}-whole"))
    runs = [like(first, placement, seed=seed) for seed in (51, 52)]
    command = [sys.executable, "-m", "flows.training.child", str(home.root)]
    process = subprocess.Popen([*command, ",".join(run.id for run in runs), str(os.getpid())])
    while not all(run.newest_checkpoint() for run in runs):
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert all(run.result() is None and not run.busy() for run in runs)
    assert (
        subprocess.run([*command, ",".join(run.id for run in runs), str(os.getpid())]).returncode
        == 0
    )
    for run, observations in zip(runs, expected, strict=True):
        ended = run.result()
        assert ended.status == "finished"
        for end, other in zip(ended.observations, observations, strict=True):
            assert end.val_loss == pytest.approx(other.val_loss, abs=1e-5)
        assert len(losses(run)) == len(losses(RunDir(run.path.with_name(f"{run.id}-whole"))))


def test_runs_of_other_shapes_are_declined_and_the_child_says_so(first, home):
    from flows.training import child

    a, b = like(first, seed=61), like(first, seed=62, dtype="bfloat16")
    parent = str(os.getppid())
    assert child.main([str(home.root), f"{a.id},{b.id}", parent]) == DECLINED
    choice = stack_choice(b)
    assert (choice.stacked, choice.reason) == (False, "dtype is float32 and bfloat16")
