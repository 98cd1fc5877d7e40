"""Trainings in child processes: retried after a crash, given up after an exception."""

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest

from flows.dispatch import children as module
from flows.dispatch.children import ChildProcesses
from flows.files import write_whole
from flows.processes import INTERRUPTED, MAY_PASS
from flows.runs.directory import RunDir, RunResult
from flows.settings import Home
from llama_core.config import Placement
from tests.fakes import commit_checkpoint, planned_run

RUN = planned_run()


class Slot:
    """A slot whose trainings end with given statuses; 0 leaves a result, of this status."""

    statuses: ClassVar[list[int]] = []
    result = "finished"
    instances: ClassVar[list["Slot"]] = []

    def __init__(self, root, slot):
        self.root, self.trained, self.stopped, self.waited = root, [], False, None
        self.on_train = lambda run: None
        type(self).instances.append(self)

    def train(self, run_id, log_path):
        run = RunDir(self.root / "runs" / run_id)
        self.trained.append(run_id)
        self.on_train(run)
        status = self.statuses.pop(0)
        log_path.write_text(f"Traceback\nKeyError: {len(self.trained)}\n\n")
        if status == 0:
            ended = RunResult(
                run_id=run_id, status=self.result, train_s=2.4, device="cpu", finished_at=1.0
            )
            write_whole(run.result_path, ended.model_dump_json())
        return status

    def stop(self):
        self.stopped = True

    def wait(self, seconds):
        self.waited = seconds


class Task:
    """Prefect's task, with a thread for each call."""

    messages: ClassVar[dict[str, str]] = {}

    def __init__(self, call):
        self._call = call

    def submit(self, name, run_id):
        def work():
            Task.messages[name] = self._call(name, run_id).message

        return _Future(work)


class _Future:
    def __init__(self, work):
        self._future = ThreadPoolExecutor(1).submit(work)

    def add_done_callback(self, call):
        self._future.add_done_callback(lambda _: call(self))

    def result(self, *, raise_on_failure):
        assert raise_on_failure
        return self._future.result()


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    Slot.instances, Slot.statuses, Slot.result, Task.messages = [], [], "finished", {}
    monkeypatch.setattr(module, "WarmSlot", Slot)
    monkeypatch.setattr(module, "task", lambda **options: Task)
    monkeypatch.setattr(module, "_POLL_CHILDREN_S", 0.001)

    def make(*statuses, slots=1):
        Slot.statuses = list(statuses)
        return ChildProcesses(Home(tmp_path), Placement(threads=2), [{}] * slots)

    make.run = RunDir(tmp_path / "runs" / RUN.id)
    make.run.create(RUN)
    return make


def result_of(trainings, *statuses):
    """The result of a run whose trainings end so, and how often it was trained."""
    children = trainings(*statuses)
    result = children._train(trainings.run, Slot.instances[-1])
    return result, len(Slot.instances[-1].trained)


@pytest.mark.parametrize("status", [-9, INTERRUPTED, MAY_PASS])
def test_a_training_that_was_killed_is_tried_three_times(trainings, status):
    result, tries = result_of(trainings, status, status, 0)
    assert (result.status, tries) == ("finished", 3)
    trainings.run.result_path.unlink()
    result, tries = result_of(trainings, status, status, status, 0)
    assert (result.status, tries) == ("failed", 3)
    log = trainings.run.path / "output.log"
    assert result.reason == f"no result: KeyError: 3; see {log}"


@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_training_that_raised_is_tried_once(trainings, status):
    result, tries = result_of(trainings, status)
    assert (result.status, tries) == ("failed" if status else "finished", 1)


def test_a_killed_training_that_has_come_further_is_tried_again(trainings):
    children = trainings(*[-9] * 6, 0)
    slot = Slot.instances[-1]
    slot.on_train = lambda run: commit_checkpoint(run, len(slot.trained))
    assert children._train(trainings.run, slot).status == "finished"


def test_a_stopped_training_is_neither_tried_again_nor_given_up(trainings):
    children = trainings(INTERRUPTED)
    slot = Slot.instances[-1]
    slot.on_train = lambda run: children.__exit__()
    assert children._train(trainings.run, slot) is None
    assert children._train(trainings.run, slot) is None
    assert len(slot.trained) == 1
    assert trainings.run.result() is None
    assert slot.stopped
    assert 29.0 < slot.waited <= 30.0


def test_a_second_interrupt_ends_trainings_without_waiting_for_their_checkpoints(trainings):
    children = trainings(slots=2)

    def interrupted(seconds):
        Slot.instances[0].waited = seconds
        if seconds > 0:
            raise KeyboardInterrupt

    Slot.instances[0].wait = interrupted
    with pytest.raises(KeyboardInterrupt):
        children.__exit__()
    assert [slot.waited for slot in Slot.instances] == [0, 0]


def train_all(children, runs, **options):
    finished = []
    children.train_all(
        runs,
        on_finished=lambda planned, result: finished.append((planned.name, result.status)),
        on_tick=lambda: None,
        **options,
    )
    return finished


def test_as_many_runs_train_at_once_as_there_are_slots_longest_first(trainings):
    runs = [planned_run(width=width) for width in (16, 32, 48)]
    assert train_all(trainings(0, 0, 0), runs) == [
        ("d48", "finished"),
        ("d32", "finished"),
        ("d16", "finished"),
    ]
    assert Task.messages["d48"] == "d48 finished in 2 s"
    children = trainings(0, 0, 0, slots=2)
    first, second = Slot.instances[-2:]
    both = threading.Barrier(2, timeout=10)
    waited = []

    def wait(run):
        # Passes only if two train at the same time.
        if len(waited) < 2:
            waited.append(run.id)
            both.wait()

    first.on_train = second.on_train = wait
    for run in runs:
        RunDir(trainings.run.path.parent / run.id).result_path.unlink()
    assert sorted(train_all(children, runs)) == sorted((run.name, "finished") for run in runs)
    assert len(first.trained) + len(second.trained) == 3


def test_runs_are_made_ready_and_a_failure_is_a_message(trainings):
    Slot.result = "diverged"
    assert train_all(trainings(0), [RUN]) == [("d32", "diverged")]
    assert trainings.run.placement() == Placement(threads=2)
    assert Task.messages["d32"] == "d32 diverged: "


def test_a_run_that_is_not_admitted_is_not_trained(trainings):
    runs = [planned_run(width=width) for width in (16, 32)]
    children = trainings(0)
    assert train_all(children, runs, admit=lambda run: run.name == "d16") == [("d16", "finished")]


def test_runs_that_follow_from_others_are_trained_before_it_returns(trainings):
    first, second, third = (planned_run(width=width) for width in (16, 32, 48))
    following = [[second], [], [third], []]
    finished = train_all(trainings(0, 0, 0), [first], more=lambda: following.pop(0))
    assert [name for name, _ in finished] == ["d16", "d32"]
    # Once nothing is in flight, no more is asked for.
    assert following == [[third], []]


def test_no_more_slots_are_started_ahead_than_trainings_are_expected(trainings):
    children = trainings(slots=3)
    started = []
    for slot in Slot.instances[-3:]:
        slot.start = lambda slot=slot: started.append(slot)
    children.start(2)
    assert started == Slot.instances[-3:-1]


def test_an_exception_stops_the_trainings_first(trainings):
    children = trainings(0, slots=2)

    def fail(planned, result):
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        children.train_all([RUN], on_finished=fail, on_tick=lambda: None)
    assert all(slot.stopped and slot.waited is not None for slot in Slot.instances)


def test_a_failure_that_a_full_disk_kept_from_being_recorded_ends_the_sweep_as_that(
    trainings, monkeypatch
):
    def full(path, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    children = trainings(1)
    monkeypatch.setattr("flows.dispatch.contract.write_whole", full)
    trainings.run.create(RUN)
    monkeypatch.setattr(module, "make_ready", lambda run, planned, placement: None)
    with pytest.raises(OSError, match="No space left on device"):
        train_all(children, [RUN])


@pytest.mark.parametrize(
    ("text", "last"),
    [("a\nb\n", "b"), ("a\n\n  \n", "a"), ("", "no output"), ("x" * 300, "x" * 200)],
)
def test_the_last_line_of_a_log_is_the_last_that_is_not_empty(tmp_path, text, last):
    path = tmp_path / "output.log"
    assert module._last_line(path) == "no output"
    path.write_text(text)
    assert module._last_line(path) == last
