"""Two or more sweeps side by side: each against the first that is chosen."""

from dash.development.base_component import Component

from analysis.compare.comparable import Named
from analysis.compare.page import compare_page
from analysis.compare.variants import Variants
from analysis.page import Page
from analysis.words import sentence
from flows.dashboard import answers, controls
from flows.dashboard.fits import Outcome
from flows.dashboard.python_lines import python_of_comparison
from flows.dashboard.screens.screen import Screen, add_note
from flows.dashboard.seen import SweepSeen
from flows.results.compare import compared_table, names_beside, sweep_differences

# What one process compares while a person waits.
_MOST = 12
_UNITS = {"token": "nats per token", "byte": "bits per byte, as between tokenizers"}


class CompareScreen(Screen):
    """The answer of isoflop compare for the first sweep and the others."""

    title = "Compare sweeps"

    def body(self) -> list[Component]:
        """Which sweeps, and their comparison."""
        sweeps = self.desk.library.sweeps()
        names = sorted(sweep.name for sweep in sweeps if sweep.plan.spec.has_one_law)
        words = f"Sweeps, up to {_MOST}; each is compared with the one that was chosen first"
        chosen = controls.choices(self.address, "sweeps", words, names, self._chosen())
        unit = controls.choice(self.address, "loss", "Loss in", _UNITS, self._unit())
        return [chosen, unit, *super().body()]

    def stamp(self) -> str:
        """The states of the sweeps, and whether their comparison is there."""
        sweeps = self._sweeps()
        awaited = len(sweeps) > 1 and self._outcome(sweeps).awaited
        return f"{[sweep.stamp for sweep in sweeps]} {awaited}"

    def make_page(self) -> Page:
        """What each is worth, and what it did to the law."""
        page, sweeps = Page(self.title), self._sweeps()
        compared = [sweep.name for sweep in sweeps]
        left_out = [name for name in self._chosen() if name not in compared]
        if left_out:
            page.text(
                f"Left out: {', '.join(left_out)}. A view compares up to {_MOST} sweeps of this "
                "home that have a law of N and D; of a sweep of variants choose the variants.",
                role="warn",
            )
        if len(sweeps) < 2:
            page.text("Choose two sweeps or more.")
            return page
        first, *others = sweeps
        outcome = self._outcome(sweeps)
        add_note(page, outcome)
        if isinstance(outcome.value, str):
            page.text(sentence(outcome.value), role="warn")
        elif outcome.value is not None:
            _, *names = names_beside(compared)
            home = self.desk.library.home
            contexts = {
                name: sweep_differences(first.plan, other.plan, home).context
                for name, other in zip(names, others, strict=True)
            }
            page.parts += compare_page(outcome.value, contexts).parts
        return page

    def python(self, figure: str) -> str | None:
        names = [sweep.name for sweep in self._sweeps()]
        return python_of_comparison(
            figure, self.desk.library.home.root, names, bits=self._unit() == "byte"
        )

    def _unit(self) -> str:
        return self.address.choice("loss", tuple(_UNITS))

    def _chosen(self) -> list[str]:
        names = self.address.get("sweeps").split(",")
        return list(dict.fromkeys(name for name in names if name))

    def _sweeps(self) -> list[SweepSeen]:
        sweeps = map(self.desk.library.sweep, self._chosen())
        known = [sweep for sweep in sweeps if sweep is not None and sweep.plan.spec.has_one_law]
        return known[:_MOST]

    def _outcome(self, sweeps: list[SweepSeen]) -> Outcome[Variants | str]:
        names = tuple(sweep.name for sweep in sweeps)
        state = tuple(sweep.losses for sweep in sweeps)
        bits = self._unit() == "byte"
        asked = ("compare", names, bits)

        def arguments() -> tuple[list[Named], bool]:
            plans = zip(names_beside(names), sweeps, strict=True)
            home = self.desk.library.home
            return [(name, compared_table(sweep.plan, home)) for name, sweep in plans], bits

        return self.desk.fits.get(asked, state, answers.compared, arguments)
