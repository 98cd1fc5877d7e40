"""Which sweeps and tables `isoflop compare` is asked about, by their names."""

from collections.abc import Sequence
from pathlib import Path

from flows.plans.find import find_plan
from flows.plans.stored import read_plan
from flows.settings import Home
from flows.tables.source import is_service
from sweeps.plan import Plan, members
from sweeps.variants import BASE


def expanded(names: Sequence[str], home: Home) -> tuple[str, ...]:
    """The names to compare: of one sweep with variants, its base and each of them.

    Raises:
        ValueError: its scans are not over, so that no variant is trained.
    """
    planned = read_plan(home, names[0]) if len(names) == 1 else None
    if planned is None or not planned.spec.variants:
        return tuple(names)
    if planned.spec.scan is not None:
        raise ValueError(
            f"sweep {names[0]} has no variant trained yet: the scans of their rates come first. "
            f"Train it with: isoflop sweep {names[0]}"
        )
    return tuple(f"{names[0]}/{variant}" for variant in members(planned))


def check_names(names: Sequence[str]) -> None:
    """Refuse one side alone, and one twice.

    Raises:
        ValueError: it is one name alone, or one twice.
    """
    if len(names) < 2:
        raise ValueError(
            f"{names[0]!r} alone has nothing to be compared with: isoflop compare {names[0]} OTHER."
        )
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} was named twice: name two sweeps.")


def plan_of_side(name: str, home: Home) -> Plan | None:
    """The plan of a sweep of this home; None of a table.

    Raises:
        ValueError: there is no such sweep or file, or it is a sweep of variants.
    """
    if is_service(name) or Path(name).is_file():
        return None
    plan = find_plan(name, home)
    if plan.spec.variants:
        listed = ", ".join(f"{name}/{variant}" for variant in (BASE, *plan.spec.variants))
        raise ValueError(f"{name} is a sweep of variants: name one of {listed}.")
    return plan
