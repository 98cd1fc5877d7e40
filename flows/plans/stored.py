"""The plans stored in a home, one beside each sweep's results."""

import logging

from pydantic import ValidationError

from flows.settings import Home
from sweeps.plan import Plan

log = logging.getLogger(__name__)


def read_plans(home: Home) -> list[Plan]:
    """The plans of all sweeps in this home, in order of name."""
    plans = (read_plan(home, folder.name) for folder in sorted(home.sweeps.glob("*")))
    return [plan for plan in plans if plan is not None]


def read_plan(home: Home, name: str) -> Plan | None:
    """The plan in a sweep's folder; None, and a line in the log, where it is damaged."""
    path = home.sweeps / name / "plan.json"
    try:
        return Plan.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError:
        log.warning("%s is damaged or of another version: its sweep is skipped", path)
        return None
