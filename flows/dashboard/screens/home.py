"""The first view: every sweep, study and registered forecast of the home."""

import time
from collections.abc import Sequence
from typing import TypeVar

from dash import dcc, html
from dash.development.base_component import Component

from analysis.sweep.answer import Findings
from analysis.sweep.brief import LEVEL, brief
from flows.dashboard import controls
from flows.dashboard.render import link
from flows.dashboard.screens.lists import SoFar, forecasts_table, studies_table, sweeps_table
from flows.dashboard.screens.screen import Screen
from flows.dashboard.seen import RunsSeen, SweepSeen
from flows.dashboard.subjects import OWN, SweepSubject
from flows.forecasts.registered import Registered, Scored

_FORECASTS = 20
# Sweeps among which one is found at a glance.
_FEW = 10
_MOST_BYTES = 30 * 2**20
_NONE = html.P("None holds the words above.")
_Seen = TypeVar("_Seen", bound=RunsSeen)


class HomeScreen(Screen):
    """All sweeps and studies, and the newest forecasts."""

    title = "isoflop"

    def stamp(self) -> str:
        """The states of all sweeps and studies, their laws so far, and the forecasts."""
        sweeps, studies = self.desk.library.sweeps(), self.desk.library.studies()
        states = [(each.name, each.stamp) for each in (*sweeps, *studies)]
        laws = [(name, id(findings)) for name, findings in self._findings(sweeps).items()]
        # Ages are shown to the minute.
        minute = int(time.time() // 60)
        return f"{hash((tuple(states), tuple(laws), minute)):x} {len(self._forecasts())}"

    def controls(self) -> list[Component]:
        """Where a table of runs can be dropped; among many sweeps a filter."""
        sought = self.address.get("q")
        words = "Show sweeps and studies that hold these words, such as training or a name"
        many = len(self._whole(self.desk.library.sweeps())) > _FEW or sought
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
            *([controls.search("q", words, sought)] if many else []),
        ]

    def body(self) -> list[Component]:
        """Three tables."""
        sweeps = self.desk.library.sweeps()
        parts: list[Component] = [html.P(f"Home {self.desk.library.home.root}", className="soft")]
        parts.append(html.H2("Sweeps"))
        if sweeps:
            so_far = {name: _so_far(findings) for name, findings in self._findings(sweeps).items()}
            whole = self._sought(self._whole(sweeps))
            parts.append(sweeps_table(whole, so_far, "sweeps of this home") if whole else _NONE)
            parts.append(
                html.P(
                    f"N* is at ten times the largest budget of a sweep's runs, C = 6·N·D; "
                    f"intervals are {LEVEL:.0%}. Budget: counted FLOPs spent, of those planned. "
                    "So far: a law of the losses that are there, while runs still train.",
                    className="soft",
                )
            )
        else:
            parts.append(html.P("No sweep was started in this home yet: isoflop sweep smoke"))
        parts.append(html.H2("Studies of learning rate and batch"))
        studies = self.desk.library.studies()
        sought = self._sought(studies)
        parts.append(_NONE if studies and not sought else studies_table(sought))
        forecasts = self._forecasts()
        parts.append(html.H2("Registered forecasts"))
        names = {sweep.name for sweep in sweeps}
        parts.append(forecasts_table(forecasts[:_FORECASTS], names))
        if len(forecasts) > _FORECASTS:
            words = f"All {len(forecasts)} forecasts; the newest {_FORECASTS} are above"
            parts.append(html.P(link(words, "/forecasts")))
        return parts

    @staticmethod
    def _whole(sweeps: Sequence[SweepSeen]) -> list[SweepSeen]:
        """Without variants, which are on their sweep's view."""
        return [sweep for sweep in sweeps if not sweep.plan.spec.is_variant]

    def _sought(self, rows: Sequence[_Seen]) -> list[_Seen]:
        """Those whose name and state hold the words of the filter."""
        words = self.address.get("q").lower().split()
        held = (row for row in rows if all(word in f"{row.name} {row.state}" for word in words))
        return list(held if words else rows)

    def _forecasts(self) -> list[tuple[Registered, list[Scored]]]:
        return self.desk.library.forecasts()

    def _findings(self, sweeps: Sequence[SweepSeen]) -> dict[str, Findings]:
        """By name, the answers of sweeps whose runs still train, as far as they are computed.

        They are computed one after another, so that a sweep that somebody opens waits for one.
        """
        answers: dict[str, Findings] = {}
        waiting = False
        for sweep in sweeps:
            begun = any(run.result is not None for run in sweep.runs)
            if sweep.ended or sweep.reported or not (begun and sweep.plan.spec.has_one_law):
                continue
            subject = SweepSubject(self.desk, sweep)
            outcome = subject.asked(OWN)
            if outcome is None and not waiting:
                outcome = subject.findings(OWN)
            waiting = waiting or outcome is None or outcome.awaited
            if outcome is not None and outcome.value is not None:
                answers[sweep.name] = outcome.value
        return answers


def _so_far(findings: Findings) -> SoFar:
    law = None if findings.group is None else brief(findings.group.fit.law)
    return SoFar(law, (findings.table.used.height, findings.table.frame.height))


class ForecastsScreen(Screen):
    """All registered forecasts."""

    title = "Registered forecasts"

    def stamp(self) -> str:
        """How many there are, and how many scores."""
        forecasts = self.desk.library.forecasts()
        return f"{len(forecasts)} {sum(len(scores) for _, scores in forecasts)}"

    def body(self) -> list[Component]:
        """One table."""
        names = {sweep.name for sweep in self.desk.library.sweeps()}
        return [forecasts_table(self.desk.library.forecasts(), names)]
