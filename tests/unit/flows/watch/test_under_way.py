"""Where the trainings under way end, in the terminal, on the page and in Prefect."""

import io
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from analysis.own_runs.outcome import Interval
from analysis.own_runs.under_way import End
from flows.runs.curve import CurveWriter
from flows.runs.directory import RunDir
from flows.settings import Home
from flows.watch import under_way
from flows.watch.in_prefect import progress_rows
from flows.watch.page import write_live_page
from flows.watch.progress import RunProgress, SweepProgress
from flows.watch.terminal import progress_table
from flows.watch.under_way import EndForecaster, EndsShown
from llama_core.schedule import segments
from tests.fakes import evaluation, planned_run, step

RUN = RunProgress("id", "d64", 1_000_000, "training", 1_234, 5_678, 3.21875, 1_500.0, None, 65.0)
LAW_ONLY = replace(RUN, run_id="other", name="d96")
WAITING = replace(RUN, run_id="waiting", name="d128", state="planned")
PROGRESS = SweepProgress("s", (RUN, LAW_ONLY, WAITING), 60.0, 0.25, None)
ENDS = EndsShown(
    {
        "id": End(100, Interval(2.41, 2.389, 2.431), by_curve=True),
        "other": End(100, Interval(2.3, 2.25, 2.352), by_curve=False),
        "waiting": End(100, Interval(2.2, 2.1, 2.3), by_curve=False),
    },
    ("d96: its curve is empty so far.",),
)


def terminal(progress, ends, width):
    out = io.StringIO()
    console = Console(file=out, width=width, height=30, force_terminal=True, color_system=None)
    console.print(progress_table(progress, console, ends))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 130])
def test_the_terminal_has_each_end_whole_and_why_the_curve_has_no_part_in_one(width):
    lines = terminal(PROGRESS, ENDS, width)
    assert max(map(len, lines)) <= width
    assert any("d64" in line and line.rstrip().endswith("2.410 ± 0.021") for line in lines)
    assert any("d96" in line and line.rstrip().endswith("2.300 ± 0.051*") for line in lines)
    assert not any("2.200" in line for line in lines)
    assert any("d96: its curve is empty so far." in line for line in lines)


def test_mfu_and_speed_give_way_to_the_ends_on_a_narrow_terminal_alone():
    long = replace(
        RUN, name="d1024-s12", step=12_345, steps=123_456, tokens_per_s=1_234_567, mfu=0.412,
        left_s=7800.0,
    )  # fmt: skip
    progress = SweepProgress("s", (long,), 60.0, 0.25, None)
    text = "\n".join(terminal(progress, ENDS, 80))
    assert "12,345/123,456" in text
    assert "2 h 10 min  2.410 ± 0.021" in text
    assert "41.2%" not in text
    for shown in (terminal(progress, ENDS, 130), terminal(progress, EndsShown(), 80)):
        assert "41.2%" in "\n".join(shown)
        assert "1,234,567" in "\n".join(shown)


def test_the_page_has_the_ends_beside_the_runs(tmp_path):
    write_live_page(tmp_path, PROGRESS, [], ENDS)
    html = (tmp_path / "live.html").read_text()
    assert "ends at, 90%" in html
    assert "2.410 ± 0.021" in html
    assert "2.300 ± 0.051*" in html
    assert "2.200" not in html
    assert "d96: its curve is empty so far." in html


def test_the_table_in_prefect_has_the_ends():
    shown = [row["ends at, 90%"] for row in progress_rows(PROGRESS, ENDS)]
    assert shown == ["2.410 ± 0.021", "2.300 ± 0.051*", ""]


def loss_at(planned, number, cooled):
    """A law of size and steps; a trunk lies 7 % above its cooled end."""
    loss = 1.8 + 40 / planned.n_params**0.35 + 3 / number**0.5
    return loss if cooled else 1.07 * loss


def write(home, planned, until):
    """The curve of a run up to this many optimizer steps, branches included."""
    run = RunDir(home / "runs" / planned.id)
    run.create(planned)
    curve = CurveWriter(run.curve_path)
    done = 0
    for segment in segments(planned.run.train):
        for number in range(segment.first_step + 1, segment.last_step + 1):
            done += 1
            if done > until:
                break
            loss = loss_at(planned, number, cooled=False)
            curve.append(step(number, horizon=segment.horizon, loss=loss))
        if done <= until and segment.horizon is not None:
            last = segment.last_step
            curve.append(replace(evaluation(last), val_loss=loss_at(planned, last, cooled=True)))
    curve.close()
    return run


STEPS = (100, 200, 400, 800)


@pytest.fixture(autouse=True)
def _every_curve_is_read_at_once(monkeypatch):
    """On a busy machine the curves here take longer than a terminal would wait for."""
    monkeypatch.setattr(under_way, "_READ_S", math.inf)


@pytest.fixture
def sweep(tmp_path):
    """Three sizes that have ended, and a fourth that has not begun."""
    runs = [planned_run(width=width, steps=STEPS) for width in (16, 32, 48, 64)]
    for planned in runs[:3]:
        write(tmp_path, planned, planned.steps)
    return runs


def foretold(home, runs, state="training"):
    states = ["found", "found", "found", state]
    progress = SweepProgress(
        "s",
        tuple(
            replace(RUN, run_id=planned.id, name=planned.name, state=each)
            for planned, each in zip(runs, states, strict=True)
        ),
        60.0, 0.5, None,
    )  # fmt: skip
    forecaster = EndForecaster(SimpleNamespace(runs=runs), Home(home))
    return forecaster.read(progress)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_run_under_way_is_foretold_on_its_trunk_and_in_its_cooldown(tmp_path, sweep, share):
    planned = sweep[-1]
    write(tmp_path, planned, int(share * planned.steps))
    shown = foretold(tmp_path, sweep)
    assert shown.notes == ()
    end = shown.ends[planned.id]
    assert end.by_curve
    assert end.tokens == planned.cells[-1].tokens
    assert end.interval.lower < loss_at(planned, 800, cooled=True) < end.interval.upper


def test_a_run_without_a_curve_is_foretold_from_the_others_alone(tmp_path, sweep):
    shown = foretold(tmp_path, sweep)
    assert not shown.ends[sweep[-1].id].by_curve
    assert shown.notes == ("d64: its curve is empty so far.",)


def test_nothing_is_foretold_when_nothing_trains(tmp_path, sweep):
    assert foretold(tmp_path, sweep, state="planned") == EndsShown()


def test_too_few_losses_are_counted_and_foretell_nothing(tmp_path):
    runs = [planned_run(width=width, steps=STEPS) for width in (16, 32, 48, 64)]
    write(tmp_path, runs[0], runs[0].steps)
    shown = foretold(tmp_path, runs)
    assert shown.ends == {}
    assert shown.notes == (
        "No ends are foretold yet: a forecast needs losses at 10 pairs of N and D and 3 sizes or "
        "more, and 4 of 1 are recorded.",
    )


def test_a_curve_of_no_numbers_and_a_damaged_line_break_nothing(tmp_path, sweep):
    planned = sweep[-1]
    run = RunDir(tmp_path / "runs" / planned.id)
    run.create(planned)
    curve = CurveWriter(run.curve_path)
    for number in range(1, 71):
        curve.append(step(number, loss=math.nan))
    for number in range(71, 101):
        curve.append(step(number, horizon=1024 * 100, loss=math.inf))
    curve.append(replace(evaluation(100), val_loss=math.nan))
    curve.close()
    with run.curve_path.open("a") as file:
        file.write('{"kind": "step", "st')
    shown = foretold(tmp_path, sweep)
    assert not shown.ends[planned.id].by_curve
    assert math.isfinite(shown.ends[planned.id].interval.upper)


def test_a_forecast_that_cannot_be_computed_is_named_and_stops_nothing(
    tmp_path, sweep, monkeypatch, caplog
):
    def fail(*_):
        raise np.linalg.LinAlgError("not positive definite")

    monkeypatch.setattr(under_way, "learn", fail)
    shown = foretold(tmp_path, sweep)
    assert shown.notes == ("No ends are foretold yet: not positive definite.",)
    assert "no ends are foretold: not positive definite" in caplog.text


def test_variants_are_not_foretold_from_one_another(tmp_path, sweep):
    variants = [each.model_copy(update={"variant": "gpt3"}) for each in sweep]
    assert foretold(tmp_path, sweep).ends
    assert foretold(tmp_path, variants) == EndsShown()
