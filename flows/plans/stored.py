"""The plans stored in a home, one beside each sweep's results, and the rounds of its studies."""

from collections.abc import Sequence

from pydantic import TypeAdapter, ValidationError

from flows.files import read_or_warn, write_whole
from flows.settings import Home
from sweeps.plan import Plan, members
from sweeps.spec import PlannedRun

_RUNS = TypeAdapter(tuple[PlannedRun, ...])


def read_plans(home: Home) -> list[Plan]:
    """The plans of all sweeps in this home, in order of name; a variant is in its sweep's."""
    plans = (read_plan(home, folder.name) for folder in sorted(home.sweeps.glob("*")))
    return [plan for plan in plans if plan is not None]


def write_plan(planned: Plan, home: Home) -> None:
    """Write a sweep's plan into its folder, and those of its variants into folders in it."""
    variants = members(planned).values() if planned.spec.variants else ()
    # Before its scans are over, a sweep has no runs of its variants.
    for plan in (planned, *(each for each in variants if each.runs)):
        folder = home.sweeps / plan.spec.name
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "plan.json", plan.model_dump_json(indent=1))


def read_plan(home: Home, name: str) -> Plan | None:
    """The plan in a sweep's folder; None, and a line in the log, where it is damaged."""
    return read_or_warn(home.sweeps / name / "plan.json", Plan, "its sweep is skipped")


def write_round(study: str, runs: Sequence[PlannedRun], home: Home) -> None:
    """Write the runs of the trials that a study trains now into its folder."""
    path = home.tunes / study / "round.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, _RUNS.dump_json(tuple(runs)).decode())


def read_round(home: Home, study: str) -> tuple[PlannedRun, ...]:
    """The runs that a study trains now; none where there is no such study."""
    try:
        return _RUNS.validate_json((home.tunes / study / "round.json").read_bytes())
    except (OSError, ValidationError):
        return ()
