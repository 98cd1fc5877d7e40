"""Sweeps whose runs share no law of N and D: variants of the architecture, and mixtures."""

from dash import html
from dash.development.base_component import Component

from analysis.mixtures.page import mix_page
from analysis.page import Page
from analysis.sweep.scan import add_scans
from flows.dashboard import answers
from flows.dashboard.address import Address
from flows.dashboard.fits import Outcome
from flows.dashboard.python_lines import python_of_answer, python_of_comparison, python_of_scans
from flows.dashboard.render import aria, link
from flows.dashboard.screens.law import SubjectScreen
from flows.dashboard.screens.lists import sweeps_table
from flows.dashboard.seen import SweepSeen
from flows.results.mixtures import Mixed
from flows.results.variants import add_comparison
from sweeps.plan import members


class VariantsScreen(SubjectScreen):
    """Every variant with its law, and what each is worth against the base."""

    def body(self) -> list[Component]:
        """A table of the variants, and their comparison."""
        variants = self._variants()
        if not variants:
            return super().body()
        beside = Address(("compare",), {"sweeps": ",".join(each.name for each in variants)})
        choose = link("Choose which of them are compared", str(beside))
        listed = sweeps_table(variants, {}, f"variants of {self.subject.name}")
        return [listed, html.Nav(choose, className="choice", **aria(label="beside")),
                *super().body()]  # fmt: skip

    def make_page(self) -> Page:
        """The comparison as the report has it, how rates were chosen, and the curves."""
        outcome = self.outcome()
        page = self.new_page(outcome)
        if outcome.value is not None:
            scans, comparison = outcome.value
            add_comparison(page, comparison)
            add_scans(page, scans)
        self.add_curves(page)
        return page

    def python(self, figure: str) -> str | None:
        home = self.desk.library.home.root
        if figure == "scans":
            return python_of_scans(home, self.subject.name)
        names = [each.name for each in self._variants()]
        return super().python(figure) or python_of_comparison(figure, home, names)

    def _variants(self) -> list[SweepSeen]:
        assert self.sweep is not None
        names = (each.spec.name for each in members(self.sweep.plan).values() if each.runs)
        return list(filter(None, map(self.desk.library.sweep, names)))

    def outcome(self) -> Outcome[answers.ComparedVariants]:
        """The comparison of the variants."""
        assert self.sweep is not None
        plan, home = self.sweep.plan, self.desk.library.home
        question = ("variants", self.subject.name)
        return self.desk.fits.get(
            question, self.subject.state, answers.variants, lambda: (plan, home)
        )


class MixturesScreen(SubjectScreen):
    """The best shares, what each source does, and how well the law foretells."""

    def make_page(self) -> Page:
        """The answer of isoflop mix, and the curves."""
        outcome = self.outcome()
        page = self.new_page(outcome)
        mixed = outcome.value
        if mixed is not None and mixed.answer is None:
            page.text(mixed.sentences[0], role="lead")
        elif mixed is not None and mixed.answer is not None:
            page.parts += mix_page(mixed.answer, title=self.title).parts
            page.text(f"For another target or stock: isoflop mix {self.subject.name} --target …")
        self.add_curves(page)
        return page

    def python(self, figure: str) -> str | None:
        subject = self.subject
        return super().python(figure) or python_of_answer(
            figure, f"isoflop.mix({subject.door})", subject.before
        )

    def outcome(self) -> Outcome[Mixed]:
        """The law of the shares."""
        assert self.sweep is not None
        plan, home = self.sweep.plan, self.desk.library.home
        question = ("mixtures", self.subject.name)
        return self.desk.fits.get(
            question, self.subject.state, answers.mixtures, lambda: (plan, home)
        )
