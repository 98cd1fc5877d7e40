"""Bring the MLflow mirror up to date with a home."""

import logging
from collections.abc import Sequence

import polars as pl

from analysis.tuning.study_law import StudyLaw, StudyLawError
from flows.mirror.publish import log_observations
from flows.mirror.tracker import open_tracker
from flows.plans.stored import read_plans
from flows.runs.directory import RunDir
from flows.settings import Home, Settings
from sweeps.plan import Plan
from sweeps.spec import PlannedRun

log = logging.getLogger(__name__)


def sync_all(settings: Settings, home: Home) -> int:
    """Write to MLflow whatever its mirror lacks; the number of runs checked.

    Raises MLflow's errors where it cannot be written, see `flows.mirror.client.mirror_error`.
    """
    tracker = open_tracker(settings, home)
    count = 0
    plans = read_plans(home)
    for sweep, runs in _by_sweep(plans, home).items():
        mirrored = tracker.mirrored(sweep)
        for planned in runs:
            directory = RunDir(home.runs / planned.id)
            if directory.path.exists():
                tracker.publish(directory, planned, mirrored)
                count += 1
    for planned_sweep in plans:
        log_observations(tracker, planned_sweep, home)
    for page in sorted(home.tunes.glob("*/report.html")):
        law, trials = page.parent / "law.json", page.parent / "trials.csv"
        try:
            numbers = StudyLaw.load(law).numbers() if law.exists() else {}
            trained = pl.read_csv(trials, glob=False)["run"].unique(maintain_order=True)
        except (StudyLawError, OSError, pl.exceptions.PolarsError) as error:
            log.warning("study %s is skipped: %s", page.parent.name, error)
            continue
        tracker.log_study(page.parent.name, page, numbers, trained.to_list())
    return count


def _by_sweep(plans: Sequence[Plan], home: Home) -> dict[str, list[PlannedRun]]:
    """Runs of every sweep, which may share runs, and of studies, which have no plan."""
    runs = {plan.spec.name: list(plan.runs) for plan in plans}
    sweeps = set(runs)
    for path in sorted(home.runs.glob("*/spec.json")):
        try:
            planned = RunDir(path.parent).planned()
        except ValueError:
            log.warning("%s is damaged or of another version: its run is skipped", path)
            continue
        if planned.sweep not in sweeps:
            runs.setdefault(planned.sweep, []).append(planned)
    return runs
