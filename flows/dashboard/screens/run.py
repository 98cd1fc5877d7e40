"""Everything known about one run, as isoflop show prints it."""

from dash import html
from dash.development.base_component import Component

from analysis.page import Page
from analysis.words import flops, rate, short
from flows.dashboard.address import Address, sweep_address
from flows.dashboard.library import signature
from flows.dashboard.python_lines import python_of_run
from flows.dashboard.render import aria, link
from flows.dashboard.screens.progress import add_curves
from flows.dashboard.screens.screen import NotHereError, Screen
from flows.dashboard.seen import RunsSeen, StudySeen
from flows.dashboard.subjects import Desk
from flows.mirror.addresses import run_address
from flows.results.show import (
    LOSSES_HEADER,
    POOLED,
    SOURCES_HEADER,
    loss_rows,
    run_document,
    source_rows,
)
from flows.runs.attempts import read_attempts
from flows.runs.directory import RunDir
from flows.watch.progress import span


class RunScreen(Screen):
    """A run's state, losses, cost, curve and provenance."""

    def __init__(self, desk: Desk, address: Address) -> None:
        super().__init__(desk, address)
        known = {path.name for path in desk.library.home.runs.glob("*")}
        if address.path[1] not in known:
            raise NotHereError(f"no run {address.path[1]!r} in {desk.library.home.runs}.")
        self.run = RunDir(desk.library.home.runs / address.path[1])
        try:
            self.planned = self.run.planned()
        except (FileNotFoundError, ValueError) as error:
            raise NotHereError(f"run {self.run.id} cannot be read: {error}") from error
        self.title = f"Run {self.planned.name}"

    def stamp(self) -> str:
        """The states of its files."""
        files = (self.run.result_path, self.run.curve_path, self.run.attempts_path)
        return str([signature(path) for path in files])

    def controls(self) -> list[Component]:
        """Links to its sweeps and studies, to MLflow and to its own flow run in Prefect."""
        desk = self.desk
        links: list[Component] = [_link(seen) for seen in self._of()]
        mlflow = run_address(self.planned.sweep, self.run.path, desk.settings, desk.library.home)
        if mlflow is not None:
            links.append(html.A("MLflow", href=mlflow))
        flows = [each.flow_run for each in read_attempts(self.run) if each.flow_run is not None]
        if flows:
            prefect = f"{desk.settings.prefect_address}/runs/flow-run/{flows[-1]}"
            links.append(html.A("Prefect", href=prefect))
        return [html.Nav(links, className="tabs", **aria(label="beside this run"))]

    def make_page(self) -> Page:
        """Its facts, its losses, its curve, and where its files are."""
        sweeps = [seen.name for seen in self._of()]
        document = run_document(self.run, self.desk.library.home, sweeps)
        page = Page(self.title)
        reason = f": {document['reason']}" if document["reason"] else ""
        page.text(f"{document['state']}{reason}", role="warn" if reason else "lead")
        page.key_figures(
            [
                (short(document["n_params"]), "parameters N"),
                (f"{document['steps_done']:,} of {document['steps']:,}", "steps"),
                (flops(document["spent"]["flops"]), "counted FLOPs spent"),
                (span(document["spent"]["device_s"]), "device time"),
            ]
        )
        page.table(LOSSES_HEADER, loss_rows(document["losses"]))
        if by_source := source_rows(document["losses"]):
            page.table(SOURCES_HEADER, by_source)
            page.text(f"{POOLED[0].upper()}{POOLED[1:]}.", role="soft")
        curves = self.desk.library.curves([self.planned])
        branches = curves["run_id"].n_unique() > 1 if curves.height else False
        add_curves(
            page, curves, "Loss curve, with a cooldown to each D" if branches else "Loss curve"
        )
        page.heading("How it was made")
        page.points(
            [
                f"Peak learning rate {rate(document['lr'])} ({document['lr_source']}), batch of "
                f"{document['batch_tokens']:,} tokens, seed {document['seed']}.",
                f"Attempts: {len(document['attempts'])}.",
                f"Files: {self.run.path}.",
                *(f"Next: {command}" for command in document["next"]),
            ]
        )
        return page

    def _of(self) -> list[RunsSeen]:
        """The sweeps and studies that it belongs to."""
        library = self.desk.library
        seen = (*library.sweeps(), *library.studies())
        return [each for each in seen if self.run.id in each.run_ids]

    def python(self, figure: str) -> str | None:
        return python_of_run(self.desk.library.home.root, self.run.id)


def _link(seen: RunsSeen) -> Component:
    """A link to a sweep or a study."""
    if isinstance(seen, StudySeen):
        return link(f"Study {seen.name}", str(Address(("study", seen.name))))
    return link(f"Sweep {seen.name}", str(sweep_address(seen.name)))
