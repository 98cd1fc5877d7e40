"""Which runs are retried, and which are not."""

from uuid import uuid4

import pytest
from prefect.states import Completed

from flows.dispatch import work_pool
from flows.dispatch.contract import Tries, admitted, give_up
from flows.dispatch.work_pool import WorkPool
from flows.files import write_whole
from flows.runs.directory import RunDir, RunResult
from flows.runs.state import missing
from flows.runs.table import observations
from flows.settings import Home
from llama_core.config import Placement
from tests.fakes import finished_run, planned_run


def ended(run: RunDir, status: str) -> None:
    result = RunResult(
        run_id=run.id, status=status, reason="why", train_s=1, device="cpu", finished_at=1.0
    )
    write_whole(run.result_path, result.model_dump_json())


def test_finished_and_diverged_runs_are_not_trained_again_but_failures_are(tmp_path):
    home = Home(tmp_path)
    runs = {
        status: planned_run(width=width)
        for status, width in (("diverged", 16), ("failed", 48), ("out_of_memory", 64))
    }
    done = planned_run(width=32)
    finished_run(tmp_path, done)
    for status, planned in runs.items():
        run = RunDir(home.runs / planned.id)
        run.create(planned)
        ended(run, status)
    everything = [done, *runs.values()]
    assert missing(everything, home) == [runs["failed"], runs["out_of_memory"]]


def test_a_retried_failure_is_set_aside_and_kept(tmp_path):
    planned = planned_run()
    run = RunDir(tmp_path / "runs" / planned.id)
    run.create(planned)
    ended(run, "failed")
    run.retire_result()
    assert run.result() is None
    assert (run.path / "result-0.json").exists()


def test_a_result_worth_keeping_is_not_set_aside(tmp_path):
    run = finished_run(tmp_path, planned_run())
    run.retire_result()
    assert run.finished()


def test_giving_up_records_why_and_never_overwrites_a_result(tmp_path):
    planned = planned_run()
    run = RunDir(tmp_path / "runs" / planned.id)
    run.create(planned)
    assert "KeyError: 'matmul'" in give_up(run, "KeyError: 'matmul'").reason
    assert run.result().status == "failed"
    other = finished_run(tmp_path, planned_run(width=16))
    assert give_up(other, "killed").status == "finished"


def test_a_run_that_progresses_each_time_is_always_restarted(tmp_path):
    planned = planned_run()
    run = RunDir(tmp_path / planned.id)
    run.create(planned)
    run.checkpoints.mkdir()
    tries = Tries(run)
    for steps in range(10, 100, 10):
        (run.checkpoints / f"{steps:09d}-000.json").touch()
        assert tries.another()
    # Killed at the same place: the first of these three came with the last checkpoint.
    assert [tries.another() for _ in range(2)] == [True, False]


def test_of_a_group_those_start_that_are_admitted():
    runs = [planned_run(steps=(10, steps)) for steps in (20, 30, 40)]
    waiting = [tuple(runs), (planned_run(width=48),)]
    (first,) = admitted(waiting, lambda run: run is not runs[1], 1)
    assert first == (runs[0], runs[2])
    assert waiting[0] == (runs[1],)
    assert len(waiting) == 2


def test_every_planned_cell_has_a_row_with_its_loss_or_its_reason(tmp_path):
    home = Home(tmp_path)
    done, waiting, failed = planned_run(width=32), planned_run(width=16), planned_run(width=48)
    finished_run(tmp_path, done)
    run = RunDir(home.runs / failed.id)
    run.create(failed)
    ended(run, "out_of_memory")
    rows = observations([done, waiting, failed], home)
    assert len(rows) == 6
    assert [row["excluded_reason"] for row in rows[::2]] == [
        None,
        "not trained yet",
        "out_of_memory: why",
    ]
    assert rows[0]["val_loss"] == 3.0
    assert rows[0]["run_id"] == f"{done.id}@20480"
    assert rows[0]["train_flops"] == done.cells[0].train_flops


@pytest.fixture
def pool(tmp_path, monkeypatch):
    """A work pool whose flow runs finish as soon as their state is read."""
    flow_runs = {}

    class Pool(WorkPool):
        def _start(self, planned, attempt):
            flow_run = uuid4()
            flow_runs[flow_run] = planned
            return flow_run

    def read_states(ids):
        for flow_run in ids:
            ended(RunDir(tmp_path / "runs" / flow_runs[flow_run].id), "finished")
        return {flow_run: Completed() for flow_run in ids}

    monkeypatch.setattr(work_pool, "read_states", read_states)
    monkeypatch.setattr(work_pool, "_POLL_SERVER_S", 0.0)
    return Pool(Home(tmp_path), Placement(), "train/run")


def test_a_work_pool_asks_before_it_starts_a_run_and_again_when_one_has_ended(pool):
    runs = [planned_run(width=width) for width in (16, 32, 48)]
    asked, finished = [], []

    def admit(planned):
        asked.append(planned.name)
        # The largest may start once another has ended, the middle one never.
        return planned.name == "d16" or (planned.name == "d48" and bool(finished))

    pool.train_all(
        runs,
        on_finished=lambda planned, result: finished.append(planned.name),
        on_tick=lambda: None,
        admit=admit,
    )
    assert finished == ["d16", "d48"]
    assert asked == ["d48", "d32", "d16", "d48", "d32", "d32"]


def test_a_work_pool_trains_the_runs_that_follow_from_others(pool):
    first, second, third = (planned_run(width=width) for width in (16, 32, 48))
    following, finished = [[second, third], [], []], []
    pool.train_all(
        [first],
        on_finished=lambda planned, result: finished.append(planned.name),
        on_tick=lambda: None,
        more=lambda: following.pop(0),
    )
    assert finished == ["d16", "d48", "d32"]


def test_a_work_pool_that_may_start_nothing_returns(pool):
    finished = []
    pool.train_all(
        [planned_run()],
        on_finished=lambda planned, result: finished.append(planned),
        on_tick=lambda: None,
        admit=lambda planned: False,
    )
    assert finished == []
