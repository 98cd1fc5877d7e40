"""Two or more sweeps side by side: each against the first that is chosen."""

from dataclasses import replace

from dash.development.base_component import Component

from analysis.compare.answer import Comparison
from analysis.compare.page import compare_page
from analysis.page import Drawn, Page
from flows.dashboard import answers, controls
from flows.dashboard.fits import Outcome
from flows.dashboard.library import SweepSeen
from flows.dashboard.python_lines import python_of_comparison
from flows.dashboard.screen import Screen
from flows.dashboard.subjects import SweepSubject
from flows.results.compare import sweep_differences

_MOST = 5


class CompareScreen(Screen):
    """The answer of isoflop compare for the first sweep and each of the others."""

    title = "Compare sweeps"

    def body(self) -> list[Component]:
        """Which sweeps, and their comparisons."""
        names = sorted(sweep.name for sweep in self.desk.library.sweeps())
        words = f"Sweeps, up to {_MOST}; each is compared with the one that was chosen first"
        chosen = controls.choices(self.address, "sweeps", words, names, self._names())
        return [chosen, *super().body()]

    def stamp(self) -> str:
        """The states of the sweeps, and which comparisons are there."""
        awaited = [outcome.awaited for _, outcome in self._outcomes()]
        return f"{[sweep.stamp for sweep in self._sweeps()]} {awaited}"

    def make_page(self) -> Page:
        """A section for each sweep beside the first."""
        page = Page(self.title)
        sweeps = self._sweeps()
        if len(sweeps) < 2:
            page.text("Choose two sweeps or more.")
            return page
        for other, outcome in self._outcomes():
            page.heading(f"{other.name} against {sweeps[0].name}")
            if outcome.note:
                page.text(outcome.note, role="warn" if outcome.failure else "busy")
            if outcome.value is not None:
                self._add(page, sweeps[0], other, outcome.value)
        return page

    def python(self, figure: str) -> str | None:
        """The lines that draw one of its figures."""
        kind, _, other = figure.partition("@")
        home, names = self.desk.library.home.root, (self._sweeps()[0].name, other)
        return python_of_comparison(kind, home, names)

    def _add(self, page: Page, first: SweepSeen, other: SweepSeen, comparison: Comparison) -> None:
        found = sweep_differences(first.plan, other.plan, self.desk.library.home)
        parts = compare_page(
            comparison, differences=found.rows(), facts=found.facts(), doubts=found.doubts
        ).parts
        for part in parts:
            named = (
                replace(part, name=f"{part.name}@{other.name}") if isinstance(part, Drawn) else part
            )
            page.parts.append(named)

    def _names(self) -> list[str]:
        return [name for name in self.address.get("sweeps").split(",") if name][:_MOST]

    def _sweeps(self) -> list[SweepSeen]:
        found = (self.desk.library.sweep(name) for name in dict.fromkeys(self._names()))
        return [sweep for sweep in found if sweep is not None]

    def _outcomes(self) -> list[tuple[SweepSeen, Outcome[Comparison]]]:
        sweeps = self._sweeps()
        return [(other, self._outcome(sweeps[0], other)) for other in sweeps[1:]]

    def _outcome(self, first: SweepSeen, other: SweepSeen) -> Outcome[Comparison]:
        names, state = (first.name, other.name), (first.losses, other.losses)
        known = self.desk.fits.peek(("compare", *names), state)
        if known is not None:
            return known
        tables = [SweepSubject(self.desk, sweep).own_table() for sweep in (first, other)]
        return self.desk.fits.get(("compare", *names), state, answers.compared, *tables, names)
