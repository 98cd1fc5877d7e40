"""What each watcher of a sweep shows, how often, and which runs come first."""

import logging
import math
from dataclasses import replace
from types import SimpleNamespace
from uuid import uuid4

import httpx
import pytest

from flows.runs.curve import CurveWriter
from flows.runs.directory import Observation, RunDir, RunResult
from flows.settings import Home
from flows.watch import in_prefect, watcher
from flows.watch import page as page_module
from flows.watch.curves import CurveReader
from flows.watch.in_prefect import ArtifactWatcher, LogWatcher, progress_rows
from flows.watch.page import LivePage, write_live_page
from flows.watch.progress import (
    RunProgress,
    SweepProgress,
    ago,
    progress_cells,
    read_run,
)
from flows.watch.terminal import _fold
from flows.watch.under_way import EndsShown
from flows.watch.watcher import Periodic
from sweeps.load import load_spec
from sweeps.plan import plan
from sweeps.spec import DataRef
from tests.fakes import evaluation, finished_run, planned_run, step

RUN = RunProgress("id", "d64", 1_000_000, "training", 1_234, 5_678, 3.21875, 1_500.0, 0.4125, 65.0)


def in_states(*states):
    return tuple(
        replace(RUN, name=f"r{number}", state=state) for number, state in enumerate(states)
    )


@pytest.mark.parametrize(
    ("room", "shown"), [(1, "r3"), (2, "r1 r3"), (3, "r1 r2 r3"), (4, "r0 r1 r2 r3"), (9, None)]
)
def test_what_trains_is_shown_first_then_failures_then_the_finished(room, shown):
    runs = in_states("planned", "failed", "finished", "training", "found")
    chosen, folded = _fold(runs, room)
    names = shown.split() if shown else ["r0", "r1", "r2", "r3", "r4"]
    assert [run.name for run in chosen] == names
    assert [run.name for run in folded] == [run.name for run in runs if run.name not in names]


def test_what_is_unknown_of_a_run_is_empty_and_an_unknown_mfu_a_dash():
    assert progress_cells(RUN) == ["3.2188", "1,500", "41.2%", "1 min 5 s"]
    bare = replace(RUN, loss=None, tokens_per_s=None, mfu=None, left_s=None)
    assert progress_cells(bare) == ["", "", "–", ""]
    assert progress_cells(replace(bare, state="planned")) == ["", "", "", ""]


def test_a_title_has_share_time_left_and_the_pace_of_all_runs():
    runs = (RUN, replace(RUN, tokens_per_s=None), replace(RUN, tokens_per_s=500.0))
    progress = SweepProgress("s", runs, 61.0, 0.314, 7_200.0)
    assert progress.title() == (
        "sweep s: 1 min 1 s, 31% of the FLOPs, about 2 h 0 min to go, 2,000 tokens/s"
    )
    assert replace(progress, runs=(), left_s=None).title() == "sweep s: 1 min 1 s, 31% of the FLOPs"
    assert replace(progress, runs=(), share=1.0, left_s=0.0).title() == "sweep s: 1 min 1 s"
    assert (progress.count("training"), progress.count("failed", "found")) == (3, 0)
    assert ago(61.0) == "1 min 1 s ago"


def test_a_title_says_what_trainings_do_before_their_first_step():
    begun = replace(RUN, step=0, loss=None, tokens_per_s=None, mfu=None, left_s=None)
    stepping = replace(begun, heartbeat_s=0.1)
    says = ", no step yet: steps may be timed and compiled first"
    for runs, whether in [((begun,), True), ((stepping,), False), ((begun, RUN), False)]:
        assert SweepProgress("s", runs, 9.0, 0.0, None).title().endswith(says) == whether
    ended = replace(begun, state="failed")
    assert not SweepProgress("s", (ended,), 9.0, 0.0, None).title().endswith(says)


@pytest.fixture
def training(tmp_path):
    """A run whose curve has these records, at the moment in training."""

    def of(*records):
        planned = planned_run()
        run = RunDir(tmp_path / "runs" / planned.id)
        run.create(planned)
        curve = CurveWriter(run.curve_path)
        for record in records:
            curve.append(record)
        curve.close()
        with run.locked():
            return read_run(planned, run)

    return of


def test_pace_ignores_validations_and_the_mfu_is_their_mean(training):
    steps = [replace(step(number), at=100.0 + number, mfu=number / 10) for number in (1, 2, 3)]
    found = training(*steps, replace(evaluation(20), at=500.0))
    assert found.tokens_per_s == 1024.0
    assert found.mfu == pytest.approx(0.2)
    # The first horizon ends at step 20 of 46.
    assert found.left_s == pytest.approx(26.0)


def test_steps_of_one_instant_have_the_pace_of_the_last(training):
    found = training(*(replace(step(number), at=100.0) for number in (1, 2)))
    assert found.tokens_per_s == step(2).tokens_per_s


def test_a_validation_alone_gives_no_pace(training):
    found = training(evaluation(20))
    assert (found.tokens_per_s, found.mfu, found.left_s) == (None, None, None)


def test_a_heartbeat_of_a_clock_ahead_is_now_and_of_no_row_unknown(training):
    assert training().heartbeat_s is None
    assert training(replace(step(1), at=9e9)).heartbeat_s == 0.0


def test_a_curve_is_averaged_in_bins_of_three_per_cent_of_tokens(tmp_path):
    planned = planned_run()
    run = RunDir(tmp_path / planned.id)
    run.create(planned)
    curve = CurveWriter(run.curve_path)
    losses = {number: 10.0 - number for number in range(1, 15)}
    for number, loss in losses.items():
        curve.append(step(number, loss=math.inf if number == 7 else loss))
    for number in range(15, 18):
        curve.append(step(number, horizon=20_480, loss=1.0))
    curve.append(step(15, loss=2.0))
    curve.append(step(16, horizon=40_960, loss=3.0))
    curve.append(evaluation(20))
    curve.close()
    reader = CurveReader(planned, run)
    reader.read()
    reader.read()
    lines = {}
    for row in reader.curve_rows():
        lines.setdefault(row["name"], []).append((row["tokens"] // 1024, row["train_loss"]))
        assert row["train_flops"] == pytest.approx(
            row["tokens"] * planned.cells[0].train_flops / planned.cells[0].tokens
        )
    # A loss that is not finite is left out; steps this far apart have bins of their own.
    few = [(number, losses[number]) for number in range(1, 15) if number != 7]
    assert lines["d32"] == [*few, (15, 2.0), (16, 3.0)]
    assert lines["d32/D_20480"] == [(15, 1.0), (16, 1.0), (17, 1.0)]
    assert {row["run_id"] for row in reader.curve_rows()} == {
        planned.id,
        f"{planned.id}/D_20480",
    }
    [seen] = reader.observation_rows()
    assert (seen["run_id"], seen["tokens"]) == (f"{planned.id}@20480", 20_480)
    assert seen["train_flops"] == planned.cells[0].train_flops


def test_close_steps_share_a_bin_with_the_mean_of_their_losses(tmp_path):
    planned = planned_run()
    run = RunDir(tmp_path / planned.id)
    run.create(planned)
    curve = CurveWriter(run.curve_path)
    for number in range(1, 202):
        curve.append(step(number, loss=float(number)))
    curve.close()
    reader = CurveReader(planned, run)
    reader.read()
    width = math.log(1.03)
    bins = {}
    for number in range(1, 202):
        bins.setdefault(math.floor(math.log(1024 * number) / width), []).append(number)
    assert [(row["tokens"] // 1024, row["train_loss"]) for row in reader.curve_rows()] == [
        (numbers[-1], pytest.approx(sum(numbers) / len(numbers))) for numbers in bins.values()
    ]


def test_a_curve_that_was_set_aside_is_read_from_its_start(tmp_path):
    planned = planned_run()
    run = finished_run(tmp_path, planned)
    reader = CurveReader(planned, run)
    reader.read()
    assert len(reader.observation_rows()) == 2
    run.curve_path.unlink()
    curve = CurveWriter(run.curve_path)
    curve.append(step(1, loss=7.0))
    curve.close()
    reader.read()
    assert reader.observation_rows() == []
    assert [row["train_loss"] for row in reader.curve_rows()] == [7.0]
    run.curve_path.unlink()
    reader.read()
    assert reader.curve_rows() == []


class Shown(Periodic):
    """Notes each time it is due, and is due again after five seconds."""

    def __init__(self, home):
        super().__init__(home)
        self.seen = []

    def show(self, progress, *, ended=None):
        self.seen.append((watcher.time.monotonic(), ended))
        return 5.0


@pytest.mark.parametrize(("error", "ended"), [(None, "ended"), (KeyboardInterrupt, "stopped")])
def test_progress_is_shown_at_once_when_it_is_due_and_at_the_end(
    tmp_path, monkeypatch, error, ended
):
    clock = [100.0]
    monkeypatch.setattr(watcher, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    planned = plan(load_spec("smoke"), DataRef(digest="d"))
    shown = Shown(Home(tmp_path))

    def observe():
        with shown:
            shown.tick()
            assert shown.seen == []
            shown.begin(planned, list(planned.runs))
            for _ in range(11):
                clock[0] += 1.0
                shown.tick()
            if error is not None:
                raise error

    if error is None:
        observe()
    else:
        with pytest.raises(error):
            observe()
    assert shown.seen == [(100.0, None), (105.0, None), (110.0, None), (111.0, ended)]


def test_a_sweep_that_never_began_is_not_shown_at_its_end(tmp_path):
    with Shown(Home(tmp_path)) as shown:
        pass
    assert shown.seen == []


@pytest.fixture
def artifacts(monkeypatch):
    """Prefect's artifacts: what was created and what was updated."""
    created, updated = [], []

    def artifact(self):
        created.append(self)
        return SimpleNamespace(id=uuid4())

    class Client:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def update_artifact(self, artifact_id, update):
            updated.append((artifact_id, update.data))

    monkeypatch.setattr("prefect.artifacts.ProgressArtifact.create", artifact)
    monkeypatch.setattr("prefect.artifacts.TableArtifact.create", artifact)
    monkeypatch.setattr(in_prefect, "get_client", lambda sync_client: Client())
    return created, updated


def test_two_artifacts_are_created_once_and_then_updated(tmp_path, artifacts):
    created, updated = artifacts
    watching = ArtifactWatcher(Home(tmp_path))
    progress = SweepProgress("My_sweep", (RUN,), 60.0, 0.25, None)
    assert watching.show(progress) == 10.0
    bar, table = created
    assert (bar.key, bar.progress) == ("sweep-my-sweep-progress", 25.0)
    assert table.key == "sweep-my-sweep-runs"
    watching.show(replace(progress, share=0.5))
    assert len(created) == 2
    assert updated[0][1] == 50.0
    assert len({artifact_id for artifact_id, _ in updated}) == 2
    assert progress_rows(progress, EndsShown()) == [
        {
            "run": "d64", "N": "1,000,000", "state": "training", "step": "1,234/5,678",
            "loss, nats/token": "3.2188", "tokens/s": "1,500", "MFU": "41.2%", "left": "1 min 5 s",
            "ends at, 90%": "",
        }
    ]  # fmt: skip


def test_a_server_that_is_down_stops_no_sweep(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise httpx.ConnectError("no server")

    monkeypatch.setattr(in_prefect, "_send", refuse)
    assert ArtifactWatcher(Home(tmp_path)).show(SweepProgress("s", (), 1.0, 0.5, None)) == 10.0
    assert "progress is not shown in Prefect: no server" in caplog.text


def test_a_flow_runs_log_has_the_plan_its_warnings_and_every_result(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(in_prefect, "get_run_logger", lambda: logging.getLogger("flow"))
    planned = plan(load_spec("smoke"), DataRef(digest="d"))
    planned = planned.model_copy(update={"warnings": ("thin valleys",)})
    watching = LogWatcher()
    watching.begin(planned, list(planned.runs[1:]))
    assert caplog.messages == [
        f"sweep smoke: {len(planned.runs)} trainings, {planned.observations} observations, "
        f"{planned.flops_spent:.2e} FLOPs; {len(planned.runs) - 1} to train",
        "thin valleys",
    ]
    ends = tuple(
        Observation(tokens=tokens, val_loss=loss, val_bpb=2.0, weights_sha256="0")
        for tokens, loss in ((1, 3.14159), (2, 2.5))
    )
    done = RunResult(
        run_id="x", status="finished", observations=ends, train_s=1, device="cpu", finished_at=1.0
    )
    watching.finished(planned.runs[0], done)
    watching.finished(
        planned.runs[0], done.model_copy(update={"status": "failed", "reason": "a bug"})
    )
    name = planned.runs[0].name
    assert caplog.messages[2:] == [f"{name} finished: 3.1416, 2.5000", f"{name} failed: a bug"]


def key_figures(tmp_path, monkeypatch, progress, ended=None):
    figures = []
    monkeypatch.setattr(page_module.Page, "key_figures", lambda page, items: figures.extend(items))
    write_live_page(tmp_path, progress, [], ended=ended)
    return {words: number for number, words in figures}


def test_the_headline_counts_every_run_once(tmp_path, monkeypatch):
    states = ["finished", "found", "found", "training", "planned", "interrupted"]
    states += ["failed", "diverged", "out_of_memory"]
    progress = SweepProgress("s", in_states(*states), 60.0, 0.5, None)
    assert key_figures(tmp_path, monkeypatch, progress) == {
        "runs finished": "3 of 9",
        "training now": "1",
        "to do": "2",
        "failed": "3",
    }
    html = (tmp_path / "live.html").read_text()
    assert "No run has taken a step yet." in html
    assert "Sweep s, live" in html
    assert "The sweep ended at" not in html
    key_figures(tmp_path, monkeypatch, progress, ended="stopped")
    html = (tmp_path / "live.html").read_text()
    assert "The sweep stopped at" in html
    assert "Sweep s, live" not in html


def test_the_library_beside_a_page_is_written_once(tmp_path):
    progress = SweepProgress("s", (), 60.0, 0.5, None)
    write_live_page(tmp_path, progress, [])
    [library] = tmp_path.glob("plotly-*.js")
    library.write_text("kept")
    write_live_page(tmp_path, progress, [])
    assert library.read_text() == "kept"


def test_a_page_reloads_every_ten_seconds_until_nothing_comes_for_two_minutes(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(page_module.time, "time", lambda: 1_700_000_000.0)
    write_live_page(tmp_path, SweepProgress("s", (), 60.0, 0.5, None), [])
    html = (tmp_path / "live.html").read_text()
    assert "written=1700000000,every=10;" in html
    assert ">12*every" in html


@pytest.mark.parametrize(("cpu_s", "pause_s"), [(0.1, 10.0), (0.2, 10.0), (0.5, 25.0)])
def test_a_page_takes_at_most_a_fiftieth_of_a_core(tmp_path, monkeypatch, cpu_s, pause_s):
    clock = iter([1.0, 1.0 + cpu_s])
    monkeypatch.setattr(page_module.time, "process_time", lambda: next(clock))
    monkeypatch.setattr(page_module, "write_live_page", lambda *_, **__: None)
    shown = LivePage(Home(tmp_path)).show(SweepProgress("s", (), 60.0, 0.5, None))
    assert shown == pytest.approx(pause_s)


def test_valleys_are_drawn_only_on_isoflops(tmp_path, monkeypatch):
    planned = planned_run()
    run = finished_run(tmp_path, planned)
    names = []
    monkeypatch.setattr(
        page_module.Page, "figure", lambda page, figure, name, **_: names.append(name)
    )
    write_live_page(tmp_path, SweepProgress("s", (), 60.0, 0.5, None), [CurveReader(planned, run)])
    assert names == ["loss-curves"]
    cells = tuple(cell.model_copy(update={"flops_budget": 1e9}) for cell in planned.cells)
    on_budgets = planned.model_copy(update={"cells": cells})
    write_live_page(
        tmp_path, SweepProgress("s", (), 60.0, 0.5, None), [CurveReader(on_budgets, run)]
    )
    assert names[1:] == ["isoflop", "loss-curves"]
