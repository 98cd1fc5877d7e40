"""A training that is killed ends as one that was left alone, to the bit."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager

import psutil
import pytest

from flows.plans.plan import make_plan
from flows.processes import INTERRUPTED
from flows.runs.directory import RunDir
from flows.settings import Home
from flows.training.warm import WarmSlot
from llama_core.checkpoints.place import newest_place
from llama_core.config import Placement
from sweeps.load import load_spec
from tests.conftest import COMMAND, bare_environment


@pytest.fixture(scope="module")
def undisturbed(home):
    """A finished training of some seconds with three horizons."""
    # A lower rate, so that two ranks' order of summing stays in the last digits.
    spec = load_spec(
        "smoke",
        [
            *("name=resume", "ladder.widths=[16]", "recipe.coef=0.064"),
            "grid.budgets=[1e10,2e10,4e10]",
        ],
    )
    plan, _ = make_plan(spec, Home(home))
    [planned] = plan.runs
    run = RunDir(home / "runs" / planned.id)
    run.create(planned)
    run.place(Placement(threads=1, checkpoint_every_s=0.2))
    assert start(home, run).wait() == 0
    assert run.finished()
    return run


def start(home, run):
    command = [sys.executable, "-m", "flows.training.child", str(home), run.id, str(os.getpid())]
    return subprocess.Popen(command)


def twin(home, run, tmp_path):
    """The same run in another home, not trained, on the same corpus."""
    other = tmp_path / "home"
    (other / "runs").mkdir(parents=True)
    (other / "corpora").symlink_to(home / "corpora")
    copy = RunDir(other / "runs" / run.id)
    copy.path.mkdir()
    for path in (run.spec_path, run.placement_path):
        shutil.copy(path, copy.path)
    return other, copy


def wait_for_rows(run, process, count):
    """Lines are counted and not parsed: that would take the processor from what is waited for."""
    path = run.curve_path
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < count):
        time.sleep(0.02)


def stop_behind_a_checkpoint(home, run):
    """SIGTERM in the middle keeps every step: the checkpoint has all of them."""
    process = start(home, run)
    wait_for_rows(run, process, 60)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == INTERRUPTED
    steps = sum(row["kind"] == "step" for row in run.curve.rows())
    assert newest_place(run.checkpoints).steps_taken == steps
    assert not run.lease_path.exists()


def same_training(run, other):
    rows = [list(found.curve.rows()) for found in (run, other)]
    for found in rows:
        for row in found:
            # Times and speeds are the machine's, all else is the run's.
            for key in ("at", "tokens_per_s", "memory_gib", "mfu"):
                row.pop(key, None)
    assert rows[0] == rows[1]
    hashes = [
        [observation.weights_sha256 for observation in found.result().observations]
        for found in (run, other)
    ]
    assert hashes[0] == hashes[1]


@pytest.fixture
def slot(undisturbed, tmp_path):
    """A slot with a home of its own, and the run to train there."""
    other, copy = twin(undisturbed.path.parent.parent, undisturbed, tmp_path)
    slot = WarmSlot(other, {"OMP_NUM_THREADS": "1"})
    yield slot, copy
    slot.stop()
    slot.wait(20)
    assert not processes(other, "flows.training.warm")


def gone(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def trained_meanwhile(slot, copy):
    """The training's process once it has taken some steps, and a thread that waits for its end."""
    ends = []
    log = copy.path / "output.log"
    waiting = threading.Thread(target=lambda: ends.append(slot.train(copy.id, log)))
    waiting.start()
    assert wait_until(lambda: copy.curve_path.exists() and any(copy.curve.rows()), 60)
    return psutil.Process(json.loads(copy.lease_path.read_bytes())["pid"]), waiting, ends


@pytest.mark.slow
def test_a_slot_survives_the_faults_of_its_trainings(slot, undisturbed):
    slot, copy = slot
    training, waiting, ends = trained_meanwhile(slot, copy)
    warm = training.parent()
    training.kill()
    waiting.join(20)
    assert ends == [-signal.SIGKILL]
    assert slot.train(copy.id, copy.path / "output.log") == 0
    assert warm.is_running()
    assert copy.result().observations == undisturbed.result().observations
    # Started again, it has nothing left to do.
    assert slot.train(copy.id, copy.path / "output.log") == 0


@pytest.mark.slow
def test_a_training_outlives_its_slot_until_a_checkpoint(slot, undisturbed):
    slot, copy = slot
    training, waiting, ends = trained_meanwhile(slot, copy)
    training.parent().kill()
    waiting.join(20)
    assert ends == [-signal.SIGKILL]
    assert slot.train(copy.id, copy.path / "output.log") == 0
    assert copy.result().observations == undisturbed.result().observations
    assert ": 0 steps are trained again" in (copy.path / "output.log").read_text()


def test_stopping_a_slot_stops_its_training_after_a_checkpoint(slot):
    slot, copy = slot
    training, waiting, ends = trained_meanwhile(slot, copy)
    slot.stop()
    slot.wait(20)
    waiting.join(20)
    assert ends == [INTERRUPTED]
    assert not training.is_running()
    assert copy.result() is None
    assert copy.newest_checkpoint()
    # A stopped slot trains nothing more.
    assert slot.train(copy.id, copy.path / "output.log") == INTERRUPTED


@pytest.mark.parametrize("alone", [False, True])
def test_a_training_that_does_not_stop_is_killed_with_its_slot(slot, alone):
    slot, copy = slot
    training, waiting, ends = trained_meanwhile(slot, copy)
    training.suspend()
    if alone:
        training.parent().kill()
    slot.stop()
    slot.wait(1)
    waiting.join(20)
    assert ends == [-signal.SIGKILL]
    assert wait_until(lambda: gone(training), 10)
    # No process is left to signal, which is no error.
    assert "Traceback" not in (copy.path / "output.log").read_text()


def test_a_slot_killed_while_it_waits_is_restarted(slot):
    slot, copy = slot
    training, waiting, _ = trained_meanwhile(slot, copy)
    warm = training.parent()
    # What is forked must not miss a thread.
    assert warm.num_threads() == 1
    training.kill()
    waiting.join(20)
    warm.kill()
    assert wait_until(lambda: gone(warm), 10)
    copy.spec_path.write_text("{")
    assert slot.train(copy.id, copy.path / "output.log") == 1


def test_a_slot_logs_why_a_training_failed(slot):
    slot, copy = slot
    copy.spec_path.write_text("{")
    log = copy.path / "output.log"
    assert slot.train(copy.id, log) == 1
    assert "ValidationError" in log.read_text()


def test_sigkill_at_random_moments_leaves_no_trace_in_curve_or_weights(home, undisturbed, tmp_path):
    other, copy = twin(home, undisturbed, tmp_path)
    total = sum(1 for _ in undisturbed.curve.rows())
    moments = sorted(random.Random(0).sample(range(20, total - 60), 3))
    for count in moments:
        process = start(other, copy)
        wait_for_rows(copy, process, count)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert copy.result() is None
    assert start(other, copy).wait() == 0
    same_training(undisturbed, copy)


def test_sigterm_stops_a_training_that_resumes_later(home, undisturbed, tmp_path):
    other, copy = twin(home, undisturbed, tmp_path)
    stop_behind_a_checkpoint(other, copy)
    assert start(other, copy).wait() == 0
    same_training(undisturbed, copy)


@pytest.mark.slow
def test_sigterm_stops_two_ranks_that_resume_later(home, undisturbed, tmp_path):
    other, copy = twin(home, undisturbed, tmp_path)
    copy.place(Placement(threads=1, ranks=2, checkpoint_every_s=600))
    stop_behind_a_checkpoint(other, copy)
    assert not processes(other, "flows.training.ranks")
    assert start(other, copy).wait() == 0
    told = [
        [(row["step"], row["horizon"]) for row in run.curve.rows()] for run in (undisturbed, copy)
    ]
    assert told[0] == told[1]
    for one, two in zip(undisturbed.result().observations, copy.result().observations, strict=True):
        # Two ranks add up in another order than one.
        assert one.val_loss == pytest.approx(two.val_loss, abs=1e-5)


def test_a_training_started_twice_at_once_is_joined_and_not_doubled(home, undisturbed, tmp_path):
    other, copy = twin(home, undisturbed, tmp_path)
    processes = [start(other, copy) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    same_training(undisturbed, copy)


def test_a_finished_training_is_returned_and_not_trained_again(home, undisturbed):
    before = undisturbed.curve_path.read_bytes()
    assert start(home, undisturbed).wait() == 0
    assert undisturbed.curve_path.read_bytes() == before


def test_a_sweep_killed_with_sigkill_leaves_no_orphan_and_resumes(home, isoflop):
    check_interrupted(home, isoflop, sweep_command(7), signal.SIGKILL)


@pytest.mark.slow
def test_ctrl_c_stops_a_sweep_that_resumes_later(home, isoflop):
    check_interrupted(home, isoflop, sweep_command(8), signal.SIGINT)


def sweep_command(seed):
    return ("sweep", "smoke", "--set", f"name=seed-{seed}", "--set", f"seeds=[{seed}]")


def study_command(seed):
    return (
        *("tune", "lr-batch", "--set", f"name=seed-{seed}", "--set", f"train_seed={seed}"),
        *("--set", "ladder.widths=[16]", "--set", "tokens=[20480,204800]"),
        *("--trials", "9", "--set", "eval_tokens=4096"),
    )


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("command", [sweep_command(9), study_command(9)], ids=["sweep", "study"])
def test_sigterm_stops_a_sweep_and_a_study_as_ctrl_c_does(home, isoflop, command):
    check_interrupted(home, isoflop, command, signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("command", [sweep_command(10), study_command(11)], ids=["sweep", "study"])
def test_a_sweep_and_a_study_are_stopped_from_another_terminal(home, isoflop, command):
    name = command[3].partition("=")[2]

    def cancel(process):
        done = isoflop("cancel", name)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"stopped {name} (processes here: 1, flow runs: 0)\n"

    check_interrupted(home, isoflop, command, cancel)
    assert isoflop("cancel", name).stdout == f"nothing of {name} was running\n"


def check_interrupted(home, isoflop, arguments, how):
    """Start a sweep or a study, end it while it trains, check what is left of it, and finish it."""
    environment = {**bare_environment(), "ISOFLOP_HOME": str(home)}
    known, log = set(home.glob("runs/*")), home / "interrupted.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [COMMAND, *arguments], env=environment, stdout=output, stderr=output
        )
    with killed_at_the_end(process):
        trains = wait_until(lambda: steps_taken(set(home.glob("runs/*")) - known), 300)
        assert trains, log.read_text()
        assert processes(home, "flows.training.warm")
        if isinstance(how, signal.Signals):
            process.send_signal(how)
        else:
            how(process)
        status = process.wait(120)
    assert wait_until(lambda: not processes(home, "flows.training.warm"), 20)
    assert wait_until(lambda: not processes(home, "prefect"), 20)
    if how != signal.SIGKILL:
        assert status == 130, log.read_text()
        assert "stopped; the same command resumes it" in log.read_text()
        assert all(list(run.glob("checkpoints/*")) for run in begun(set(home.glob("runs/*"))))
        # By the tag the doctor knows the process of this flow run.
        tag = f"process {os.uname().nodename}:{process.pid}"
        assert states_of_flow_runs(home, tag) == ["CRASHED"]
    finished = {path: path.stat().st_mtime_ns for path in home.glob("runs/*/result.json")}
    again = isoflop(*arguments)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


@contextmanager
def killed_at_the_end(process):
    try:
        yield
    finally:
        process.kill()


def steps_taken(runs):
    return any((run / "curve.jsonl").exists() and any(RunDir(run).curve.rows()) for run in runs)


def begun(runs):
    return [run for run in runs if steps_taken([run]) and not (run / "result.json").exists()]


def states_of_flow_runs(home, tag):
    """States of the flow runs with this tag, as the last server of this home left them."""
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        rows = database.execute("SELECT state_type, tags FROM flow_run").fetchall()
    return [state for state, tags in rows if tag in json.loads(tags)]


def processes(home, word):
    """Living processes that work for this home, by a word of their command."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ", "status"]):
        command = " ".join(process.info["cmdline"] or [])
        mine = str(home) in command or (process.info["environ"] or {}).get(
            "PREFECT_HOME", ""
        ).startswith(str(home))
        if word in command and mine and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return bool(met)
