"""One contract for every tracker; the fake passes what MLflow passes."""

import pytest

from analysis.table.read import read_table
from flows.files import write_whole
from flows.mirror import tracker as tracker_module
from flows.mirror.entries import AGAINST_PARAMS, run_colours
from flows.mirror.metrics import (
    Point,
    metric_points,
)
from flows.mirror.publish import log_observations
from flows.runs.attempts import read_provenance, recording_attempt
from flows.runs.curve import CurveWriter
from flows.runs.directory import RunDir
from flows.runs.table import observations
from flows.settings import Home
from flows.tables.mlflow_experiment import read_experiment
from sweeps.spec import RunSpec
from tests.disk import DiskOrder
from tests.fakes import add_score, finished_run, planned_run, step
from tests.simulated_home import simulated_sweep


def test_every_integer_comes_back_exactly(tracker, sweep, tmp_path):
    planned = planned_run(sweep=sweep)
    run = finished_run(tmp_path, planned)
    tracker.publish(run, planned)
    params = tracker.params(sweep, run.id)
    assert int(params["n_params"]) == planned.n_params
    assert params["horizons"] == "20480,40960"
    points = tracker.curve(sweep, run.id, "loss/train_loss")
    assert [point.step for point in points] == list(range(1, 41))
    assert [point.value for point in points] == [5.0 / number for number in range(1, 41)]
    assert points[0].timestamp_ms == int((1.7e9 + 1 / 7) * 1000)


def test_publishing_twice_changes_nothing(tracker, sweep, tmp_path):
    planned = planned_run(sweep=sweep)
    run = finished_run(tmp_path, planned)
    tracker.publish(run, planned)
    before = {
        metric: tracker.curve(sweep, run.id, metric)
        for metric in ("loss/train_loss", "loss/val_loss", "optimizer/lr", "loss_cooldown/D_20480")
    }
    # A crash between sending and recording leaves no record.
    for note in run.path.glob("mirror-*.json"):
        note.unlink()
    tracker.publish(run, planned)
    assert {metric: tracker.curve(sweep, run.id, metric) for metric in before} == before
    assert tracker.run_ids(sweep) == [run.id]


def test_a_branch_and_the_horizons_have_their_own_points(tracker, sweep, tmp_path):
    planned = planned_run(sweep=sweep)
    run = finished_run(tmp_path, planned)
    tracker.publish(run, planned)
    branch = tracker.curve(sweep, run.id, "loss_cooldown/D_20480")
    assert [point.step for point in branch] == list(range(15, 21))
    assert [point.step for point in tracker.curve(sweep, run.id, "loss/val_loss")] == [20, 40]


def test_a_run_published_while_it_trains_is_complete_at_the_end(tracker, sweep, tmp_path):
    planned = planned_run(sweep=sweep)
    run = RunDir(tmp_path / "runs" / planned.id)
    run.create(planned)
    curve = CurveWriter(run.curve_path)
    for number in range(1, 8):
        curve.append(step(number))
    tracker.publish(run, planned)
    for number in range(8, 12):
        curve.append(step(number))
    curve.close()
    tracker.publish(run, planned)
    points = tracker.curve(sweep, run.id, "loss/train_loss")
    assert [point.step for point in points] == list(range(1, 12))


def test_the_same_run_is_mirrored_for_every_sweep_it_belongs_to(tracker, sweep, tmp_path):
    planned = planned_run(sweep=sweep)
    run = finished_run(tmp_path, planned)
    other = planned.model_copy(update={"sweep": f"{sweep}-2"})
    tracker.publish(run, planned)
    tracker.publish(run, other)
    assert tracker.run_ids(sweep) == tracker.run_ids(f"{sweep}-2") == [run.id]


def test_mlflow_keeps_the_full_curve_as_an_artifact(mlflow_tracker, tmp_path):
    planned = planned_run(sweep="artifacts")
    run = finished_run(tmp_path, planned)
    with recording_attempt(run, Home(tmp_path)):
        pass
    mlflow_tracker.publish(run, planned)
    client = mlflow_tracker._client
    [found] = client.search_runs([client.get_experiment_by_name("artifacts").experiment_id])
    names = {entry.path for entry in client.list_artifacts(found.info.run_id)}
    assert names == {
        "curve.jsonl",
        "spec.json",
        "result.json",
        "provenance.json",
        "attempts.jsonl",
    }
    assert found.info.status == "FINISHED"
    assert found.data.tags["sweep"] == "artifacts"
    tags = found.data.tags
    assert tags["isoflop.lock_sha256"] == read_provenance(run).lock_sha256
    assert tags["isoflop.data_sha256"] == planned.run.data.digest
    assert tags["isoflop.attempts"] == "1"
    assert RunSpec.model_validate_json(tags["isoflop.spec"]).id == run.id


def test_a_run_that_mlflow_shows_as_running_is_updated_despite_the_mirror_record(
    mlflow_tracker, sweep, tmp_path
):
    planned = planned_run(sweep=sweep)
    run = finished_run(tmp_path, planned)
    mlflow_tracker.publish(run, planned)
    [_] = mlflow_tracker._client.search_runs([mlflow_tracker._experiment(sweep)])
    before = mlflow_tracker.curve(sweep, run.id, "loss/train_loss")
    # As a database does that was put back from a copy.
    mlflow_tracker._client.update_run(mlflow_tracker._look_up(sweep, run.id)[0], status="RUNNING")
    assert [found[1] for found in mlflow_tracker.open_runs() if found[0] == sweep] == [run.id]
    mlflow_tracker.publish(run, planned)
    assert not [found for found in mlflow_tracker.open_runs() if found[0] == sweep]
    assert mlflow_tracker.curve(sweep, run.id, "loss/train_loss") == before


def test_a_run_that_was_never_trained_is_not_mirrored(mlflow_tracker, sweep, tmp_path):
    planned = planned_run(sweep=sweep)
    run = RunDir(tmp_path / "runs" / planned.id)
    run.create(planned)
    mlflow_tracker.publish(run, planned)
    assert mlflow_tracker.run_ids(sweep) == []


def test_a_study_is_the_parent_of_its_trials(mlflow_tracker, sweep, tmp_path):
    planned = [planned_run(sweep=sweep, width=width) for width in (16, 32)]
    for run in planned:
        mlflow_tracker.publish(finished_run(tmp_path, run), run)
    page = tmp_path / "report.html"
    page.write_text("<html></html>")
    ids = [run.id for run in planned]
    for _ in range(2):
        mlflow_tracker.log_study(sweep, page, {"lr_coef": 2.0}, ids)
    assert sorted(mlflow_tracker.run_ids(sweep)) == sorted([*ids, "study"])
    found = {
        run.data.tags["isoflop.run_id"]: run
        for run in mlflow_tracker._client.search_runs([mlflow_tracker._experiment(sweep)])
    }
    parent = found["study"].info.run_id
    assert {found[id].data.tags["mlflow.parentRunId"] for id in ids} == {parent}
    assert found["study"].data.metrics == {"report/lr_coef": 2.0}


def test_a_run_of_more_points_than_one_request_takes_arrives_whole(
    mlflow_tracker, tmp_path, sweep, monkeypatch
):
    planned = planned_run(sweep=sweep)
    run = finished_run(tmp_path, planned)
    points = list(metric_points(run, planned))
    # One point is left for the last request.
    monkeypatch.setattr("flows.mirror.tracker._BATCH", 13)
    assert len(points) == 13 * 13 + 1
    mlflow_tracker.publish(run, planned)
    for metric in {name for name, _ in points}:
        wanted = [point for name, point in points if name == metric]
        assert mlflow_tracker.curve(sweep, run.id, metric) == wanted


def test_no_row_is_mirrored_that_a_power_cut_could_still_take(
    mlflow_tracker, tmp_path, sweep, monkeypatch
):
    planned = planned_run(sweep=sweep)
    run = finished_run(tmp_path, planned)
    disk, send, sent = DiskOrder(monkeypatch), mlflow_tracker._client.log_batch, []

    def log_batch(mlflow_run, metrics=(), **others):
        if metrics:
            sent.append(disk.durable(run.curve_path))
        send(mlflow_run, metrics=metrics, **others)

    monkeypatch.setattr(mlflow_tracker._client, "log_batch", log_batch)
    mlflow_tracker.publish(run, planned)
    assert sent
    assert all(sent)


def test_what_was_sent_is_not_sent_again(mlflow_tracker, tmp_path, sweep, monkeypatch):
    planned = planned_run(sweep=sweep)
    run = RunDir(tmp_path / "runs" / planned.id)
    run.create(planned)
    send, sent = mlflow_tracker._client.log_batch, []

    def log_batch(mlflow_run, metrics=(), **others):
        sent.extend((metric.key, metric.step) for metric in metrics)
        send(mlflow_run, metrics=metrics, **others)

    monkeypatch.setattr(mlflow_tracker._client, "log_batch", log_batch)
    curve = CurveWriter(run.curve_path)
    for last in (3, 4, 4, 9):
        for number in range(1, last + 1):
            curve.append(step(number))
        mlflow_tracker.publish(run, planned)
    curve.close()
    assert len(sent) == len(set(sent)) == 4 * 9


def test_a_curve_in_the_mirror_ends_when_the_training_did(mlflow_tracker, tmp_path, sweep):
    planned = planned_run(sweep=sweep)
    run = finished_run(tmp_path, planned)
    mlflow_tracker.publish(run, planned)
    info = mlflow_tracker._client.get_run(mlflow_tracker._look_up(sweep, run.id)[0]).info
    first, last = next(run.curve.rows()), run.curve.last()
    assert (info.start_time, info.end_time) == (int(first["at"] * 1000), int(last["at"] * 1000))


def test_scores_are_sent_when_there_are_new_ones(mlflow_tracker, tmp_path, sweep, monkeypatch):
    planned = planned_run(sweep=sweep)
    run = finished_run(tmp_path, planned)
    mlflow_tracker.publish(run, planned)
    send, sent = mlflow_tracker._client.log_batch, []

    def log_batch(mlflow_run, metrics=(), **others):
        sent.extend(metric.key for metric in metrics)
        send(mlflow_run, metrics=metrics, **others)

    monkeypatch.setattr(mlflow_tracker._client, "log_batch", log_batch)
    add_score(run)
    for _ in range(2):
        mlflow_tracker.publish(run, planned)
    assert sent == ["tasks/arc_5shot", "tasks/arc_5shot_bpb"]
    assert mlflow_tracker.curve(sweep, run.id, "tasks/arc_5shot") == [Point(20, 50.0, 7500)]


def test_a_failed_run_is_failed_in_the_mirror_with_its_reason(mlflow_tracker, tmp_path, sweep):
    planned = planned_run(sweep=sweep)
    run = finished_run(tmp_path, planned)
    failure = run.result().model_copy(update={"status": "diverged", "reason": "loss is nan"})
    write_whole(run.result_path, failure.model_dump_json())
    mlflow_tracker.publish(run, planned)
    found = mlflow_tracker._client.get_run(mlflow_tracker._look_up(sweep, run.id)[0])
    assert found.info.status == "FAILED"
    assert found.data.tags["isoflop.status"] == "diverged"
    assert found.data.tags["isoflop.reason"] == "loss is nan"
    assert found.data.tags["mlflow.runName"] == "d32"


def test_a_value_that_is_not_finite_is_left_out_of_the_mirror(mlflow_tracker, tmp_path, sweep):
    planned = planned_run(sweep=sweep)
    run = RunDir(tmp_path / "runs" / planned.id)
    run.create(planned)
    curve = CurveWriter(run.curve_path)
    for number, loss in ((1, 3.0), (2, float("nan")), (3, 2.0)):
        curve.append(step(number, loss=loss))
    curve.close()
    mlflow_tracker.publish(run, planned)
    points = mlflow_tracker.curve(sweep, run.id, "loss/train_loss")
    assert [(point.step, point.value) for point in points] == [(1, 3.0), (3, 2.0)]
    # The rest of that step's row is there.
    lr = mlflow_tracker.curve(sweep, run.id, "optimizer/lr")
    assert [point.step for point in lr] == [1, 2, 3]


def test_a_report_is_one_run_however_often_it_is_written(mlflow_tracker, tmp_path, sweep):
    page = tmp_path / "report.html"
    page.write_text("<html></html>")
    for alpha in (0.3, 0.4):
        mlflow_tracker.log_report(sweep, page, {"alpha": alpha}, "a law")
    assert mlflow_tracker.run_ids(sweep) == ["report"]
    [found] = mlflow_tracker._client.search_runs([mlflow_tracker._experiment(sweep)])
    assert found.data.metrics == {"report/alpha": 0.4}
    assert found.info.status == "FINISHED"
    experiment = mlflow_tracker._experiment(sweep)
    assert mlflow_tracker.chart_path(sweep) == (
        f"/#/experiments/{experiment}/runs?workflowType=machine_learning&compareRunsMode=CHART"
    )


def test_a_run_that_was_killed_is_ended_and_goes_on_when_it_is_published(
    mlflow_tracker, tmp_path, sweep
):
    planned = planned_run(sweep=sweep)
    run = RunDir(tmp_path / "runs" / planned.id)
    run.create(planned)
    curve = CurveWriter(run.curve_path)
    curve.append(step(1))
    mlflow_tracker.publish(run, planned)
    [(_, _, mlflow_run)] = [found for found in mlflow_tracker.open_runs() if found[0] == sweep]
    mlflow_tracker.end(mlflow_run)
    assert not [found for found in mlflow_tracker.open_runs() if found[0] == sweep]
    assert mlflow_tracker._client.get_run(mlflow_run).info.status == "KILLED"
    curve.append(step(2))
    curve.close()
    mlflow_tracker.publish(run, planned)
    points = mlflow_tracker.curve(sweep, run.id, "loss/train_loss")
    assert [point.step for point in points] == [1, 2]


def test_the_verdict_on_a_law_is_the_description_of_its_report(mlflow_tracker, sweep, tmp_path):
    page = tmp_path / "report.html"
    page.write_text("<p>a report</p>")
    verdict = "NOT IDENTIFIED (exponent of N*): all rows lie on one budget."
    mlflow_tracker.log_report(sweep, page, {"E": 1.8}, verdict)
    # As Markdown, in which a star alone would begin slanted text.
    assert mlflow_tracker.description(sweep, "report") == verdict.replace("*", "\\*")


def test_points_that_another_thinning_left_out_are_sent_later(mlflow_tracker, tmp_path, sweep):
    planned = planned_run(sweep=sweep)
    run = finished_run(tmp_path, planned)
    whole = run.curve_path.read_text()
    lines = whole.splitlines(keepends=True)
    run.curve_path.write_text("".join([*lines[:19], *lines[20:]]))
    mlflow_tracker.publish(run, planned)
    assert len(mlflow_tracker.curve(sweep, run.id, "loss_cooldown/D_20480")) == 5
    run.curve_path.write_text(whole)
    mlflow_tracker.publish(run, planned)
    branch = mlflow_tracker.curve(sweep, run.id, "loss_cooldown/D_20480")
    assert [point.step for point in branch] == list(range(15, 21))
    assert len(mlflow_tracker.curve(sweep, run.id, "loss/train_loss")) == 40


def test_a_run_that_has_not_changed_is_not_read_again(mlflow_tracker, sweep, tmp_path, monkeypatch):
    planned = planned_run(sweep=sweep)
    run = finished_run(tmp_path, planned)
    mlflow_tracker.publish(run, planned)
    with monkeypatch.context() as patched:
        patched.setattr(tracker_module, "metric_points", lambda *_: pytest.fail("read again"))
        mlflow_tracker.publish(run, planned)
    with run.curve_path.open("a") as file:
        file.write(run.curve_path.read_text().splitlines()[0].replace(":1,", ":41,") + "\n")
    read = []
    monkeypatch.setattr(tracker_module, "metric_points", lambda *_: read.append(run.id) or [])
    mlflow_tracker.publish(run, planned)
    assert read == [run.id]


def test_mlflow_has_the_observations_once_and_gives_them_back_as_a_table(
    mlflow_tracker, sweep, tmp_path, monkeypatch
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    small = ("ladder.widths=[16, 24, 32]", "grid.budgets=[1e10, 4e10]", "grid.min_tokens=0")
    planned, home = simulated_sweep(tmp_path, "mine", *small), Home(tmp_path)
    tracker = mlflow_tracker
    for run in planned.runs:
        tracker.publish(RunDir(home.runs / run.id), run)
    assert "viewStateShareKey" not in tracker.chart_path("mine")
    log_observations(tracker, planned, home)
    with monkeypatch.context() as patched:
        patched.setattr(tracker, "_log_entry", lambda *_: pytest.fail("sent again"))
        log_observations(tracker, planned, home)
    assert "viewStateShareKey=scaling" in tracker.chart_path("mine")
    found = tracker._client.search_runs([tracker._experiment("mine")], max_results=100)
    ours = {run.data.tags["isoflop.run_id"]: run for run in found}
    rows = observations(planned.runs, home)
    assert len(found) == len(ours) == len(rows) + 2 + len(planned.runs)
    trained = ours[planned.runs[0].id].data.tags
    assert trained["mlflow.runColor"] == run_colours(planned.runs)[planned.runs[0].id]
    assert "Validation loss in nats/token" in trained["mlflow.note.content"]
    parent = ours[rows[0]["run_id"]].data.tags["mlflow.parentRunId"]
    assert parent in {ours[f"C = {budget}"].info.run_id for budget in ("1.00e+10", "4.00e+10")}
    # The steps of a curve are N.
    history = tracker._client.get_metric_history(parent, AGAINST_PARAMS)
    assert {run.n_params for run in planned.runs} >= {point.step for point in history}
    # A run that was trained again, to another loss, changes its entry and no other.
    result = RunDir(home.runs / planned.runs[0].id).result()
    ends = tuple(end.model_copy(update={"val_loss": 1.0}) for end in result.observations)
    again = result.model_copy(update={"observations": ends, "finished_at": 1.8e9})
    RunDir(home.runs / planned.runs[0].id).result_path.write_text(again.model_dump_json())
    log_observations(tracker, planned, home)
    found = tracker._client.search_runs([tracker._experiment("mine")], max_results=100)
    assert len(found) == len(ours)
    curves = {run.info.run_id for run in found if run.data.tags["isoflop.kind"] == "curve"}
    for run in found:
        if run.data.tags["isoflop.kind"] != "training":
            # An observation still folds under a curve that is there, and no old value is left.
            assert run.data.tags.get("mlflow.parentRunId", next(iter(curves))) in curves
            for metric in run.data.metrics:
                history = tracker._client.get_metric_history(run.info.run_id, metric)
                assert len(history) == len({point.step for point in history})
    table = read_table(read_experiment("mine", lambda: tracker._uri))
    losses = [row["val_loss"] for row in observations(planned.runs, home)]
    assert table.used["val_loss"].sort().to_list() == pytest.approx(sorted(losses), rel=1e-12)


def test_a_description_shows_the_verdict_as_it_is_and_leads_to_the_report(
    mlflow_tracker, sweep, tmp_path
):
    page = tmp_path / "report.html"
    page.write_text("<p>a report</p>")
    mlflow_tracker.log_report(sweep, page, {}, "N* grows as C^0.5,\nD* as C^0.5")
    experiment = mlflow_tracker._client.get_experiment(mlflow_tracker._experiment(sweep))
    note = experiment.tags["mlflow.note.content"]
    assert note.startswith("N\\* grows as C^0.5,\n\nD\\* as")
    assert f"#/experiments/{experiment.experiment_id}/runs/" in note
    assert "/artifacts/report.html" in note
