"""The first view: every sweep, study and registered forecast of the home."""

import time
from collections.abc import Sequence
from pathlib import Path

from dash import dcc, html
from dash.development.base_component import Component

from analysis.sparkline import sparkline
from analysis.sweep.brief import LEVEL, Brief
from analysis.words import counted, flops, short
from flows.dashboard.address import sweep_address
from flows.dashboard.library import SweepSeen, signature
from flows.dashboard.render import Cell, link, table
from flows.dashboard.screens.law import age
from flows.dashboard.screens.screen import Screen
from flows.files import read_object
from flows.forecasts.registered import Registered, Scored

_FORECASTS = 20
_MOST_BYTES = 30 * 2**20


class HomeScreen(Screen):
    """All sweeps and studies, and the newest forecasts."""

    title = "isoflop"

    def stamp(self) -> str:
        """The states of all sweeps, and the forecasts."""
        sweeps = [(sweep.name, sweep.stamp) for sweep in self.desk.library.sweeps()]
        studies = [signature(path) for path in self._studies()]
        # Ages are shown to the minute.
        minute = int(time.time() // 60)
        return f"{hash((tuple(sweeps), tuple(studies), minute)):x} {len(self._forecasts())}"

    def controls(self) -> list[Component]:
        """Where a table of runs can be dropped."""
        return [
            dcc.Upload(
                html.Div(
                    [
                        "Drop a table of finished runs here, or ",
                        html.Button("choose a file", type="button"),
                        f": up to {_MOST_BYTES // 2**20} MiB, fitted on the spot, in memory alone.",
                    ]
                ),
                id="drop",
                className="drop",
                max_size=_MOST_BYTES,
            ),
            html.P(id="refused", role="alert"),
        ]

    def body(self) -> list[Component]:
        """Three tables."""
        sweeps = self.desk.library.sweeps()
        parts: list[Component] = [html.P(f"Home {self.desk.library.home.root}", className="soft")]
        parts.append(html.H2("Sweeps"))
        if sweeps:
            parts.append(_sweeps_table(sweeps))
            parts.append(
                html.P(
                    f"N* is at ten times the largest budget of a sweep's runs, C = 6·N·D; "
                    f"intervals are {LEVEL:.0%}. Budget: counted FLOPs spent, of those planned.",
                    className="soft",
                )
            )
        else:
            parts.append(html.P("No sweep was started in this home yet: isoflop sweep smoke"))
        parts.append(html.H2("Studies of learning rate and batch"))
        parts.append(self._studies_table())
        forecasts = self._forecasts()
        parts.append(html.H2("Registered forecasts"))
        parts.append(forecasts_table(forecasts[:_FORECASTS]))
        if len(forecasts) > _FORECASTS:
            words = f"All {len(forecasts)} forecasts; the newest {_FORECASTS} are above"
            parts.append(html.P(link(words, "/forecasts")))
        return parts

    def _forecasts(self) -> list[tuple[Registered, list[Scored]]]:
        return self.desk.library.forecasts()

    def _studies(self) -> list[Path]:
        return sorted(self.desk.library.home.tunes.glob("*/*.json"))

    def _studies_table(self) -> Component:
        folders = sorted({path.parent for path in self._studies()})
        rows: list[Sequence[Cell]] = []
        for folder in folders:
            spec = read_object(folder / "spec.json")
            law = folder / "law.json"
            widths = (spec.get("ladder") or {}).get("widths") or []
            rows.append(
                [
                    folder.name,
                    "its laws are fitted" if law.exists() else "no law yet",
                    f"{spec.get('trials', '–')} at each of {counted(len(widths), 'width')}",
                    str(folder / "report.html") if (folder / "report.html").exists() else "–",
                    age(max(signature(path)[0] for path in folder.glob("*.json")) / 1e9),
                ]
            )
        if not rows:
            return html.P("No study was started in this home yet: isoflop tune lr-batch")
        header = ["study", "verdict", "trials", "report", "changed"]
        return table(header, rows, classes=["words", "words", "words", "words long", ""])


class ForecastsScreen(Screen):
    """All registered forecasts."""

    title = "Registered forecasts"

    def stamp(self) -> str:
        """How many there are, and how many scores."""
        forecasts = self.desk.library.forecasts()
        return f"{len(forecasts)} {sum(len(scores) for _, scores in forecasts)}"

    def body(self) -> list[Component]:
        """One table."""
        return [forecasts_table(self.desk.library.forecasts())]


def _sweeps_table(sweeps: Sequence[SweepSeen]) -> Component:
    names = ("state", "verdict", "N* of its law", "N* ~ C^", "best loss, nats/token",
             "budget, FLOPs", "changed")  # fmt: skip
    return table(
        ["sweep", *names],
        [_sweep_row(sweep) for sweep in sweeps],
        classes=["words", "words", "words long", "", "", "", "", ""],
        label="sweeps of this home",
    )


def _sweep_row(sweep: SweepSeen) -> list[Cell]:
    law = sweep.law
    best = sweep.best_losses()
    picture: Cell = "–"
    if best:
        words = f"best loss from {best[0]:.4f} to {best[-1]:.4f} over {counted(len(best), 'run')}"
        picture = html.Span([html.Img(src=sparkline(best), alt=words), f"{best[-1]:.4f}"])
    planned = sweep.flops_planned
    return [
        link(sweep.name, str(sweep_address(sweep.name))),
        sweep.state,
        # The whole sentence is on the sweep's page.
        law.verdict.partition(":")[0] if law is not None else "no law yet",
        *(_law_cells(law) if law is not None else ("–", "–")),
        picture,
        f"{flops(sweep.flops_spent)} ({sweep.flops_spent / planned:.0%})",
        age(sweep.changed_at),
    ]


def _law_cells(law: Brief) -> tuple[str, str]:
    size = "withheld" if law.n_opt is None else short(law.n_opt)
    if law.n_opt is not None and law.n_interval is not None:
        size += f" [{short(law.n_interval[0])}, {short(law.n_interval[1])}]"
    exponent = f"{law.exponent:.2f}"
    if law.exponent_interval is not None:
        exponent += f" [{law.exponent_interval[0]:.2f}, {law.exponent_interval[1]:.2f}]"
    return size, exponent


def forecasts_table(forecasts: Sequence[tuple[Registered, list[Scored]]]) -> Component:
    """A row for each forecast, its outcome first."""
    rows = []
    for forecast, scores in forecasts:
        hits = sum(score.inside for score in scores)
        outcome = "waits for its run"
        if scores:
            outcome = "hit" if hits == len(scores) else f"{hits} of {len(scores)} hit"
            outcome = "miss" if not hits else outcome
        first = forecast.points[0]
        more = f" and {len(forecast.points) - 1} more" if len(forecast.points) > 1 else ""
        losses = ", ".join(f"{score.loss:.4f}" for score in scores[:3]) or "–"
        rows.append(
            [
                forecast.name,
                outcome,
                f"{short(first.n_params)} on {short(first.tokens)}{more}",
                f"{first.loss:.4f}",
                f"{first.lower:.4f} to {first.upper:.4f} ({first.level:.0%})",
                losses,
                forecast.source,
                forecast.written_at.strftime("%Y-%m-%d %H:%M"),
            ]
        )
    if not rows:
        return html.P("No forecast is registered: isoflop forecast TABLE --at N,D --register NAME")
    header = ["forecast", "outcome", "N on D", "loss foretold, nats/token", "interval",
              "loss", "from", "written"]  # fmt: skip
    return table(header, rows, classes=["words", "words", "words", "", "", "", "words", "words"])
