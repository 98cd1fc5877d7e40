"""A study of learning rate and batch: its answer, its trials, and their curves while they train."""

from dash.development.base_component import Component

from analysis.page import Page
from analysis.tuning.answer import LrFit
from analysis.tuning.page import add_trials, add_tuned
from flows.dashboard import answers
from flows.dashboard.address import Address
from flows.dashboard.fits import Outcome
from flows.dashboard.python_lines import python_of_study
from flows.dashboard.screens.law import elsewhere
from flows.dashboard.screens.progress import add_curves, add_progress, run_links
from flows.dashboard.screens.screen import NotHereError, Screen, add_note
from flows.dashboard.subjects import Desk
from flows.tuning.ranges import study_ranges
from flows.tuning.stored import trials_now


class StudyScreen(Screen):
    """The answer of isoflop tune as far as its trials have ended."""

    def __init__(self, desk: Desk, address: Address) -> None:
        super().__init__(desk, address)
        name, home = address.path[1], desk.library.home
        study = desk.library.study(name)
        if study is None:
            raise NotHereError(f"no study {name!r} in {home.root}.")
        self.study = study
        self.title = f"Study {study.name}"
        self._trials = desk.trials.get(
            study.name, study.stamp, lambda: trials_now(study.trials, home)
        )

    def stamp(self) -> str:
        """The states of its trials, and whether its laws are there."""
        return f"{self.study.stamp} {self._outcome().awaited}"

    def controls(self) -> list[Component]:
        """Links to MLflow and Prefect."""
        return [elsewhere(self.desk, self.study.name, self.desk.library.home.tunes)]

    def links(self) -> dict[str, str]:
        """Views of its trials."""
        return run_links(self.study)

    def make_page(self) -> Page:
        """The page of the study, and the curves of its trials."""
        page, outcome = Page(self.title), self._outcome()
        add_note(page, outcome)
        add_progress(page, self.study, "trials")
        if isinstance(outcome.value, LrFit):
            add_tuned(page, outcome.value)
        elif outcome.value is not None:
            page.text(outcome.value, role="lead")
        curves = self.desk.library.curves([run.planned for run in self.study.runs])
        add_curves(page, curves, "Loss curves of the trials")
        add_trials(page, self._trials)
        return page

    def python(self, figure: str) -> str | None:
        return python_of_study(figure, self.desk.library.home.root, self.study.name)

    def _outcome(self) -> Outcome[LrFit | str]:
        return self.desk.fits.get(
            ("study", self.study.name),
            self.study.losses,
            answers.study_fit,
            lambda: (self._trials, study_ranges(self.study.spec)),
        )
