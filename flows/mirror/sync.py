"""Bring the MLflow mirror up to date with a home."""

import logging
from collections.abc import Iterator

import polars as pl

from analysis.tuning.study_law import StudyLaw
from flows.mirror.tracker import open_tracker
from flows.plans.stored import read_plans
from flows.runs.directory import RunDir
from flows.settings import Home, Settings
from sweeps.spec import PlannedRun

log = logging.getLogger(__name__)


def sync_all(settings: Settings, home: Home) -> int:
    """Write to MLflow whatever its mirror lacks; the number of runs checked.

    Raises MLflow's errors where it cannot be written, see `flows.mirror.client.mirror_error`.
    """
    tracker = open_tracker(settings, home)
    count = 0
    for planned in _planned(home):
        directory = RunDir(home.runs / planned.id)
        if directory.path.exists():
            tracker.publish(directory, planned)
            count += 1
    for page in sorted(home.tunes.glob("*/report.html")):
        study, law = page.parent.name, page.parent / "law.json"
        numbers = StudyLaw.load(law).numbers() if law.exists() else {}
        trials = pl.read_csv(page.parent / "trials.csv", glob=False)["run"].unique(
            maintain_order=True
        )
        tracker.log_study(study, page, numbers, trials.to_list())
    return count


def _planned(home: Home) -> Iterator[PlannedRun]:
    """Runs of every sweep, which may share runs, and of studies, which have no plan."""
    plans = read_plans(home)
    for plan in plans:
        yield from plan.runs
    sweeps = {plan.spec.name for plan in plans}
    for path in sorted(home.runs.glob("*/spec.json")):
        try:
            planned = RunDir(path.parent).planned()
        except ValueError:
            log.warning("%s is damaged or of another version: its run is skipped", path)
            continue
        if planned.sweep not in sweeps:
            yield planned
