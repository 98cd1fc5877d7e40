"""One contract for every tracker; the fake passes what MLflow passes."""

import itertools
import time

import pytest

from analysis.table.read import read_table
from flows.files import write_whole
from flows.mirror import publish as mirror_module
from flows.mirror import sync as sync_module
from flows.mirror import tracker as tracker_module
from flows.mirror.entries import AGAINST_PARAMS, log_observations, run_colours
from flows.mirror.metrics import (
    Point,
    _kept_steps,
    benchmark_points,
    branch_metric,
    metric_points,
    provenance_tags,
    run_params,
)
from flows.runs.attempts import read_provenance, recording_attempt
from flows.runs.curve import CurveWriter
from flows.runs.directory import RunDir
from flows.runs.evaluations import FOLDER, Evaluation
from flows.runs.provenance import Provenance
from flows.runs.table import observations
from flows.settings import Home, Settings, open_home
from flows.tables.mlflow_experiment import read_experiment
from llama_core.counting import count_params
from llama_core.mixture import Mixture
from sweeps.spec import RunSpec
from tests.disk import DiskOrder
from tests.fakes import FakeTracker, ReadableTracker, evaluation, finished_run, planned_run, step
from tests.simulated_home import simulated_sweep


@pytest.fixture(scope="session")
def mlflow_tracker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    tracker = ReadableTracker(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")
    tracker.initialise()
    return tracker


@pytest.fixture(params=["fake", "mlflow"])
def tracker(request):
    return FakeTracker() if request.param == "fake" else request.getfixturevalue("mlflow_tracker")


@pytest.fixture
def sweep(request):
    # The MLflow database is shared by the tests, so each has a sweep of its own.
    return f"sweep-{request.node.name}"


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

    def publish(run, one):
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


def long_run(folder, planned):
    """The trunk of a run, and its last cooldown, as far as it goes."""
    run = RunDir(folder / "runs" / planned.id)
    run.create(planned)
    curve, last = CurveWriter(run.curve_path), planned.run.train.total_steps
    for number in range(1, last + 1):
        curve.append(step(number))
    curve.append(evaluation(last))
    curve.close()
    return run


@pytest.mark.parametrize("total", [499, 500, 501, 777, 4_000])
def test_a_long_run_is_thinned_and_keeps_its_first_and_last_step(tmp_path, total):
    planned = planned_run(steps=(total,))
    points = list(metric_points(long_run(tmp_path, planned), planned))
    steps = [point.step for name, point in points if name == "loss/train_loss"]
    assert len(steps) == len(set(steps))
    # Of 500 points those that are dense at the start may coincide with the even ones.
    assert len(steps) == total if total <= 500 else 400 < len(steps) <= 500
    assert steps[:10] == list(range(1, 11))
    assert steps[-1] == total
    # Some 130 of the 500 go to the start, and what is left is even.
    gaps = [after - before for before, after in itertools.pairwise(steps)]
    assert max(gaps) <= total / 370 + 1
    assert [point.step for name, point in points if name == "loss/val_loss"] == [total]


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


def test_what_went_through_is_not_published_again(tmp_path, monkeypatch):
    planned, sent = planned_run(), []
    run, alive = finished_run(tmp_path, planned), FakeTracker()
    monkeypatch.setattr(alive, "publish", lambda run, one: sent.append(one.id))
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


@pytest.mark.parametrize(("budget", "name"), [(1.6e11, "C_1.60e11"), (None, "D_20480")])
def test_a_branchs_metric_is_named_after_its_isoflop_or_its_tokens(budget, name):
    cell = planned_run().cells[0].model_copy(update={"flops_budget": budget})
    assert branch_metric(cell) == f"loss_cooldown/{name}"


SCORE = Evaluation(
    benchmark="arc", family="lm", task="t", metric="acc", tokens=20_480, weights_sha256="0",
    shots=5, limit=None, questions=9, questions_sha256="0", score=50.0, score_stderr=1.0,
    chance=25.0, answer_bpb=1.5, answer_bpb_stderr=None, requests=9, cut=0, unknown=0,
    answer_tokens=None, harness="1", device="cpu", dtype="float32", elapsed_s=1.0, at=7.5,
)  # fmt: skip


def add_score(run, **changes):
    score = SCORE.model_copy(update=changes)
    (run.path / FOLDER).mkdir(exist_ok=True)
    path = run.path / FOLDER / f"{len(list((run.path / FOLDER).iterdir()))}.json"
    path.write_text(score.model_dump_json())


def test_only_whole_benchmarks_of_known_horizons_are_points(tmp_path):
    run = finished_run(tmp_path, planned_run())
    add_score(run)
    add_score(run, tokens=40_960, answer_bpb=None, score=60.0, shots=0)
    add_score(run, limit=10)
    add_score(run, tokens=7)
    assert benchmark_points(run) == [
        ("tasks/arc_5shot", Point(20, 50.0, 7500)),
        ("tasks/arc_5shot_bpb", Point(20, 1.5, 7500)),
        ("tasks/arc_0shot", Point(40, 60.0, 7500)),
    ]


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


def test_parameters_are_those_of_the_run():
    planned = planned_run()
    counts = count_params(planned.run.model)
    assert run_params(planned) == {
        "n_params": str(counts.n_params),
        "n_params_total": str(counts.total),
        "n_params_non_embedding": str(counts.non_embedding),
        "d_model": "32",
        "n_layers": "2",
        "horizons": "20480,40960",
        "lr": "0.008",
        "lr_source": "test",
        "batch_tokens": "1024",
        "warmup_tokens": "4096",
        "schedule": "wsd",
        "seed": "0",
        "data_digest": "no such corpus",
    }
    mixed = Mixture(shares={"prose": 0.75, "code": 0.25})
    data = planned.run.data.model_copy(update={"mixture": mixed})
    run = planned.run.model_copy(update={"data": data})
    params = run_params(planned.model_copy(update={"run": run, "mixture": "m07"}))
    assert params.items() >= {"mixture": "m07", "share_prose": "0.75", "share_code": "0.25"}.items()


def test_tags_have_what_is_known_and_no_empty_ones(tmp_path):
    run = finished_run(tmp_path, planned_run())
    assert provenance_tags(run) == {}
    made = Provenance(git_commit="c0ffee", processor="a CPU", seed=0, spec={"b": 1, "a": 2})
    run.provenance_path.write_text(made.model_dump_json())
    assert provenance_tags(run) == {
        "mlflow.source.git.commit": "c0ffee",
        "isoflop.device": "a CPU",
        "isoflop.seed": "0",
        "isoflop.spec": '{"a": 2, "b": 1}',
    }
    gpu = made.model_copy(update={"device_name": "a GPU"})
    run.provenance_path.write_text(gpu.model_dump_json())
    assert provenance_tags(run)["isoflop.device"] == "a GPU"


def test_a_thinned_run_is_dense_at_its_start():
    # Powers of 1.06 in whole steps: all up to 16, then at most 6 % apart until the even ones.
    kept = sorted(_kept_steps(planned_run(steps=(100_000,))))
    assert kept[:16] == list(range(1, 17))
    assert all(after / before < 1.12 for before, after in itertools.pairwise(kept[9:]))
    assert _kept_steps(planned_run(steps=(500,))) == frozenset(range(1, 501))


def test_the_verdict_on_a_law_is_the_description_of_its_report(mlflow_tracker, sweep, tmp_path):
    page = tmp_path / "report.html"
    page.write_text("<p>a report</p>")
    verdict = "NOT IDENTIFIED (exponent of N*): all rows lie on one budget."
    mlflow_tracker.log_report(sweep, page, {"E": 1.8}, verdict)
    # As Markdown, in which a star alone would begin slanted text.
    assert mlflow_tracker.description(sweep, "report") == verdict.replace("*", "\\*")


def test_the_last_step_of_every_cooldown_is_mirrored(tmp_path):
    planned = planned_run(steps=(1_022, 2_048, 3_001))
    run = RunDir(tmp_path / "runs" / planned.id)
    run.create(planned)
    horizons = planned.run.train.schedule.horizons
    curve = CurveWriter(run.curve_path)
    for number in range(1, 3_002):
        curve.append(step(number))
    for horizon in horizons:
        for number in range(horizon // 1024 - 300, horizon // 1024 + 1):
            curve.append(step(number, horizon=horizon))
    curve.close()
    points = list(metric_points(run, planned))
    ends = {name: max(point.step for other, point in points if other == name) for name, _ in points}
    assert ends["loss_cooldown/D_1046528"] == 1_022
    assert ends["loss_cooldown/D_2097152"] == 2_048
    assert ends["loss/train_loss"] == 3_001


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


def test_all_runs_of_a_sweep_are_asked_for_at_once(mlflow_tracker, sweep, tmp_path, monkeypatch):
    planned = [planned_run(sweep=sweep, width=width) for width in (16, 32, 48)]
    runs = [(finished_run(tmp_path, each), each) for each in planned]
    for run, each in runs[:2]:
        mlflow_tracker.publish(run, each)
    monkeypatch.setattr(mirror_module, "open_tracker", lambda settings, home: mlflow_tracker)
    monkeypatch.setattr(tracker_module, "_PAGE", 1)
    asked, look_up = [], mlflow_tracker._look_up
    monkeypatch.setattr(
        mlflow_tracker, "_look_up", lambda *key: asked.append(key[1]) or look_up(*key)
    )
    mirror_module.Mirror(Settings(home=tmp_path), Home(tmp_path)).publish_all(sweep, runs)
    assert asked == [planned[2].id]
    assert mlflow_tracker.run_ids(sweep) == sorted(each.id for each in planned)


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
