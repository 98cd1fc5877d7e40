"""Progress from run directories, the table of it, and the page that follows a sweep."""

import io
import json
import time
from dataclasses import asdict, replace

import pytest
from rich.console import Console

from flows.files import write_whole
from flows.runs.curve import CurveWriter
from flows.runs.directory import RunDir, RunResult
from flows.settings import Home
from flows.watch.curves import CurveReader
from flows.watch.page import LivePage, write_live_page
from flows.watch.progress import RunProgress, SweepGauge, SweepProgress, ago, read_run, span
from flows.watch.terminal import TableWatcher, progress_table
from sweeps.load import load_spec
from sweeps.plan import plan
from sweeps.spec import DataRef
from tests.fakes import evaluation, finished_run, planned_run, step


def begun(home, planned, records):
    run = RunDir(home / "runs" / planned.id)
    run.create(planned)
    curve = CurveWriter(run.curve_path)
    for record in records:
        curve.append(record)
    curve.close()
    return run


def test_a_training_run_shows_step_loss_pace_and_time_left(tmp_path):
    planned = planned_run()
    now = time.time()
    rows = [replace(step(number), at=now - 10 + number, mfu=0.4) for number in range(1, 9)]
    run = begun(tmp_path, planned, rows)
    with run.locked():
        found = read_run(planned, run)
    assert found.state == "training"
    # 40 steps of the longest horizon and the branch of the first, less what it shares.
    assert (found.step, found.steps) == (8, 46)
    assert found.loss == pytest.approx(5 / 8)
    assert found.tokens_per_s == pytest.approx(1024, rel=1e-3)
    assert found.left_s == pytest.approx(38, rel=1e-3)
    assert found.mfu == pytest.approx(0.4)
    assert found.heartbeat_s == pytest.approx(2, abs=1)
    assert read_run(planned, run).state == "interrupted"


def test_a_machine_without_a_known_peak_has_no_mfu(tmp_path):
    planned = planned_run()
    run = begun(tmp_path, planned, [step(1), step(2)])
    with run.locked():
        assert read_run(planned, run).mfu is None


def test_a_sweep_counts_only_what_was_missing_when_it_began(tmp_path):
    planned = plan(load_spec("smoke", ("grid.budgets=[2e10]",)), DataRef(digest="none"))
    gauge = SweepGauge(planned, Home(tmp_path), planned.runs[1:])
    assert gauge.read().share == 0
    assert gauge.read().left_s is None
    assert [run.state for run in gauge.read().runs[1:]] == ["planned"] * (len(planned.runs) - 1)
    assert SweepGauge(planned, Home(tmp_path), []).read().share == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s"), (7800, "2 h 10 min")],
)
def test_a_duration_is_printed_in_readable_units(seconds, text):
    assert span(seconds) == text


def many(count, state="planned"):
    run = RunProgress("id", "d64", 1_000_000, state, 5, 10, 3.2, None)
    return [replace(run, name=f"d{number}") for number in range(count)]


def shown(progress, width, height=30):
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=True, color_system=None)
    console.print(progress_table(progress, console))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal_with_every_column(width):
    training = RunProgress(
        "id", "d1024-s12", 134_217_728, "training", 12_345, 123_456, 3.2187, 1_234_567, 0.412, 7800
    )
    lines = shown(SweepProgress("chinchilla", (training,), 5400, 0.31, 12_000), width)
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("sweep chinchilla: 1 h 30 min, 31% of the FLOPs")
    [row] = [line for line in lines if "d1024-s12" in line]
    for cell in ("training", "12,345/123,456", "3.2187", "1,234,567", "41.2%", "2 h 10 min"):
        assert cell in row


def test_runs_that_do_not_fit_are_counted_and_training_ones_are_shown():
    runs = (*many(90), *many(3, "training"), *many(40, "found"), *many(1, "failed"))
    lines = shown(SweepProgress("big", runs, 60, 0.5, 60), 120, height=24)
    assert len(lines) <= 24
    text = "\n".join(lines)
    assert text.count("training") == 3
    assert text.count(" failed ") == 1
    assert "planned" in lines[-1]
    assert "40 found" in lines[-1]


def test_the_live_page_escapes_what_came_from_a_run_and_shows_the_curves(tmp_path):
    planned = planned_run().model_copy(update={"name": "<script>alert(1)</script>"})
    run = finished_run(tmp_path, planned)
    reader = CurveReader(planned, run)
    found = read_run(planned, run)
    folder = tmp_path / "sweep"
    folder.mkdir()
    write_live_page(folder, SweepProgress("s", (found,), 10, 0.5, 10), [reader])
    html = (folder / "live.html").read_text()
    assert "<script>alert" not in html
    assert "location.reload" in html
    assert 'id="loss-curves"' in html
    # Small enough to write every ten seconds: the library is a file beside it.
    assert len(html) < 50_000
    [library] = folder.glob("plotly-*.js")
    assert f'src="{library.name}"' in html
    write_live_page(folder, SweepProgress("s", (found,), 10, 1, 0), [reader], ended="ended")
    html = (folder / "live.html").read_text()
    assert "location.reload" not in html
    assert "src=" not in html.split("<script>")[0]
    assert len(html) > 4_000_000


def test_a_curve_is_read_once_and_its_torn_end_later(tmp_path):
    planned = planned_run()
    run = begun(tmp_path, planned, [step(number) for number in range(1, 9)])
    reader = CurveReader(planned, run)
    reader.read()
    assert sum(row["tokens"] == 8192 for row in reader.curve_rows()) == 1
    line = json.dumps({"kind": "step", **asdict(step(9))}).encode()
    with run.curve_path.open("ab") as handle:
        handle.write(line[:60])
    reader.read()
    assert max(row["tokens"] for row in reader.curve_rows()) == 8192
    with run.curve_path.open("ab") as handle:
        handle.write(line[60:] + b"\n")
    reader.read()
    assert max(row["tokens"] for row in reader.curve_rows()) == 9216


def test_the_valleys_grow_while_a_run_still_trains(tmp_path):
    planned = planned_run()
    run = begun(tmp_path, planned, [step(number) for number in range(1, 21)])
    curve = CurveWriter(run.curve_path)
    curve.append(evaluation(20))
    curve.close()
    reader = CurveReader(planned, run)
    reader.read()
    [row] = reader.observation_rows()
    assert row["val_loss"] == pytest.approx(3.05)
    assert row["n_params"] == planned.n_params


def test_a_live_page_that_cannot_be_written_stops_no_sweep(tmp_path, monkeypatch, caplog):
    planned = plan(load_spec("smoke", ("grid.budgets=[2e10]",)), DataRef(digest="none"))
    page = LivePage(Home(tmp_path))
    # Its folder does not exist, so writing fails as on a full disk.
    with page:
        page.begin(planned, list(planned.runs))
        page.tick()
    assert "live page is not written" in caplog.text


def test_the_table_watcher_draws_what_is_on_disk(tmp_path):
    planned = plan(load_spec("smoke", ("grid.budgets=[2e10]",)), DataRef(digest="none"))
    out = io.StringIO()
    with TableWatcher(Console(file=out, width=100), Home(tmp_path)) as watcher:
        watcher.begin(planned, list(planned.runs))
    assert out.getvalue().count("planned") == len(planned.runs)
    assert ago(None) == "–"


def test_a_log_gets_a_line_a_minute_and_the_table_at_the_end(tmp_path, monkeypatch):
    planned, clock, out = plan(load_spec("smoke"), DataRef(digest="d")), [1000.0], io.StringIO()
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with TableWatcher(Console(file=out, width=100), Home(tmp_path)) as watcher:
        watcher.begin(planned, list(planned.runs))
        for _ in range(150):
            clock[0] += 1
            watcher.tick()
        lines = out.getvalue().splitlines()
        assert len(lines) == 2
        assert all(line.startswith("sweep smoke: ") for line in lines)
    assert "planned" in out.getvalue()


def half_done(tmp_path, monkeypatch):
    """A gauge over two runs, one of which was found finished, and the other then trains."""
    clock = [100.0]
    monkeypatch.setattr("flows.watch.progress.time.monotonic", lambda: clock[0])
    planned = plan(load_spec("smoke", ("grid.budgets=[2e10]",)), DataRef(digest="none"))
    old, new = planned_run(width=16), planned_run(width=48)
    planned = planned.model_copy(update={"runs": (old, new)})
    finished_run(tmp_path, old)
    run = begun(tmp_path, new, [step(number) for number in range(1, 5)])
    gauge = SweepGauge(planned, Home(tmp_path), [new])
    return gauge, run, new, clock


def test_time_left_is_remaining_work_at_the_pace_since_the_start(tmp_path, monkeypatch):
    gauge, run, _, clock = half_done(tmp_path, monkeypatch)
    curve = CurveWriter(run.curve_path)
    for number in range(5, 15):
        curve.append(step(number))
    curve.close()
    clock[0] += 20.0
    found = gauge.read()
    # Ten of 46 steps in 20 s, after four that were there at the start.
    assert found.share == pytest.approx(14 / 46)
    assert found.left_s == pytest.approx(20.0 * 32 / 10)
    assert (found.count("found"), found.count("interrupted", "planned")) == (1, 1)


@pytest.mark.parametrize("status", ["failed", "diverged", "out_of_memory"])
def test_a_run_that_failed_has_nothing_left_to_spend(tmp_path, monkeypatch, status):
    gauge, run, new, clock = half_done(tmp_path, monkeypatch)
    clock[0] += 20.0
    ended = RunResult(run_id=new.id, status=status, train_s=1, device="cpu", finished_at=1.0)
    write_whole(run.result_path, ended.model_dump_json())
    found = gauge.read()
    assert (found.share, found.left_s) == (1.0, 0.0)
    assert [(one.state, one.step) for one in found.runs] == [("found", 46), (status, 4)]


def test_pace_is_over_the_intervals_between_rows(tmp_path):
    planned = planned_run()
    rows = [replace(step(number), at=100.0 + 2 * number) for number in (1, 2, 3)]
    run = begun(tmp_path, planned, rows)
    with run.locked():
        assert read_run(planned, run).tokens_per_s == 1024 / 2
    single = begun(tmp_path / "one", planned, rows[:1])
    with single.locked():
        # One row has no interval, so its own pace counts.
        assert read_run(planned, single).tokens_per_s == rows[0].tokens_per_s


def test_the_newest_loss_at_the_end_of_a_horizon_is_the_validation_loss(tmp_path):
    planned = planned_run()
    run = begun(tmp_path, planned, [*(step(number) for number in range(1, 21)), evaluation(20)])
    assert read_run(planned, run).loss == 3.0 + 1 / 20


def test_a_sweep_tells_no_time_to_go_while_start_up_outweighs_training(tmp_path, monkeypatch):
    planned = plan(load_spec("smoke", ("grid.budgets=[2e10]",)), DataRef(digest="none"))
    gauge = SweepGauge(planned, Home(tmp_path), planned.runs)
    run = begun(tmp_path, planned.runs[0], [step(1)])
    with run.locked():
        early = gauge.read()
        late = time.monotonic() + 61
        monkeypatch.setattr("flows.watch.progress.time.monotonic", lambda: late)
        minute_later = gauge.read()
    assert 0 < early.share < 0.05
    assert early.left_s is None
    assert minute_later.left_s == pytest.approx(61 * (1 / early.share - 1), rel=0.1)
