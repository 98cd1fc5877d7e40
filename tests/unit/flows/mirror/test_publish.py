"""Publishing beside a training: a mirror that fails costs no run and no point."""

import time

import pytest

from flows.mirror import client as client_module
from flows.mirror import publish as mirror_module
from flows.mirror import sync as sync_module
from flows.runs.directory import RunDir
from flows.settings import Home, Settings, open_home
from tests.fakes import FakeTracker, finished_run, planned_run


def test_a_mirror_that_failed_is_left_alone_for_a_while_and_then_catches_up(tmp_path, monkeypatch):
    tried, clock, planned = [], [100.0], planned_run()
    run = finished_run(tmp_path, planned)
    alive = FakeTracker()

    def open_it(settings, home):
        tried.append(clock[0])
        if len(tried) == 1:
            raise ConnectionError("refused")
        return alive

    monkeypatch.setattr(mirror_module, "open_tracker", open_it)
    monkeypatch.setattr(mirror_module.time, "monotonic", lambda: clock[0])
    mirror = mirror_module.Mirror(Settings(home=tmp_path), Home(tmp_path))
    for later in (0, 10, 10, 11):
        clock[0] += later
        mirror.publish(run, planned)
    assert tried == [100.0, 131.0]
    assert alive.run_ids("test") == [planned.id]


def test_runs_missed_by_a_failing_mirror_are_published_at_the_end(tmp_path, monkeypatch):
    planned = [planned_run(width=width) for width in (16, 32, 64)]
    runs = [finished_run(tmp_path, one) for one in planned]
    alive, trouble = FakeTracker(), [OSError("No space left on device")]

    def publish(run, one, mirrored):
        if trouble:
            raise trouble.pop()
        FakeTracker.publish(alive, run, one)

    monkeypatch.setattr(alive, "publish", publish)
    monkeypatch.setattr(mirror_module, "open_tracker", lambda settings, home: alive)
    mirror = mirror_module.Mirror(Settings(home=tmp_path), Home(tmp_path))
    with mirror_module.publishing(mirror) as send:
        for run, one in zip(runs, planned, strict=True):
            send(run, one)
    # The first failed, and the others were skipped while the mirror rested.
    assert alive.run_ids("test") == []
    mirror.catch_up()
    assert alive.run_ids("test") == sorted(one.id for one in planned)


def test_sync_brings_trials_and_their_study_which_have_no_plan(tmp_path, monkeypatch):
    home = open_home(Settings(home=tmp_path))
    planned = planned_run(sweep="lr-batch")
    finished_run(tmp_path, planned)
    (home.runs / "damaged").mkdir()
    (home.runs / "damaged" / "spec.json").write_text("{")
    folder = home.tunes / "lr-batch"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<html></html>")
    (folder / "trials.csv").write_text(f"trial,run\n0,{planned.id}\n0,{planned.id}\n")
    tracker = FakeTracker()
    monkeypatch.setattr(sync_module, "open_tracker", lambda settings, home: tracker)
    assert sync_module.sync_all(Settings(home=tmp_path), home) == 1
    assert tracker.run_ids("lr-batch") == [planned.id, "study"]
    assert tracker.parents == {planned.id: "study"}


@pytest.mark.parametrize("name", ["law.json", "trials.csv"])
@pytest.mark.parametrize("content", ["", "{", "[1]", "a,b\n1,2\n"])
def test_a_damaged_study_is_skipped_and_the_others_are_synced(
    tmp_path, monkeypatch, caplog, name, content
):
    home = open_home(Settings(home=tmp_path))
    for study in ("damaged", "whole"):
        planned = planned_run(sweep=study, width={"damaged": 16, "whole": 32}[study])
        finished_run(tmp_path, planned)
        folder = home.tunes / study
        folder.mkdir(parents=True)
        (folder / "report.html").write_text("<html></html>")
        (folder / "trials.csv").write_text(f"trial,run\n0,{planned.id}\n")
    (home.tunes / "damaged" / name).write_text(content)
    tracker = FakeTracker()
    monkeypatch.setattr(sync_module, "open_tracker", lambda settings, home: tracker)
    assert sync_module.sync_all(Settings(home=tmp_path), home) == 2
    assert "study" in tracker.run_ids("whole")
    assert "study" not in tracker.run_ids("damaged")
    assert "study damaged is skipped: " in caplog.text


def test_what_went_through_is_not_published_again(tmp_path, monkeypatch):
    planned, sent = planned_run(), []
    run, alive = finished_run(tmp_path, planned), FakeTracker()
    monkeypatch.setattr(alive, "publish", lambda run, one, mirrored: sent.append(one.id))
    monkeypatch.setattr(mirror_module, "open_tracker", lambda settings, home: alive)
    mirror = mirror_module.Mirror(Settings(home=tmp_path), Home(tmp_path))
    mirror.publish(run, planned)
    mirror.catch_up()
    mirror.catch_up()
    assert sent == [planned.id]


def test_all_is_published_when_publishing_ends_and_what_went_wrong_is_raised(tmp_path):
    planned = [planned_run(width=width) for width in (16, 32, 64)]

    class Slow(FakeTracker):
        def publish(self, run, one):
            time.sleep(0.02)
            super().publish(run, one)

    tracker = Slow()
    with mirror_module.publishing(tracker) as send:
        for one in planned:
            send(finished_run(tmp_path, one), one)
    assert tracker.run_ids("test") == sorted(one.id for one in planned)

    class Broken(FakeTracker):
        def publish(self, run, one):
            raise KeyError("a bug")

    with pytest.raises(KeyError), mirror_module.publishing(Broken()) as send:
        send(RunDir(tmp_path / "runs" / planned[0].id), planned[0])


def test_all_runs_of_a_sweep_are_asked_for_at_once(mlflow_tracker, sweep, tmp_path, monkeypatch):
    planned = [planned_run(sweep=sweep, width=width) for width in (16, 32, 48)]
    runs = [(finished_run(tmp_path, each), each) for each in planned]
    for run, each in runs[:2]:
        mlflow_tracker.publish(run, each)
    monkeypatch.setattr(mirror_module, "open_tracker", lambda settings, home: mlflow_tracker)
    monkeypatch.setattr(client_module, "_PAGE", 1)
    asked, look_up = [], mlflow_tracker._look_up
    monkeypatch.setattr(
        mlflow_tracker, "_look_up", lambda *key: asked.append(key[1]) or look_up(*key)
    )
    mirror_module.Mirror(Settings(home=tmp_path), Home(tmp_path)).publish_all(sweep, runs)
    assert asked == [planned[2].id]
    assert mlflow_tracker.run_ids(sweep) == sorted(each.id for each in planned)
