"""Which failed trainings are retried, and how."""

import errno
import os
from types import SimpleNamespace

import pytest
import torch

from flows.files import no_room, write_whole
from flows.runs.directory import RunDir, RunResult
from flows.settings import Home
from flows.training import execute, failures
from flows.training.failures import DiskPatience, may_pass, out_of_memory
from llama_core.config import Placement
from tests.fakes import planned_run

CPU = Placement(device="cpu")
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def run(tmp_path):
    planned = planned_run()
    directory = RunDir(tmp_path / "runs" / planned.id)
    directory.create(planned)
    directory.place(CPU)
    return directory


def result(run, status):
    found = RunResult(
        run_id=run.id, status=status, reason="why", train_s=1, device="cpu", finished_at=1.0
    )
    write_whole(run.result_path, found.model_dump_json())
    return found


def test_a_real_out_of_memory_error_is_distinguished_from_a_bug():
    # More than any machine addresses.
    with pytest.raises(RuntimeError) as failed:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(failed.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as bug:
        torch.zeros(2) @ torch.zeros(3)
    assert not out_of_memory(bug.value)


def test_only_faults_of_the_machine_are_retried():
    assert may_pass(FULL)
    assert may_pass(ConnectionError("reset"))
    assert not may_pass(KeyError("matmul"))
    assert not may_pass(RuntimeError("shapes do not match"))


def test_a_full_disk_is_distinguished_from_other_errors():
    assert no_room(FULL)
    assert no_room(OSError(errno.EDQUOT, "quota"))
    assert not no_room(PermissionError(errno.EACCES, "no"))


def test_out_of_memory_halves_the_rows_until_they_fit(run, tmp_path, monkeypatch):
    tried = []

    def train(run, home):
        rows = run.placement().micro_batch_rows
        tried.append(rows)
        fits = rows is not None and rows <= 2
        return result(run, "finished" if fits else "out_of_memory")

    monkeypatch.setattr(execute, "train_in_process", train)
    ended = execute.execute(run, Home(tmp_path))
    assert ended.status == "finished"
    # 1,024 tokens of 128 are 8 rows.
    assert tried == [None, 4, 2]
    assert run.placement().micro_batch_rows == 2
    assert len(list(run.path.glob("result-*.json"))) == 2


def test_out_of_memory_with_a_single_row_is_the_result(run, tmp_path, monkeypatch):
    run.place(CPU.model_copy(update={"micro_batch_rows": 1}))
    monkeypatch.setattr(execute, "train_in_process", lambda run, home: result(run, "out_of_memory"))
    ended = execute.execute(run, Home(tmp_path))
    assert ended.status == "out_of_memory"
    assert run.result().status == "out_of_memory"


def test_a_training_resumes_when_a_full_disk_has_room_again(run, tmp_path, monkeypatch):
    free, tries = iter([0, 2**10, 2**40]), []

    def train(run, home):
        tries.append(1)
        if len(tries) == 1:
            raise FULL
        return result(run, "finished")

    monkeypatch.setattr(execute, "train_in_process", train)
    monkeypatch.setattr(failures, "_LOOK_S", 0.01)
    monkeypatch.setattr(
        failures.shutil, "disk_usage", lambda path: SimpleNamespace(free=next(free))
    )
    assert execute.execute(run, Home(tmp_path)).status == "finished"
    assert next(free, None) is None


def test_a_disk_that_stays_full_ends_the_training(run, monkeypatch):
    monkeypatch.setattr(failures, "_LOOK_S", 0.01)
    monkeypatch.setattr(failures, "_PATIENCE_S", 0.03)
    monkeypatch.setattr(failures.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    assert not DiskPatience(run).wait(FULL)


def test_a_bug_is_not_retried(run, tmp_path, monkeypatch):
    tries = []

    def train(run, home):
        tries.append(1)
        raise KeyError("matmul")

    monkeypatch.setattr(execute, "train_in_process", train)
    with pytest.raises(KeyError):
        execute.execute(run, Home(tmp_path))
    assert len(tries) == 1


def test_room_is_waited_for_twice_the_largest_file_and_a_mebibyte(run, monkeypatch):
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints" / "large.safetensors").write_bytes(b"x" * 100_000)
    monkeypatch.setattr(failures, "_LOOK_S", 0.001)
    monkeypatch.setattr(failures, "_PATIENCE_S", 0.0025)
    needed = 2 * 100_000 + 2**20
    for free, waited in ((needed - 1, False), (needed, True)):
        monkeypatch.setattr(
            failures.shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free)
        )
        assert DiskPatience(run).wait(FULL) is waited


def test_a_file_that_vanishes_while_room_is_looked_for_is_no_failure(run, monkeypatch):
    # As the heartbeat's draft does, every few seconds.
    draft = run.path / "lease.json.draft"
    draft.touch()
    is_file = failures.Path.is_file

    def vanishing(path):
        there = is_file(path)
        draft.unlink(missing_ok=True)
        return there

    monkeypatch.setattr(failures.Path, "is_file", vanishing)
    monkeypatch.setattr(failures, "_LOOK_S", 0.001)
    monkeypatch.setattr(failures.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**40))
    assert DiskPatience(run).wait(FULL)


def test_patience_is_ten_minutes_over_all_waits_together(run, monkeypatch):
    slept, free = [], iter([0] * 400 + [2**40] + [0] * 1_000)
    monkeypatch.setattr(failures.time, "sleep", slept.append)
    monkeypatch.setattr(
        failures.shutil, "disk_usage", lambda path: SimpleNamespace(free=next(free))
    )
    patience = DiskPatience(run)
    assert [patience.wait(FULL), patience.wait(FULL)] == [True, False]
    assert sum(slept) == 600.0


def test_rows_are_halved_down_to_one(run):
    for rows, smaller in ((8, 4), (3, 1), (2, 1)):
        run.place(CPU.model_copy(update={"micro_batch_rows": rows}))
        assert failures.smaller_batches(run).micro_batch_rows == smaller
    run.place(CPU.model_copy(update={"micro_batch_rows": 1}))
    assert failures.smaller_batches(run) is None
