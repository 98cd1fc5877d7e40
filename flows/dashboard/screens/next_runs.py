"""Which small runs would sharpen the forecast of a target most, and whether they pay."""

import math
from typing import Any

from dash import html
from dash.development.base_component import Component

from analysis.next_runs.answer import NextRuns
from analysis.next_runs.page import next_page
from analysis.page import Page
from analysis.words import flops
from flows.dashboard import answers, controls
from flows.dashboard.fits import Outcome
from flows.dashboard.python_lines import python_of_answer
from flows.dashboard.screens.law import SubjectScreen
from flows.dashboard.screens.screen import add_note
from flows.plans.next_candidates import SHARE, of_sweep, of_table


class NextScreen(SubjectScreen):
    """The answer of isoflop next."""

    def controls(self) -> list[Component]:
        """Sliders for the target and for how many runs."""
        low, high = self._span()
        return [
            self.tabs(),
            html.Div(
                [
                    controls.slider(
                        "target", "Target: training FLOPs, power of ten", (low, high), 0.1,
                        round(math.log10(self._target()), 2),
                    ),
                    controls.slider("runs", "Runs, at most", (1, 10), 1, self._runs()),
                ],
                className="controls",
            ),
        ]  # fmt: skip

    def make_page(self) -> Page:
        """The runs to train next, and the command that writes them as a spec."""
        page, target, outcome = Page(self.title), self._target(), self.outcome()
        page.text(
            f"Asked: the runs, {self._runs()} at most, that make N* and the loss at "
            f"{flops(target)} FLOPs surer, for up to a third of it.",
            role="soft",
        )
        add_note(page, outcome)
        if isinstance(outcome.value, str):
            page.text(outcome.value, role="warn")
        elif outcome.value is not None:
            page.parts += next_page(outcome.value, title=self.title).parts
            kind = "next.csv" if self.sweep is None else "next.yaml"
            page.text(
                f"To write them down: isoflop next {self.subject.name} --flops {target:.3g} "
                f"--runs {self._runs()} --to {kind}"
            )
        return page

    def python(self, figure: str) -> str | None:
        subject = self.subject
        made = f"isoflop.next({subject.door}, flops={self._target()}, runs={self._runs()})"
        return python_of_answer(figure, made, subject.before)

    def outcome(self) -> Outcome[NextRuns | str]:
        """The runs."""
        target, runs = self._target(), self._runs()
        question = ("next", *self.address.path[:2], target, runs)

        def arguments() -> tuple[Any, ...]:
            table = self.subject.table()
            if self.sweep is None:
                offered = of_table(table, None, SHARE * target)
            else:
                _, offered = of_sweep(self.sweep.whole.plan, table, None, SHARE * target)
            return table, offered, target, SHARE * target, runs

        try:
            return self.desk.fits.get(
                question, self.subject.state, answers.chosen, arguments, topic=self.address.path
            )
        except ValueError as error:
            return Outcome(str(error))

    def _span(self) -> tuple[float, float]:
        used = self.subject.table().used
        top = math.log10(max(used["flops_6nd"].to_numpy())) if used.height else 12.0
        return math.floor(top * 10) / 10, math.ceil(top) + 3.0

    def _target(self) -> float:
        low, high = self._span()
        power = self.address.number("target", round(low + 1.0, 1))
        return float(10 ** min(max(power, low), high))

    def _runs(self) -> int:
        return round(min(max(self.address.number("runs", 5), 1), 10))
