"""The page of a sweep while it trains: HOME/sweeps/<name>/live.html.

Rewritten about every ten seconds from the new rows of the curves, at next to no cost to the
trainings: plotly.js is written once beside the page, curves are averaged as they are read, and a
page that takes long to make is made less often. When the sweep ends, the page is written a last
time, with plotly.js inside and without reloading itself.
"""

import logging
import time
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import polars as pl
from plotly.offline import get_plotlyjs

from analysis.fit.isoflop import fit_isoflop
from analysis.fit.run_figures import draw_isoflop, draw_loss_curves, isoflop_data, loss_curves_data
from analysis.page import Page
from flows.files import write_whole
from flows.runs.state import TO_DO
from flows.watch.curves import CurveReader
from flows.watch.progress import SweepProgress, progress_cells
from flows.watch.under_way import EndsShown
from flows.watch.watcher import Periodic

log = logging.getLogger(__name__)

_EVERY_S = 10.0
# Share of one core's time that making the page may take.
_SHARE = 0.02
# Reloads only while the page is visible, and stops when nothing has been written for a while.
_RELOAD = """
const written=%d,every=%d;
const timer=setInterval(()=>{
 if(Date.now()/1000-written>12*every){
  clearInterval(timer);
  document.getElementById("stale").hidden=false;
 }else if(!document.hidden)location.reload();
},1000*every);
"""


class LivePage(Periodic):
    """Writes the page of a sweep while it trains."""

    def show(self, progress: SweepProgress, *, ended: str | None = None) -> float:
        """Write the page."""
        started = time.process_time()
        try:
            write_live_page(
                self._home.sweeps / progress.name, progress, self.curves, self.ends, ended=ended
            )
        except OSError as error:
            # A full disk stops no training that can still write its own rows.
            log.warning("the live page is not written: %s", error)
        return max(_EVERY_S, (time.process_time() - started) / _SHARE)


def write_live_page(
    folder: Path,
    progress: SweepProgress,
    curves: list[CurveReader],
    ends: EndsShown | None = None,
    *,
    ended: str | None = None,
) -> None:
    """Write the page, whole or not at all.

    Args:
        ended: how the sweep ended, `ended` or `stopped`; None while it trains.
    """
    for curve in curves:
        curve.read()
    page = Page(f"Sweep {progress.name}, live" if ended is None else f"Sweep {progress.name}")
    now = time.time()
    _headline(page, progress, now, ended)
    _figures(page, curves)
    _runs(page, progress, ends or EndsShown())
    if ended is None:
        script = _RELOAD % (now, _EVERY_S)
        text = page.html(plotly=_plotly_beside(folder), script=script)
    else:
        text = page.html()
    write_whole(folder / "live.html", text)


def _headline(page: Page, progress: SweepProgress, now: float, ended: str | None) -> None:
    finished = progress.count("finished", "found")
    failed = len(progress.runs) - finished - progress.count("training", *TO_DO)
    page.text(progress.title(), role="lead")
    page.key_figures(
        [
            (f"{finished} of {len(progress.runs)}", "runs finished"),
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
            "down. The same command resumes it; then open this page again.",
        )
    else:
        page.text(f"The sweep {ended} at {at}.", role="soft")


def _figures(page: Page, curves: list[CurveReader]) -> None:
    rows = [row for curve in curves for row in curve.curve_rows()]
    observations = [row for curve in curves for row in curve.observation_rows()]
    # Variants have valleys of their own, and so has each mixture.
    one_law = not any("variant" in row or "mixture" in row for row in observations)
    if one_law and any(row["flops_budget"] is not None for row in observations):
        table = pl.DataFrame(observations, infer_schema_length=None).with_row_index("row")
        fit = fit_isoflop(table)
        page.heading("The valleys as they grow")
        figure = draw_isoflop(isoflop_data(table, fit), fit, "nats_per_token")
        page.figure(figure, name="isoflop", panels=True)
    if rows:
        page.heading("Loss curves")
        frame = pl.DataFrame(rows, infer_schema_length=None)
        page.figure(draw_loss_curves(loss_curves_data(frame)), name="loss-curves")
    else:
        page.text("No run has taken a step yet.")


def _runs(page: Page, progress: SweepProgress, ends: EndsShown) -> None:
    page.heading("Runs")
    names = ["loss, nats/token", "tokens/s", "MFU", "left", "ends at, 90%"]
    page.table(
        ["run", "N", "state", "step", "of", *names],
        [
            [
                *(run.name, f"{run.n_params:,}", run.state, f"{run.step:,}", f"{run.steps:,}"),
                *(*progress_cells(run), ends.cell(run)),
            ]
            for run in progress.runs
        ],
    )
    for note in ends.notes:
        page.text(note, role="soft")


def _plotly_beside(folder: Path) -> str:
    """Write plotly.js beside the page, once; returns its name."""
    path = folder / f"plotly-{version('plotly')}.js"
    if not path.exists():
        write_whole(path, get_plotlyjs())
    return path.name
