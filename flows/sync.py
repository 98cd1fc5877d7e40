"""Everything in a home brought to its MLflow mirror."""

from flows.plan import read_plans
from flows.rundir import RunDir
from flows.settings import Home, Settings
from flows.tracking import open_tracker


def sync_all(settings: Settings, home: Home) -> int:
    """Write to MLflow whatever its mirror lacks; the number of runs looked at.

    Raises what MLflow raises when it cannot be written, see `flows.tracking.mirror_error`.
    """
    tracker = open_tracker(settings, home)
    count = 0
    for planned in read_plans(home):
        for run in planned.runs:
            directory = RunDir(home.runs / run.id)
            if directory.path.exists():
                tracker.publish(directory, run)
                count += 1
    return count
