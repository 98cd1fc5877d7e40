"""Trainings on a work pool: what is started, started again, waited for and cancelled."""

import logging
from types import SimpleNamespace
from uuid import uuid4

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Running, Scheduled

from flows.dispatch import work_pool as module
from flows.dispatch.work_pool import WorkPool
from flows.files import write_whole
from flows.runs.directory import RunDir, RunResult
from flows.settings import Home
from llama_core.config import Placement
from tests.fakes import planned_run

SMALL, LARGE = planned_run(width=16), planned_run(width=48)


def write_result(run, status="finished"):
    result = RunResult(
        run_id=run.id, status=status, reason="", train_s=1, device="cpu", finished_at=1.0
    )
    write_whole(run.result_path, result.model_dump_json())


class Pool:
    """A work pool whose flow runs pass through given states, one for each reading.

    A state may be None, for a flow run that was deleted. After `Completed` there is a result.
    """

    def __init__(self, home, monkeypatch, store=None):
        self.home, self.started, self.finished, self.ticks = home, [], [], 0
        self.cancelled, self.dead, self.ending, self.crashed = [], set(), False, []
        self.states = {}
        self._flow_runs = {}
        monkeypatch.setattr(module, "_POLL_SERVER_S", 0.0)
        monkeypatch.setattr(module, "read_states", self._read_states)
        monkeypatch.setattr(module, "is_ending", lambda: self.ending)
        monkeypatch.setattr(module, "crash", self._crash)
        monkeypatch.setattr(module, "cancel_flow_runs", self._cancel)
        monkeypatch.setattr(module, "LeaseWatch", self._lease)
        self.pool = WorkPool(home, Placement(threads=3), "train/run", store)
        self.pool._start = self._start

    def _start(self, planned, attempt):
        flow_run = uuid4()
        self._flow_runs[flow_run] = planned
        self.started.append((planned.name, attempt))
        return flow_run

    def _read_states(self, ids):
        states = {}
        for flow_run in ids:
            planned = self._flow_runs[flow_run]
            passing = self.states[planned.name]
            state = passing.pop(0) if len(passing) > 1 else passing[0]
            if state is not None:
                states[flow_run] = state
            if state is not None and state.is_completed():
                write_result(RunDir(self.home.runs / planned.id))
        return states

    def _crash(self, flow_run):
        self.crashed.append(self._flow_runs[flow_run].name)
        return Crashed(message="no sign of life")

    def _lease(self, run):
        names = {planned.id: planned.name for planned in (SMALL, LARGE)}
        return SimpleNamespace(dead=lambda: names.get(run.id) in self.dead)

    def _cancel(self, read):
        self.cancelled += [self._flow_runs[flow_run].name for flow_run in read()]

    def train(self, *runs, **options):
        def finish(planned, result):
            self.finished.append((planned.name, result.status, result.reason))

        def tick():
            self.ticks += 1

        self.pool.train_all(runs, on_finished=finish, on_tick=tick, **options)
        return self.finished


@pytest.fixture
def pool(tmp_path, monkeypatch):
    return Pool(Home(tmp_path), monkeypatch)


def test_runs_are_made_ready_and_started_longest_first(pool):
    run = RunDir(pool.home.runs / SMALL.id)
    run.create(SMALL)
    write_result(run, "failed")
    pool.states = {"d16": [Running(), Completed()], "d48": [Scheduled(), Running(), Completed()]}
    assert pool.train(SMALL, LARGE) == [("d16", "finished", ""), ("d48", "finished", "")]
    assert pool.started == [("d48", 0), ("d16", 0)]
    assert (run.path / "result-0.json").exists()
    assert run.placement() == Placement(threads=3)
    assert pool.ticks >= 3
    assert pool.cancelled == []


@pytest.mark.parametrize("lost", [None, Crashed(message="gone")])
def test_a_deleted_or_crashed_flow_run_is_started_again(pool, lost):
    pool.states = {"d16": [Running(), lost, Running(), Completed()]}
    assert pool.train(SMALL) == [("d16", "finished", "")]
    assert pool.started == [("d16", 0), ("d16", 1)]


@pytest.mark.parametrize(
    ("lost", "reason"), [(None, "its flow run was deleted"), (Crashed(message="gone"), "gone")]
)
def test_a_run_that_crashes_three_times_without_progress_has_failed(pool, lost, reason):
    pool.states = {"d16": [lost]}
    [(_, status, told)] = pool.train(SMALL)
    assert status == "failed"
    assert reason in told
    assert pool.started == [("d16", 0), ("d16", 1), ("d16", 2)]


def test_a_training_that_failed_is_not_started_again(pool):
    pool.states = {"d16": [Failed(message="a bug")]}
    [(_, status, reason)] = pool.train(SMALL)
    assert (status, "a bug" in reason) == ("failed", True)
    assert pool.started == [("d16", 0)]


def test_a_cancelled_training_is_not_started_again_and_others_go_on(pool):
    pool.states = {"d16": [Cancelling(), Cancelled()], "d48": [Running(), Running(), Completed()]}
    finished = pool.train(SMALL, LARGE)
    assert [(name, status) for name, status, _ in finished] == [
        ("d16", "failed"),
        ("d48", "finished"),
    ]
    # Prefect calls a training that did not stop in time crashed, though it was cancelled.
    pool.states = {"d16": [Cancelling(), Crashed()]}
    pool.started.clear()
    pool.train(SMALL)
    assert pool.started == [("d16", 0)]


def test_while_the_sweep_itself_is_cancelled_no_run_is_given_up(pool):
    pool.ending = True
    pool.states = {"d16": [Cancelling(), Cancelled()]}

    def stop():
        pool.ticks += 1
        if pool.ticks > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.pool.train_all([SMALL], on_finished=pool.finished.append, on_tick=stop)
    assert pool.finished == []
    assert RunDir(pool.home.runs / SMALL.id).result() is None


def test_a_running_training_without_a_sign_of_life_is_crashed_and_started_again(pool):
    pool.dead = {"d16"}
    pool.states = {"d16": [Scheduled(), Running(), Completed()]}
    assert pool.train(SMALL) == [("d16", "finished", "")]
    # Not while it is scheduled, when a lease can only be an old one.
    assert pool.crashed == ["d16"]
    assert pool.started == [("d16", 0), ("d16", 1)]


def test_an_exception_cancels_what_is_in_flight(pool, monkeypatch, caplog):
    pool.states = {"d16": [Running()], "d48": [Completed()]}

    def stop(planned, result):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.pool.train_all([SMALL, LARGE], on_finished=stop, on_tick=lambda: None)
    assert pool.cancelled == ["d16"]

    def refuse(read):
        raise httpx.ConnectError("no server")

    monkeypatch.setattr(module, "cancel_flow_runs", refuse)
    with pytest.raises(KeyboardInterrupt):
        pool.pool.train_all([SMALL, LARGE], on_finished=stop, on_tick=lambda: None)
    assert "did not stop the runs in flight: no server" in caplog.text


def test_all_of_many_runs_are_started(pool):
    runs = [planned_run(width=width) for width in range(16, 16 * 41, 16)]
    pool.states = {run.name: [Running(), Completed()] for run in runs}
    assert len(pool.train(*runs)) == 40
    assert len(pool.started) == 40


def test_a_store_gets_the_corpus_once_and_every_run_and_is_read_around_each_training(
    tmp_path, monkeypatch
):
    log = []
    store = SimpleNamespace(
        push_corpus=lambda home, digest: log.append(("corpus", digest)),
        push=lambda run: log.append(("push", run.id)),
        pull=lambda run: log.append(("pull", run.id)),
    )
    pool = Pool(Home(tmp_path), monkeypatch, store)
    pool.states = {"d16": [Completed()], "d48": [Completed()]}
    pool.train(SMALL, LARGE)
    assert log == [
        ("pull", SMALL.id),
        ("pull", LARGE.id),
        ("corpus", SMALL.run.data.digest),
        ("push", SMALL.id),
        ("push", LARGE.id),
        ("pull", LARGE.id),
        ("pull", SMALL.id),
    ]


@pytest.fixture
def created(tmp_path, monkeypatch):
    """Starts a run on a pool whose flow runs have the given states, by attempt."""
    calls = []

    def start(states, attempt=0):
        calls.clear()

        def create(deployment, **options):
            number = int(options["idempotency_key"].rpartition("-")[2])
            calls.append((deployment, options))
            return FlowRun(flow_id=uuid4(), state=states[number])

        monkeypatch.setattr(module, "run_deployment", create)
        run = RunDir(tmp_path / "runs" / SMALL.id)
        run.create(SMALL)
        WorkPool(Home(tmp_path), Placement(), "train/run")._start(SMALL, attempt)
        return [options["idempotency_key"] for _, options in calls]

    start.calls, start.run = calls, RunDir(tmp_path / "runs" / SMALL.id)
    return start


def test_a_flow_run_is_named_after_its_run_and_not_waited_for(created):
    assert created([Scheduled()]) == [f"{SMALL.id}-0"]
    [(deployment, options)] = created.calls
    assert deployment == "train/run"
    assert (options["flow_run_name"], options["tags"], options["timeout"]) == ("d16", ["test"], 0)
    assert options["parameters"] == {"planned": SMALL.model_dump(mode="json")}


def test_a_key_of_a_flow_run_that_ended_without_a_result_is_not_used_again(created):
    ended = [Crashed(), Failed(), Running()]
    assert created(ended) == [f"{SMALL.id}-{number}" for number in range(3)]
    assert created(ended, attempt=1) == [f"{SMALL.id}-1", f"{SMALL.id}-2"]
    # One that has left its result is joined, which ends at once.
    write_result(created.run)
    assert created([Completed()]) == [f"{SMALL.id}-0"]


def test_runs_in_flight_are_looked_at_while_others_wait_to_be_started(pool, caplog):
    caplog.set_level(logging.WARNING)
    runs = [planned_run(width=width) for width in range(16, 16 * 18, 16)]
    pool.states = {run.name: [Completed()] for run in runs}
    at_first_end = []

    def finish(planned, result):
        at_first_end.append(len(pool.started))

    pool.pool.train_all(runs, on_finished=finish, on_tick=lambda: None)
    assert at_first_end[0] == 16
    assert len(pool.started) == 17
