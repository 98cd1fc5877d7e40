"""The page of a sweep while it trains: HOME/sweeps/<name>/live.html.

Rewritten about every ten seconds from what is new on the curves, so that looking on takes next to
nothing from the trainings: plotly.js is written once beside it, curves are averaged as they are
read, and a page that was costly to make is made less often. When the sweep has ended the page is
written a last time, with plotly.js inside and without refreshing itself.
"""

import logging
import time
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl
from plotly.offline import get_plotlyjs

from analysis.fit.curve_figures import draw_loss_curves, loss_curves_data
from analysis.fit.isoflop import fit_isoflop
from analysis.fit.isoflop_figures import draw_isoflop, isoflop_data
from analysis.page import Page
from flows.files import write_whole
from flows.runs.directory import RunDir, RunResult
from flows.runs.state import TO_DO
from flows.settings import Home
from flows.watch.curves import CurveReader
from flows.watch.progress import SweepGauge, SweepProgress, progress_cells
from sweeps.plan import Plan
from sweeps.spec import PlannedRun

log = logging.getLogger(__name__)

_EVERY_S = 10.0
# Of one core's time, what making the page may take.
_SHARE = 0.02
# Reloads only while somebody looks, and no more when nothing has been written for a while.
_RELOAD = """
const written=%d,every=%d;
const timer=setInterval(()=>{
 if(Date.now()/1000-written>12*every){
  clearInterval(timer);
  document.getElementById("stale").hidden=false;
 }else if(!document.hidden)location.reload();
},1000*every);
"""


class LivePage:
    """Writes the page of a sweep while it trains."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._gauge: SweepGauge | None = None
        self._curves: list[CurveReader] = []
        self._folder = Path()
        self._due = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._gauge is not None:
            self._write(ended="stopped" if kind is not None else "ended")

    def begin(self, plan: Plan, todo: list[PlannedRun]) -> None:
        """Write the first page; runs that are finished are on it."""
        self._folder = self._home.sweeps / plan.spec.name
        self._gauge = SweepGauge(plan, self._home, todo)
        self._curves = [
            CurveReader(planned, RunDir(self._home.runs / planned.id)) for planned in plan.runs
        ]
        self._write()

    def tick(self) -> None:
        """Write again when it is time."""
        if time.monotonic() >= self._due:
            self._write()

    def finished(self, planned: PlannedRun, result: RunResult) -> None:
        """Nothing: its curve is on disk."""

    def _write(self, *, ended: str | None = None) -> None:
        assert self._gauge is not None
        began = time.process_time()
        try:
            write_live_page(self._folder, self._gauge.read(), self._curves, ended=ended)
        except OSError as error:
            # A full disk stops no training that can still write its own rows.
            log.warning("the live page is not written: %s", error)
        cost = time.process_time() - began
        self._due = time.monotonic() + max(_EVERY_S, cost / _SHARE)


def write_live_page(
    folder: Path, progress: SweepProgress, curves: list[CurveReader], *, ended: str | None = None
) -> None:
    """Write the page; the file appears whole or not at all.

    Args:
        ended: how the sweep ended, `ended` or `stopped`; None while it trains.
    """
    for curve in curves:
        curve.read()
    page = Page(f"Sweep {progress.name}, live" if ended is None else f"Sweep {progress.name}")
    now = time.time()
    _headline(page, progress, now, ended)
    _figures(page, curves)
    page.heading("Runs")
    page.table(
        ["run", "N", "state", "step", "of", "loss, nats/token", "tokens/s", "MFU", "left"],
        [
            [
                *(run.name, f"{run.n_params:,}", run.state, f"{run.step:,}", f"{run.steps:,}"),
                *progress_cells(run),
            ]
            for run in progress.runs
        ],
    )
    if ended is None:
        script = _RELOAD % (now, _EVERY_S)
        text = page.html(plotly=_plotly_beside(folder), script=script)
    else:
        text = page.html()
    write_whole(folder / "live.html", text)


def _headline(page: Page, progress: SweepProgress, now: float, ended: str | None) -> None:
    over = progress.count("finished", "found")
    failed = len(progress.runs) - over - progress.count("training", *TO_DO)
    page.text(progress.title(), role="lead")
    page.key_figures(
        [
            (f"{over} of {len(progress.runs)}", "runs finished"),
            (str(progress.count("training")), "training now"),
            (str(progress.count(*TO_DO)), "to do"),
            (str(failed), "failed"),
        ]
    )
    at = datetime.fromtimestamp(now).astimezone().strftime("%H:%M:%S, %d %B %Y")
    if ended is None:
        page.text(f"As of {at}; this page follows the sweep by itself.", role="soft")
        page.hidden(
            "stale",
            "Nothing has been written for two minutes: the sweep was killed, or its machine is "
            "down. The same command goes on where it was; then open this page again.",
        )
    else:
        page.text(f"The sweep {ended} at {at}.", role="soft")


def _figures(page: Page, curves: list[CurveReader]) -> None:
    rows = [row for curve in curves for row in curve.curve_rows()]
    found = [row for curve in curves for row in curve.observation_rows()]
    if any(row["flops_budget"] is not None for row in found):
        table = pl.DataFrame(found, infer_schema_length=None).with_row_index("row")
        fit = fit_isoflop(table)
        page.heading("The valleys as they grow")
        page.figure(draw_isoflop(isoflop_data(table, fit), fit), name="isoflop", wide=True)
    if rows:
        page.heading("Loss curves")
        frame = pl.DataFrame(rows, infer_schema_length=None)
        page.figure(draw_loss_curves(loss_curves_data(frame)), name="loss-curves")
    else:
        page.text("No run has taken a step yet.")


def _plotly_beside(folder: Path) -> str:
    """Write plotly.js beside the page, once; its name."""
    path = folder / f"plotly-{version('plotly')}.js"
    if not path.exists():
        write_whole(path, get_plotlyjs())
    return path.name
