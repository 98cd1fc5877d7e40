"""Every attempt at a run is kept: who, where, how far, how long, and how it ended."""

import json
import os
from dataclasses import replace

import pytest

from flows.runs import attempts as module
from flows.runs.attempts import (
    Spent,
    read_attempts,
    read_provenance,
    recording_attempt,
    spent,
    steps_kept,
    steps_seen,
)
from flows.runs.curve import CurveWriter
from flows.runs.directory import RunDir
from flows.runs.provenance import lock_sha256, packages
from flows.settings import Home
from llama_core.config import Placement
from tests.disk import DiskOrder
from tests.fakes import commit_checkpoint, finished_run, planned_run, step

CPU = Placement(device="cpu")


@pytest.fixture
def run(tmp_path):
    planned = planned_run()
    directory = RunDir(tmp_path / "runs" / planned.id)
    directory.create(planned)
    directory.place(CPU)
    return directory


def train(run, first, last, at=1.7e9):
    curve = CurveWriter(run.curve_path)
    for number in range(first, last + 1):
        curve.append(replace(step(number), at=at))
    curve.close()


def test_an_attempt_is_recorded_from_start_to_end(run, tmp_path):
    with recording_attempt(run, Home(tmp_path)):
        [going] = read_attempts(run)
        train(run, 1, 10)
    [ended] = read_attempts(run)
    # Nobody holds this run's lock here, so an attempt without an end looks killed.
    assert (going.how, going.steps_to) == ("killed", 0)
    assert (ended.number, ended.steps_from, ended.steps_to) == (1, 0, 10)
    assert ended.how == "stopped"
    assert ended.environment.device == "cpu"
    assert ended.environment.lock_sha256 == lock_sha256(packages())
    assert ended.ended_at >= ended.started_at


def test_an_attempt_on_a_worker_names_its_flow_run(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "abc")
    with recording_attempt(run, Home(tmp_path)):
        [attempt] = read_attempts(run)
    assert attempt.flow_run == "abc"


def test_a_resumed_attempt_keeps_the_one_before_and_pays_for_what_it_repeats(run, tmp_path):
    home = Home(tmp_path)

    def interrupted():
        with recording_attempt(run, home):
            train(run, 1, 9)
            commit_checkpoint(run, 6)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with recording_attempt(run, home):
        train(run, 10, 12)
    first, second = read_attempts(run)
    assert first.how.startswith("stopped: KeyboardInterrupt")
    assert (first.steps_from, first.steps_to) == (0, 9)
    assert (second.steps_from, second.steps_to) == (6, 12)
    # 9 steps, and 6 more of which three were trained a second time.
    assert spent(run).steps == 15
    assert steps_kept(run) == 6
    assert steps_seen(run) == 12


def test_a_killed_attempt_ends_where_the_next_one_found_the_curve(run, tmp_path):
    with recording_attempt(run, Home(tmp_path)):
        train(run, 1, 7)
    lines = run.attempts_path.read_text().splitlines()
    # A kill leaves no end, and perhaps a torn line.
    run.attempts_path.write_text(lines[0] + "\n" + lines[1][:20])
    with recording_attempt(run, Home(tmp_path)):
        train(run, 8, 9)
    first, second = read_attempts(run)
    assert (first.how, first.steps_to) == ("killed", 7)
    assert first.ended_at <= second.started_at
    assert second.steps_to == 9


def test_other_packages_are_written_where_they_differ(run, tmp_path, monkeypatch):
    home = Home(tmp_path)
    with recording_attempt(run, home):
        pass
    other = {**packages(), "torch": "9.9"}
    monkeypatch.setattr(module, "packages", lambda: other)
    changed = module.environment("cpu").model_copy(update={"lock_sha256": lock_sha256(other)})
    monkeypatch.setattr(module, "environment", lambda device: changed)
    with recording_attempt(run, home):
        pass
    first, second = read_attempts(run)
    assert first.packages is None
    assert second.packages["torch"] == "9.9"
    assert read_provenance(run).packages["torch"] != "9.9"


def test_the_provenance_names_all_that_made_the_run(run, tmp_path):
    with recording_attempt(run, Home(tmp_path)):
        pass
    found, spec = read_provenance(run), run.planned().run
    assert found.data_sha256 == spec.data.digest
    assert found.seed == spec.train.seed
    assert found.spec == spec.model_dump(mode="json")
    assert found.lock_sha256 == lock_sha256(found.packages)
    assert "torch" in found.packages


def test_a_run_older_than_the_record_of_attempts_can_be_read(tmp_path):
    planned = planned_run()
    run = finished_run(tmp_path, planned)
    old = {"git_commit": "c0ffee", "packages": {"torch": "2.11"}, "recorded_at": 1.0}
    run.provenance_path.write_text(json.dumps(old))
    assert read_attempts(run) == []
    assert read_provenance(run).git_commit == "c0ffee"
    assert spent(run).seconds == 1.0
    assert spent(run).steps == 46


def test_an_attempt_that_cannot_be_recorded_does_not_stop_the_training(run, tmp_path):
    run.attempts_path.mkdir()
    with recording_attempt(run, Home(tmp_path)):
        train(run, 1, 2)
    assert steps_seen(run) == 2


def test_a_start_is_on_the_disk_before_the_training_begins(run, tmp_path, monkeypatch):
    disk = DiskOrder(monkeypatch)
    with recording_attempt(run, Home(tmp_path)):
        assert disk.durable(run.attempts_path)
        assert disk.durable_from_its_renaming_on(run.provenance_path)
    assert disk.durable(run.attempts_path)


def noted(run, *rows):
    """Attempts as recorded: a start as (at, steps, steps before), an end as (at, steps)."""
    here = module.environment("cpu").model_dump()
    lines, number = [], 0
    for row in rows:
        if len(row) == 3:
            number += 1
            start = {"at": row[0], "steps": row[1], "steps_before": row[2]}
            start |= {"kind": "start", "environment": here, "packages": None}
            lines.append(start | {"number": number})
        else:
            end = {"kind": "end", "at": row[0], "how": "stopped", "steps": row[1]}
            lines.append(end | {"number": number})
    run.attempts_path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_seconds_and_steps_of_all_attempts_are_added_up(run):
    noted(run, (100.0, 0, 0), (130.0, 9), (200.0, 6, 9), (260.0, 12))
    assert spent(run) == Spent(steps=9 + 6, seconds=30.0 + 60.0)
    assert spent(run) - Spent(steps=9, seconds=30.0) == Spent(steps=6, seconds=60.0)


def test_an_attempt_under_way_costs_until_now(run, monkeypatch):
    train(run, 1, 4)
    noted(run, (100.0, 0, 0))
    monkeypatch.setattr(module, "now", lambda: 142.0)
    with run.locked():
        assert spent(run) == Spent(steps=4, seconds=42.0)


def test_a_clock_set_back_during_an_attempt_does_not_pay_for_it_in_negative_seconds(
    run, tmp_path, monkeypatch
):
    clock = iter([9_000.0, *[100.0] * 9])
    monkeypatch.setattr(module, "now", lambda: next(clock))
    run.provenance_path.write_text("{}")
    with recording_attempt(run, Home(tmp_path)):
        assert spent(run).seconds >= 0.0
    [attempt] = read_attempts(run)
    assert attempt.ended_at < attempt.started_at
    assert 0.0 < attempt.seconds < 60.0
    assert spent(run).seconds == attempt.seconds


def test_an_attempt_of_an_older_version_whose_clock_was_set_back_costs_no_negative_seconds(run):
    noted(run, (900.0, 0, 0), (130.0, 9), (200.0, 9, 9), (260.0, 12))
    assert spent(run).seconds == 60.0


@pytest.mark.parametrize(("written", "ended"), [(130.0, 130.0), (50.0, 100.0), (950.0, 100.0)])
def test_a_killed_attempt_ends_at_its_last_row_before_the_next_attempt(run, written, ended):
    train(run, 1, 4, at=written)
    noted(run, (100.0, 0, 0), (900.0, 0, 4), (960.0, 4))
    killed, _ = read_attempts(run)
    assert (killed.how, killed.ended_at, killed.steps_to) == ("killed", ended, 4)


def test_idle_hours_between_a_kill_and_the_next_attempt_cost_nothing(run):
    train(run, 1, 4, at=130.0)
    train(run, 5, 9, at=36_050.0)
    noted(run, (100.0, 0, 0), (36_000.0, 4, 4), (36_060.0, 9))
    assert spent(run) == Spent(steps=9, seconds=30.0 + 60.0)


def test_a_checkpoint_is_a_sign_of_life_of_a_killed_attempt(run, monkeypatch):
    train(run, 1, 4, at=130.0)
    noted(run, (100.0, 0, 0))
    monkeypatch.setattr(module, "now", lambda: 1_000.0)
    commit_checkpoint(run, 4)
    os.utime(run.checkpoints / "000000004-000.json", (140.0, 140.0))
    [killed] = read_attempts(run)
    assert killed.ended_at == 140.0


def test_an_attempt_that_lost_its_curve_trained_no_steps_rather_than_fewer_than_none(run):
    noted(run, (100.0, 6, 9), (130.0, 0))
    [attempt] = read_attempts(run)
    assert (attempt.steps_from, attempt.steps_to) == (6, 6)
    assert spent(run).steps == 0


def test_only_a_committed_checkpoint_keeps_steps(run):
    commit_checkpoint(run, 6)
    (run.checkpoints / "000000009-000.json.pending").write_text("{}")
    (run.checkpoints / "000000009-000.safetensors").write_bytes(b"")
    assert steps_kept(run) == 6
    commit_checkpoint(run, 12)
    assert steps_kept(run) == 12


def test_each_killed_attempt_reached_what_its_successor_found(run):
    noted(run, (100.0, 0, 0), (200.0, 2, 5), (300.0, 5, 9), (400.0, 12))
    assert [attempt.steps_to for attempt in read_attempts(run)] == [5, 9, 12]


def test_a_damaged_line_of_an_attempt_costs_that_line_alone(run, tmp_path, caplog):
    for last in (3, 6, 9):
        with recording_attempt(run, Home(tmp_path)):
            train(run, last - 2, last)
    lines = run.attempts_path.read_text().splitlines()
    # The start of the second is torn, and the end of the third is another file's line.
    lines[2], lines[5] = lines[2][:40], '{"run":"other"}'
    run.attempts_path.write_text("\n".join(lines) + "\n")
    assert [attempt.number for attempt in read_attempts(run)] == [1, 3]
    assert "is damaged" in caplog.text
    with recording_attempt(run, Home(tmp_path)):
        pass
    assert [attempt.number for attempt in read_attempts(run)] == [1, 3, 4]


def test_an_attempt_killed_while_it_repeats_steps_is_paid_until_its_last_heartbeat(run, tmp_path):
    with recording_attempt(run, Home(tmp_path)):
        train(run, 1, 10)
        commit_checkpoint(run, 6)
    os.utime(run.checkpoints / f"{run.newest_checkpoint()}.json", (1.7e9, 1.7e9))
    # The second repeats steps 7 to 9, whose rows are there, and leaves a heartbeat.
    with recording_attempt(run, Home(tmp_path)):
        pass
    *before, start, _ = run.attempts_path.read_text().splitlines()
    began = json.loads(start)["at"] - 100
    killed = json.dumps({**json.loads(start), "at": began})
    run.attempts_path.write_text("\n".join([*before, killed]) + "\n")
    run.lease_path.write_text("{}")
    os.utime(run.lease_path, (began + 60, began + 60))
    assert read_attempts(run)[1].ended_at == pytest.approx(began + 60)
    # The third writes heartbeats of its own.
    with recording_attempt(run, Home(tmp_path)):
        run.lease_path.unlink()
    second = read_attempts(run)[1]
    assert (second.how, second.ended_at) == ("killed", pytest.approx(began + 60))
