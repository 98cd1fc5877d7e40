"""How far the runs of a sweep or a study are, at the top of its view."""

import polars as pl

from analysis.fit.run_figures import draw_loss_curves, loss_curves_data, thinned_curves
from analysis.page import Page
from analysis.words import short
from flows.dashboard.address import Address
from flows.dashboard.seen import RunsSeen
from flows.watch.progress import progress_cells


def add_progress(page: Page, seen: RunsSeen, noun: str) -> None:
    """How many have ended, and those that train now; nothing once all have settled."""
    if seen.ended:
        return
    training = [run.progress for run in seen.runs if run.progress.state == "training"]
    ended, failed = seen.count("finished"), seen.failed
    page.key_figures(
        [
            (f"{ended} of {seen.total}", f"{noun} finished"),
            (str(len(training)), "training now"),
            (str(seen.total - ended - failed - len(training)), "to do"),
            (str(failed), "failed"),
        ]
    )
    if training:
        page.table(
            ["run", "N", "step", "of", "loss, nats/token", "tokens/s", "MFU", "left"],
            [
                [
                    *(run.name, short(run.n_params), f"{run.step:,}", f"{run.steps:,}"),
                    *progress_cells(run),
                ]
                for run in training
            ],
        )


def add_curves(page: Page, curves: pl.DataFrame, heading: str) -> None:
    """The loss curves of trainings; nothing before one has begun."""
    if curves.is_empty():
        return
    page.heading(heading)
    drawn = thinned_curves(loss_curves_data(curves))
    page.figure(draw_loss_curves(drawn), name="loss-curves", data=drawn)


def run_links(seen: RunsSeen) -> dict[str, str]:
    """Addresses of the views of runs that have begun, by the runs' names."""
    return {
        run.planned.name: str(Address(("run", run.progress.run_id)))
        for run in seen.runs
        if run.progress.state != "planned"
    }
