"""The run directory keeps every step once, whatever kills the process that writes it."""

import logging
import os
import threading
from dataclasses import asdict

import pytest

from flows.files import write_whole
from flows.runs import directory
from flows.runs.curve import CurveBehindError, CurveWriter
from flows.runs.directory import RunBusyError, RunDir, RunResult
from llama_core.config import Placement
from llama_core.records import DivergedRecord
from tests.disk import DiskOrder
from tests.fakes import commit_checkpoint, evaluation, finished_run, planned_run, step


@pytest.fixture
def run(tmp_path):
    planned = planned_run()
    run = RunDir(tmp_path / planned.id)
    run.create(planned)
    return run


def steps(run):
    return [(row["horizon"], row["step"]) for row in run.curve.rows() if row["kind"] == "step"]


def test_steps_repeated_after_a_resume_are_written_once(run):
    curve = CurveWriter(run.curve_path)
    for number in range(1, 11):
        curve.append(step(number))
    os.close(curve._file)  # killed: neither synced nor closed
    resumed = CurveWriter(run.curve_path)
    for number in range(6, 16):
        resumed.append(step(number))
    resumed.close()
    assert steps(run) == [(None, number) for number in range(1, 16)]


def test_a_branch_repeated_after_a_resume_is_written_once(run):
    curve = CurveWriter(run.curve_path)
    for record in [step(1), step(2), step(3, horizon=4096), step(4, horizon=4096), evaluation(4)]:
        curve.append(record)
    resumed = CurveWriter(run.curve_path)
    for record in [step(3, horizon=4096), step(4, horizon=4096), evaluation(4), step(3)]:
        resumed.append(record)
    resumed.close()
    assert steps(run) == [(None, 1), (None, 2), (4096, 3), (4096, 4), (None, 3)]
    assert sum(row["kind"] == "eval" for row in run.curve.rows()) == 1


def test_a_torn_last_line_is_cut_off_and_written_again(run):
    curve = CurveWriter(run.curve_path)
    for number in range(1, 4):
        curve.append(step(number))
    curve.close()
    whole = run.curve_path.read_bytes()
    run.curve_path.write_bytes(whole[:-20])
    assert run.curve.last()["step"] == 2
    resumed = CurveWriter(run.curve_path)
    for number in range(1, 5):
        resumed.append(step(number))
    resumed.close()
    assert [number for _, number in steps(run)] == [1, 2, 3, 4]


def test_a_hole_in_the_curve_is_refused(run):
    curve = CurveWriter(run.curve_path)
    curve.append(step(1))
    with pytest.raises(CurveBehindError, match="ends at step 1, and step 5 comes next"):
        curve.append(step(5))
    curve.close()


def test_a_held_run_is_busy_and_free_again_afterwards(run):
    with run.locked():
        assert run.busy()
        with pytest.raises(RunBusyError, match=run.id), RunDir(run.path).locked():
            pass
    assert not run.busy()


def test_a_damaged_result_is_no_result(run):
    run.result_path.write_text('{"run_id": "x", "sta')
    assert run.result() is None
    assert not run.finished()


def test_a_finished_run_has_its_observations(tmp_path):
    run = finished_run(tmp_path, planned_run())
    assert run.finished()
    assert [found.tokens for found in run.result().observations] == [20_480, 40_960]
    assert run.curve.steps().height == 14 + 6 + 14 + 12


def test_the_placement_is_remembered_and_defaults_without_a_file(run):
    assert run.placement() == Placement()
    run.place(Placement(threads=2))
    assert run.placement() == Placement(threads=2)


def test_rows_behind_a_damaged_one_are_cut_off_and_written_again(run, caplog):
    curve = CurveWriter(run.curve_path)
    for number in range(1, 5):
        curve.append(step(number))
    curve.close()
    lines = run.curve_path.read_bytes().splitlines(keepends=True)
    run.curve_path.write_bytes(b"".join([*lines[:2], b"\0" * 20 + b"\n", lines[3]]))
    resumed = CurveWriter(run.curve_path)
    assert resumed.steps == 2
    assert "is damaged" in caplog.text
    for number in range(1, 6):
        resumed.append(step(number))
    resumed.close()
    assert [number for _, number in steps(run)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "damage", [b"\0" * 20 + b"\n", b'{"kind":"st{"kind"\n', b"7\n", b'{"kind":"eval"}\n']
)
def test_rows_of_a_checkpoint_behind_a_damaged_one_are_kept(run, caplog, damage):
    curve = CurveWriter(run.curve_path)
    for number in range(1, 7):
        curve.append(step(number))
    curve.close()
    lines = run.curve_path.read_bytes().splitlines(keepends=True)
    run.curve_path.write_bytes(b"".join([*lines[:2], damage, *lines[3:]]))
    torn = run.curve_path.read_bytes()
    # A checkpoint after five steps: steps 3 to 5 are not trained again.
    resumed = CurveWriter(run.curve_path, kept=5)
    for number in range(6, 9):
        resumed.append(step(number))
    resumed.close()
    assert [number for _, number in steps(run)] == [1, 2, 4, 5, 6, 7, 8]
    assert "1 damaged lines are left out and 3 rows behind them kept" in caplog.text
    assert (run.path / "curve-set-aside-0.jsonl").read_bytes() == torn
    caplog.clear()
    CurveWriter(run.curve_path, kept=5).close()
    assert not caplog.records


def test_the_tail_of_a_long_curve_holds_whole_rows_up_to_the_newest(run):
    curve = CurveWriter(run.curve_path)
    for number in range(1, 101):
        curve.append(step(number))
    curve.close()
    rows = run.curve.tail()
    assert [row["step"] for row in rows] == list(range(101 - len(rows), 101))
    assert 5 < len(rows) < 50


def test_spec_and_placement_are_durable_once_they_are_there(run, monkeypatch):
    disk = DiskOrder(monkeypatch)
    run.spec_path.unlink()
    run.create(planned_run())
    run.place(Placement(threads=2))
    assert disk.durable_from_its_renaming_on(run.spec_path)
    assert disk.durable_from_its_renaming_on(run.placement_path)


@pytest.mark.parametrize("ending", ["sync", "close"])
def test_rows_are_durable_when_the_curve_is_synced_or_closed(run, monkeypatch, ending):
    disk, curve = DiskOrder(monkeypatch), CurveWriter(run.curve_path)
    curve.append(step(1))
    assert not disk.durable(run.curve_path)
    getattr(curve, ending)()
    assert disk.durable(run.curve_path)


def test_rows_of_another_process_are_made_durable_too(run, monkeypatch):
    disk = DiskOrder(monkeypatch)
    run.curve.sync()  # no curve yet
    CurveWriter(run.curve_path).append(step(1))
    run.curve.sync()
    assert disk.durable(run.curve_path)


def end(run, status):
    result = RunResult(run_id=run.id, status=status, train_s=1, device="cpu", finished_at=1.0)
    write_whole(run.result_path, result.model_dump_json())


@pytest.mark.parametrize(
    ("status", "settled", "finished"),
    [
        ("finished", True, True),
        ("diverged", True, False),
        ("failed", False, False),
        ("out_of_memory", False, False),
    ],
)
def test_only_a_failure_is_set_aside_each_under_its_own_number(run, status, settled, finished):
    assert not run.settled()
    for number in range(2):
        end(run, status)
        assert (run.settled(), run.finished()) == (settled, finished)
        run.retire_result()
        assert run.result_path.exists() is settled
        assert (run.path / f"result-{number}.json").exists() is not settled
    # Nothing is left to set aside.
    run.result_path.unlink(missing_ok=True)
    run.retire_result()
    assert len(list(run.path.glob("result-*.json"))) == (0 if settled else 2)


def test_a_failure_replaces_no_earlier_one_whatever_was_removed(run):
    for _ in range(2):
        end(run, "failed")
        run.retire_result()
    (run.path / "result-0.json").unlink()
    earlier = (run.path / "result-1.json").stat().st_ino
    for _ in range(2):
        end(run, "failed")
        run.retire_result()
    assert (run.path / "result-1.json").stat().st_ino == earlier
    assert len(list(run.path.glob("result-*.json"))) == 3


def test_a_failure_of_a_run_that_trains_again_stays(run):
    end(run, "failed")
    with run.locked():
        run.retire_result()
    assert run.result_path.exists()


def test_a_spec_that_is_there_is_not_written_again(run):
    first = run.spec_path.read_bytes()
    run.create(run.planned().model_copy(update={"name": "other"}))
    assert run.spec_path.read_bytes() == first


def test_looking_whether_a_run_is_busy_does_not_make_it_busy(run):
    assert not run.busy()
    assert not (run.path / "lock").exists()
    with run.locked():
        pass
    with (run.path / "lock").open() as handle:
        # Another process that looks at the same moment holds the lock as a reader does.
        assert directory.try_lock(handle, shared=True)
        assert not run.busy()


def test_a_held_run_is_waited_for_and_said_once(run, caplog, monkeypatch):
    monkeypatch.setattr(directory, "_WAIT_S", 0.02)
    caplog.set_level(logging.INFO)
    release, order = threading.Event(), []

    def hold():
        with run.locked():
            held.set()
            release.wait()
            order.append("released")

    held = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    threading.Timer(0.15, release.set).start()
    with run.waited_for():
        order.append("held here")
        assert run.busy()
    holder.join()
    assert order == ["released", "held here"]
    assert caplog.text.count("waiting for it") == 1
    assert not run.busy()


def test_the_newest_checkpoint_is_the_last_by_step(run):
    assert run.newest_checkpoint() == ""
    for steps in (9, 100, 20):
        commit_checkpoint(run, steps)
    assert run.newest_checkpoint() == "000000100-000"


def test_a_row_holds_every_value_of_its_record_and_its_kind(run):
    diverged = DivergedRecord(step=3, tokens=3072, horizon=None, reason="loss is nan", at=9.0)
    records = [("step", step(1)), ("step", step(2, horizon=2048)), ("eval", evaluation(2))]
    records.append(("diverged", diverged))
    curve = CurveWriter(run.curve_path)
    for _, record in records:
        curve.append(record)
    assert curve.steps == 2
    curve.close()
    rows = [{"kind": kind} | asdict(record) for kind, record in records]
    # The losses of a single source are the run's: its row has no others.
    assert rows[2].pop("sources") == ()
    assert list(run.curve.rows()) == rows
    assert run.curve.evals() == {2048: rows[2]}
    assert CurveWriter(run.curve_path).steps == 2


def test_a_trunk_begins_at_its_first_step_and_a_branch_anywhere(run):
    curve = CurveWriter(run.curve_path)
    with pytest.raises(CurveBehindError, match="ends at step 0, and step 2 comes next"):
        curve.append(step(2))
    curve.append(step(7, horizon=8192))
    with pytest.raises(CurveBehindError, match="ends at step 7, and step 9 comes next"):
        curve.append(step(9, horizon=8192))
    curve.append(step(8, horizon=8192))
    curve.append(step(1))
    assert curve.steps == 3


def test_a_short_curve_is_read_whole_from_its_end(run):
    assert (run.curve.tail(), run.curve.last()) == ([], None)
    curve = CurveWriter(run.curve_path)
    curve.append(step(1))
    curve.append(step(2))
    assert [row["step"] for row in run.curve.tail()] == [1, 2]
    assert run.curve.last()["step"] == 2
