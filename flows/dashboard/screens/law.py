"""The first view of a sweep or a dropped table: answer, curves, valleys, law."""

from pathlib import Path
from typing import Any, cast

from dash import html
from dash.development.base_component import Component

from analysis.fit.conventions import count_columns, counted_as
from analysis.fit.isoflop import fit_isoflop
from analysis.fit.page import add_fit
from analysis.law import CCounts
from analysis.page import Page
from analysis.sweep.answer import Findings
from analysis.sweep.by_source import add_by_source
from analysis.sweep.page import add_curves, add_largest, add_law, add_valleys
from analysis.table.observations import COUNTS as N_COUNTS
from analysis.words import COUNTS, FLOPS
from flows.dashboard import controls
from flows.dashboard.address import Address, sweep_address, sweep_name
from flows.dashboard.fits import Outcome
from flows.dashboard.python_lines import counted_runs, python_of_answer, python_of_curves
from flows.dashboard.render import aria, link
from flows.dashboard.screens.progress import add_progress, run_links
from flows.dashboard.screens.screen import NotHereError, Screen, add_note
from flows.dashboard.seen import SweepSeen
from flows.dashboard.subjects import Counts, Desk, Subject, SweepSubject, TableSubject
from flows.dispatch.underway import controllers
from flows.mirror.addresses import sweep_address as mlflow_address
from sweeps.plan import members

TABS = {"frontier": "Frontier", "next": "Next runs", "runs": "Runs"}


class SubjectScreen(Screen):
    """What the views of a sweep or a table share."""

    def __init__(self, desk: Desk, address: Address) -> None:
        super().__init__(desk, address)
        kind, name = address.path[:2]
        self.sweep: SweepSeen | None = None
        if kind == "sweep":
            name = sweep_name(name)
            self.sweep = desk.library.sweep(name)
            if self.sweep is None:
                raise NotHereError(f"no sweep {name!r} in {desk.library.home.root}.")
            self.subject: Subject = SweepSubject(desk, self.sweep)
            self.title = f"Sweep {name}"
            asked = address.path[2:]
            if self.sweep.plan.spec.variants and asked in (("frontier",), ("next",)):
                one = next(iter(members(self.sweep.plan).values())).spec.name
                raise NotHereError(
                    f"the variants of {name} have laws of their own: ask one, as at "
                    f"{sweep_address(one)}/{asked[0]}."
                )
            if not self.has_one_law and asked in (("frontier",), ("next",)):
                raise NotHereError(
                    f"the runs of {name} have different mixtures, and no law of N and D together: "
                    f"isoflop mix {name} has the law of their shares."
                )
        else:
            dropped = desk.dropped.peek(name)
            if dropped is None:
                raise NotHereError(
                    "this table is not here: a dropped table is forgotten when the dashboard "
                    "stops, and after a hundred others. Drop it again on the first page."
                )
            self.subject = TableSubject(desk, name, *dropped)
            self.title = f"Table {self.subject.name}"

    @property
    def has_one_law(self) -> bool:
        """Whether it is no sweep of variants or of mixtures."""
        return self.sweep is None or self.sweep.plan.spec.has_one_law

    @property
    def counts(self) -> Counts:
        """What N and C count in the address."""
        own = self.subject.own_counts[1]
        other: CCounts = "flops_6nd" if own == "train_flops" else "train_flops"
        n = self.address.choice("n", ("n_params", *N_COUNTS))
        return n, cast(CCounts, self.address.choice("c", (own, other)))

    def stamp(self) -> str:
        """The state of its files, and whether its fit is there."""
        files = self.subject.state if self.sweep is None else self.sweep.stamp
        return f"{files} {self.awaited()}"

    def outcome(self) -> Outcome[Any] | None:
        """The answer that the view shows, computed in the background; None where it shows none."""
        return None

    def awaited(self) -> bool:
        """Whether an answer that the view shows is still computed."""
        outcome = self.outcome()
        return outcome is not None and outcome.awaited

    def python(self, figure: str) -> str | None:
        """The lines that draw one of its figures: those of its runs' curves."""
        if figure == "loss-curves" and self.sweep is not None:
            return python_of_curves(self.desk.library.home.root, self.sweep.name)
        return None

    def controls(self) -> list[Component]:
        """Links to the other views."""
        return [self.tabs(), *self.elsewhere()]

    def links(self) -> dict[str, str]:
        """Views of its runs."""
        return {} if self.sweep is None else run_links(self.sweep)

    def new_page(self, outcome: Outcome[Any]) -> Page:
        """A page that begins with what its answer waits for, and the progress of its sweep."""
        page = Page(self.title)
        add_note(page, outcome)
        if self.sweep is not None:
            add_progress(page, self.sweep, "runs")
        return page

    def add_curves(self, page: Page) -> None:
        """The loss curves of a sweep, and whose they are."""
        if self.sweep is None:
            return
        for sentence in self.sweep.whole.sentences:
            page.text(sentence, role="soft")
        curves = self.desk.library.curves(self.sweep.whole.plan.runs)
        if not curves.is_empty():
            add_curves(page, curves)

    def elsewhere(self) -> list[Component]:
        """Links to MLflow and Prefect, which answer after isoflop up."""
        if self.sweep is None:
            return []
        return [elsewhere(self.desk, self.sweep.name, self.desk.library.home.sweeps)]

    def tabs(self) -> Component:
        """Links to the views beside this one."""
        here = self.address.path[2] if len(self.address.path) > 2 else ""
        links: list[Component] = []
        for last, words in {"": self._first_tab(), **TABS}.items():
            if last == "runs" and self.sweep is None:
                continue
            if last in ("frontier", "next") and not self.has_one_law:
                continue
            href = str(Address((*self.address.path[:2], *([last] if last else []))))
            # dcc.Link passes no attribute on to its element.
            current = html.A(words, href=href, **aria(current="page"))
            links.append(html.Span(current if last == here else link(words, href)))
        if self.sweep is not None and self.has_one_law:
            links.append(link("Compare", str(Address(("compare",), {"sweeps": self.sweep.name}))))
        if self.sweep is not None and self.sweep.plan.spec.is_variant:
            family = self.sweep.name.rpartition("/")[0]
            links.append(link(f"All variants of {family}", str(sweep_address(family))))
        return html.Nav(links, className="tabs", **aria(label=f"views of {self.subject.name}"))

    def _first_tab(self) -> str:
        """What the first view of a sweep or a table shows."""
        spec = None if self.sweep is None else self.sweep.plan.spec
        if spec is not None and spec.variants:
            return "Variants"
        return "Best shares" if spec is not None and spec.mixtures is not None else "Law"


def elsewhere(desk: Desk, name: str, folder: Path) -> Component:
    """Where else a sweep or a study is seen.

    Args:
        folder: of all sweeps, or of all studies.
    """
    settings, home = desk.settings, desk.library.home
    mlflow = mlflow_address(name, settings, home) or settings.mlflow_address
    runs = [each.flow_run for each in controllers(folder / name) if each.flow_run]
    flow = f"/runs/flow-run/{runs[-1]}" if runs else "/runs"
    prefect = f"{settings.prefect_address}{flow}"
    links = html.A("MLflow", href=mlflow), html.A("Prefect", href=prefect)
    return html.P(["Also in ", links[0], " and ", links[1], ", after isoflop up."],
                  className="soft")  # fmt: skip


class LawScreen(SubjectScreen):
    """The answer first, then progress and curves, valleys, law and residuals."""

    def outcome(self) -> Outcome[Findings]:
        """The law."""
        return self.subject.findings(self.counts)

    def body(self) -> list[Component]:
        """The switch of counts, and the page."""
        return [*self._switch(), *super().body()]

    def _switch(self) -> list[Component]:
        """What N and C count, as far as the table has them."""
        table = self.subject.table()
        used, own = table.used, {"n_params": table.n_counts}
        columns = count_columns(used) if used.height else ["n_params"]
        words = {column: COUNTS[own.get(column, N_COUNTS[column])] for column in columns}
        flops = {"flops_6nd": FLOPS["flops_6nd"]}
        if table.c_counts == "train_flops":
            flops = {"train_flops": "counted", **flops}
        n, c = self.counts
        return [
            controls.choice(self.address, "n", "N counts", words, n),
            controls.choice(self.address, "c", "C is", flops, c),
        ]

    def make_page(self) -> Page:
        """The report as far as it is known."""
        outcome = self.outcome()
        page, findings = self.new_page(outcome), outcome.value
        if findings is None or findings.group is None:
            if findings is not None:
                page.text(f"There is no law yet: {findings.refusal}", role="lead")
            table = counted_as(self.subject.table(), *self.counts)
            used, counts = table.used, (table.n_counts, table.c_counts)
            if used.height:
                add_valleys(page, used, fit_isoflop(used), counts=counts, withheld=True)
        elif self.sweep is not None:
            add_law(page, findings.group, findings.lead)
        else:
            lead = findings.lead.sentence if findings.lead is not None else ""
            add_fit(page, findings.group, prefix="fit", lead=lead)
        if findings is not None and findings.largest is not None:
            add_largest(page, findings.largest)
        self.add_curves(page)
        if self.sweep is not None:
            add_by_source(page, self.subject.table().frame)
        return page

    def python(self, figure: str) -> str | None:
        name, subject = figure.removeprefix("fit-"), self.subject
        if (curves := super().python(name)) is not None:
            return curves
        if self.counts == subject.own_counts:
            return python_of_answer(name, subject.door_fit, subject.before)
        runs = counted_runs(subject.door_runs, self.counts)
        return python_of_answer(name, "isoflop.fit(runs)", f"{subject.before}{runs}")
