"""Sweeps, studies and forecasts as tables, one a row."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from dash import html
from dash.development.base_component import Component

from analysis.sparkline import sparkline
from analysis.sweep.brief import Brief
from analysis.tuning.brief import optimum_words
from analysis.words import counted, flops, rate, short
from flows.dashboard.address import Address, sweep_address
from flows.dashboard.render import Cell, link, table
from flows.dashboard.seen import RunsSeen, StudySeen, SweepSeen
from flows.forecasts.registered import Registered, Scored


@dataclass(frozen=True, slots=True)
class SoFar:
    """The law of a sweep that still trains, of the losses that are there.

    Attributes:
        law: None where they give none.
        losses: how many it is of, and how many are planned.
    """

    law: Brief | None
    losses: tuple[int, int]

    def words(self) -> str:
        """What the list says of it."""
        verdict = "no law yet" if self.law is None else first_words(self.law.verdict)
        return f"so far, {self.losses[0]} of {self.losses[1]} losses: {verdict}"


def sweeps_table(sweeps: Sequence[SweepSeen], so_far: Mapping[str, SoFar], label: str) -> Component:
    """A row for each sweep.

    Args:
        so_far: by name, of those that still train.
        label: what the table is of, for a screen reader.
    """
    names = ("state", "verdict", "N* of its law", "N* ~ C^", "best loss, nats/token",
             "budget, FLOPs", "changed")  # fmt: skip
    return table(
        ["sweep", *names],
        [_sweep_row(sweep, so_far.get(sweep.name)) for sweep in sweeps],
        classes=["words", "words wrap", "words long", "", "", "", "", ""],
        label=label,
    )


def _sweep_row(sweep: SweepSeen, so_far: SoFar | None) -> list[Cell]:
    law, verdict = sweep.law, "no law yet"
    if so_far is not None:
        law, verdict = so_far.law, so_far.words()
    elif sweep.plan.spec.variants:
        verdict = counted(len(sweep.plan.spec.variants) + 1, "variant") + ", each with its law"
    elif sweep.plan.spec.mixtures is not None:
        verdict = "a law of shares, on its page"
    elif law is not None:
        # The whole sentence is on the sweep's page.
        verdict = first_words(law.verdict)
    planned = sweep.flops_planned
    return [
        # A variant is named beside its sweep's other variants.
        link(sweep.name.rpartition("/")[2], str(sweep_address(sweep.name))),
        sweep.state,
        verdict,
        *(_law_cells(law, so_far is not None) if law is not None else ("–", "–")),
        _best_loss(sweep),
        f"{flops(sweep.flops_spent)} ({sweep.flops_spent / planned:.0%})",
        age(sweep.changed_at),
    ]


def first_words(verdict: str) -> str:
    """A verdict up to its colon."""
    return verdict.partition(":")[0]


def _best_loss(seen: RunsSeen) -> Cell:
    best = seen.best_losses()
    if not best:
        return "–"
    words = f"best loss from {best[0]:.4f} to {best[-1]:.4f} over {counted(len(best), 'run')}"
    return html.Span([html.Img(src=sparkline(best), alt=words), f"{best[-1]:.4f}"])


def _law_cells(law: Brief, so_far: bool) -> tuple[Cell, Cell]:
    size = "withheld" if law.n_opt is None else short(law.n_opt)
    if law.n_opt is not None and law.n_interval is not None:
        size += f" [{short(law.n_interval[0])}, {short(law.n_interval[1])}]"
    exponent = f"{law.exponent:.2f}"
    if law.exponent_interval is not None:
        exponent += f" [{law.exponent_interval[0]:.2f}, {law.exponent_interval[1]:.2f}]"
    if so_far:
        return _soft(f"{size} so far"), _soft(f"{exponent} so far")
    return size, exponent


def _soft(text: str) -> Component:
    return html.Span(text, className="so-far")


def studies_table(studies: Sequence[StudySeen]) -> Component:
    """A row for each study."""
    rows: list[Sequence[Cell]] = []
    for study in studies:
        law = study.law
        at = "–" if law is None else f"{short(law.N)} on {short(law.D)}"
        rows.append(
            [
                link(study.name, str(Address(("study", study.name)))),
                study.state,
                "no law yet" if law is None else law.verdict,
                at,
                optimum_words(None if law is None else law.lr, rate),
                optimum_words(None if law is None else law.batch, short),
                _best_loss(study),
                flops(study.flops_spent),
                age(study.changed_at),
            ]
        )
    if not rows:
        return html.P("No study was started in this home yet: isoflop tune lr-batch")
    header = ["study", "state", "verdict", "N on D", "best peak lr there", "best batch, tokens",
              "best loss, nats/token", "spent, FLOPs", "changed"]  # fmt: skip
    return table(
        header, rows, classes=["words", "words", "words long"], label="studies of this home"
    )


def forecasts_table(
    forecasts: Sequence[tuple[Registered, list[Scored]]], sweeps: set[str]
) -> Component:
    """A row for each point of a forecast, its outcome first.

    Args:
        sweeps: names of the sweeps that have a view.
    """
    rows: list[Sequence[Cell]] = []
    for forecast, scores in forecasts:
        source: Cell = forecast.source
        name = forecast.source.removeprefix("sweep ")
        if name in sweeps:
            source = link(forecast.source, str(sweep_address(name)))
        for place, point in enumerate(forecast.points):
            of_point = [score for score in scores if score.point == place]
            rows.append(
                [
                    forecast.name,
                    _outcome(of_point),
                    f"{short(point.n_params)} on {short(point.tokens)}",
                    f"{point.loss:.4f}",
                    f"{point.lower:.4f} to {point.upper:.4f} ({point.level:.0%})",
                    _reached(of_point),
                    source,
                    forecast.written_at.strftime("%Y-%m-%d %H:%M"),
                ]
            )
    if not rows:
        return html.P("No forecast is registered: isoflop forecast TABLE --at N,D --register NAME")
    header = ["forecast", "outcome", "N on D", "loss foretold, nats/token", "interval",
              "loss", "from", "written"]  # fmt: skip
    return table(header, rows, classes=["words", "words", "words", "", "", "", "words", "words"])


def _outcome(scores: Sequence[Scored]) -> str:
    """Whether the losses of a point lie inside its interval."""
    if not scores:
        return "waits for its run"
    hits = sum(score.inside for score in scores)
    if 0 < hits < len(scores):
        return f"{hits} of {len(scores)} hit"
    return "hit" if hits else "miss"


def _reached(scores: Sequence[Scored]) -> Cell:
    """The loss that a run reached, or the mean of several, with a link to a run of this home."""
    if not scores:
        return "–"
    words = f"{fmean(score.loss for score in scores):.4f}"
    if len(scores) > 1:
        return f"{words}, mean of {len(scores)}"
    run = scores[0].run_id
    return words if run is None else link(words, str(Address(("run", run))))


def age(changed_at: float) -> str:
    """How long ago a file was written: 42 s, 3 min, 2 h, 5 d."""
    seconds = max(0.0, time.time() - changed_at)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
