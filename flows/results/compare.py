"""Two sweeps of a home: what differs in specs, runs and provenance."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from analysis.compare.page import Context
from analysis.table.observations import Table
from analysis.table.repeats import leave_out_repeats
from analysis.table.runs import own_table
from analysis.words import counted, flops
from flows.runs.attempts import read_attempts, read_provenance, spent
from flows.runs.directory import RunDir
from flows.runs.state import run_state
from flows.runs.table import observations_frame
from flows.settings import Home
from sweeps.plan import Plan

# Labels, not settings: never compared.
_LABELS = ("name", "description")
# The compared fields of an environment, and their names for people.
_ENVIRONMENT = {
    "git_commit": "commit",
    "git_dirty_sha256": "uncommitted changes",
    "lock_sha256": "lock of packages",
    "python": "Python",
    "device_name": "device",
    "host": "host",
}
_PACKAGE = "package "
_NAMED = 3  # packages that a row of all of them names


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting by its path and both its values; None where a sweep lacks the setting."""

    path: str
    first: Any
    second: Any


@dataclass(frozen=True, slots=True)
class Side:
    """One sweep's runs: how many are in each state, and their cost to all sweeps."""

    states: dict[str, int]
    flops: float
    device_s: float


@dataclass(frozen=True, slots=True)
class SweepDifferences:
    """Differences between two sweeps other than their losses.

    Attributes:
        doubts: reasons why their losses may not be comparable.
        shared: names of the runs that are the same in both.
    """

    spec: tuple[Difference, ...]
    provenance: tuple[Difference, ...]
    sides: tuple[Side, Side]
    shared: tuple[str, ...]
    doubts: tuple[str, ...]

    def rows(self) -> dict[str, list[list[str]]]:
        """Rows for tables, by kind of difference: the path and both values."""
        packages = [d for d in self.provenance if d.path.startswith(_PACKAGE)]
        packages = packages if len(packages) > 1 else []
        others = [d for d in self.provenance if d not in packages]
        kinds = {"spec": self.spec, "provenance": others}
        rows = {
            kind: [[d.path, _shown(d.first), _shown(d.second)] for d in differences]
            for kind, differences in kinds.items()
        }
        if packages:
            rows["provenance"].append(_folded(packages))
        return rows

    def facts(self) -> list[list[str]]:
        """Rows for a table: quantity, first, second."""
        states = [
            ", ".join(f"{count} {state}" for state, count in side.states.items())
            for side in self.sides
        ]
        spent_on = [flops(side.flops) for side in self.sides]
        hours = [f"{side.device_s / 3600:.3g}" for side in self.sides]
        shared = ", ".join(self.shared) or "none"
        return [
            ["runs", *states],
            ["counted FLOPs spent on them", *spent_on],
            ["device-hours spent on them", *hours],
            ["runs in both", shared, shared],
        ]

    @property
    def context(self) -> Context:
        """What the page of a comparison shows of them."""
        return Context(self.rows(), self.facts(), self.doubts)

    def as_json(self) -> dict[str, Any]:
        """The differences as plain data."""
        return {
            "spec": [asdict(difference) for difference in self.spec],
            "provenance": [asdict(difference) for difference in self.provenance],
            "runs": [asdict(side) for side in self.sides],
            "shared_runs": list(self.shared),
            "doubts": list(self.doubts),
        }


def compared_table(plan: Plan, home: Home) -> Table:
    """A sweep's observations, with what a comparison of speeds and losses needs beside them.

    Columns `tokens_per_s` (the median of a run's steps), `device` and `tokenizer` are null where
    a run has no record of them.
    """
    frame = observations_frame(plan.runs, home)
    types = dict.fromkeys(("parent_run_id", "device", "tokenizer"), pl.String())
    measured = pl.DataFrame(
        [_measured(planned.id, home) for planned in plan.runs],
        schema={**types, "tokens_per_s": pl.Float64()},
    ).unique("parent_run_id")
    table = own_table(frame.join(measured, on="parent_run_id", how="left", maintain_order="left"))
    return leave_out_repeats(table)


def _measured(id: str, home: Home) -> dict[str, Any]:
    run = RunDir(home.runs / id)
    made, attempts = read_provenance(run), read_attempts(run)
    places = [attempt.environment for attempt in attempts] or ([made] if made is not None else [])
    devices = {place.device_name or place.processor for place in places} - {""}
    ranks = run.placement().ranks
    speed = run.curve.steps()["tokens_per_s"].median()
    return {
        "parent_run_id": id,
        "device": " and ".join(sorted(devices)) + (f" × {ranks}" if ranks > 1 else "") or None,
        "tokenizer": made.tokenizer_sha256[:12] if made and made.tokenizer_sha256 else None,
        "tokens_per_s": speed,
    }


def names_beside(names: Sequence[str]) -> list[str]:
    """What sweeps are called beside one another: variants of one sweep go by their own names."""
    families = {name.rpartition("/")[0] for name in names}
    whole = len(families) > 1 or families == {""}
    return [name if whole else name.rpartition("/")[2] for name in names]


def sweep_differences(first: Plan, second: Plan, home: Home) -> SweepDifferences:
    """The differences between two sweeps, and the runs they share."""
    ids = {run.id for run in second.runs}
    return SweepDifferences(
        spec=tuple(spec_differences(first, second)),
        provenance=tuple(provenance_differences(first, second, home)),
        sides=(_side(first, home), _side(second, home)),
        shared=tuple(run.name for run in first.runs if run.id in ids),
        doubts=tuple(_doubts(first, second)),
    )


def spec_differences(first: Plan, second: Plan) -> list[Difference]:
    """Settings that differ, defaults included, and the data if it does."""
    specs = [plan.spec.model_dump(mode="json", exclude=set(_LABELS)) for plan in (first, second)]
    differences = list(_differences("", specs[0], specs[1]))
    if first.data != second.data:
        differences.append(
            Difference("data digest", first.data.digest[:12], second.data.digest[:12])
        )
    return differences


def provenance_differences(first: Plan, second: Plan, home: Home) -> list[Difference]:
    """Differences in code, packages and machines, over all attempts of all runs."""
    sides = [_provenance(plan, home) for plan in (first, second)]
    names = [*_ENVIRONMENT.values(), *sorted({*sides[0], *sides[1]} - {*_ENVIRONMENT.values()})]
    return [
        Difference(name, sorted(sides[0].get(name, ())), sorted(sides[1].get(name, ())))
        for name in names
        if sides[0].get(name, set()) != sides[1].get(name, set())
    ]


def _side(plan: Plan, home: Home) -> Side:
    """The states and the cost of a sweep's runs."""
    states: dict[str, int] = {}
    flops = seconds = 0.0
    for run in plan.runs:
        directory = RunDir(home.runs / run.id)
        state = run_state(directory)
        states[state] = states.get(state, 0) + 1
        if directory.spec_path.exists():
            cost = spent(directory)
            flops += cost.steps * run.flops_per_step
            seconds += cost.seconds * directory.placement().ranks
    return Side(states, flops, seconds)


def _doubts(first: Plan, second: Plan) -> Iterable[str]:
    if first.data != second.data:
        yield (
            "The sweeps trained and were validated on different text: a difference in loss is "
            "first of all a difference of text."
        )
    if first.spec.eval_tokens != second.spec.eval_tokens:
        yield "Their losses are means over validation sets of different length."


def _differences(path: str, first: Any, second: Any) -> Iterable[Difference]:
    if first != second and (isinstance(first, dict) or isinstance(second, dict)):
        # If one side lacks a group, each of its settings differs.
        first, second = first or {}, second or {}
        for key in [*first, *(key for key in second if key not in first)]:
            below = f"{path}.{key}" if path else key
            yield from _differences(below, first.get(key), second.get(key))
    elif first != second:
        yield Difference(path, first, second)


def _provenance(plan: Plan, home: Home) -> dict[str, set[str]]:
    """Every value that occurs, by field; packages as `package NAME`."""
    values: dict[str, set[str]] = {}
    for planned in plan.runs:
        run = RunDir(home.runs / planned.id)
        first = read_provenance(run)
        if first is None:
            continue
        attempts = read_attempts(run)
        for environment in [attempt.environment for attempt in attempts] or [first]:
            for field, name in _ENVIRONMENT.items():
                value = getattr(environment, field)
                shown = "none" if value is None else str(value)
                is_digest = field.startswith(("git_", "lock_"))
                values.setdefault(name, set()).add(shown[:12] if is_digest else shown)
        for packages in [first.packages, *(attempt.packages or {} for attempt in attempts)]:
            for name, version in packages.items():
                values.setdefault(f"{_PACKAGE}{name}", set()).add(version)
    return values


def _folded(packages: Sequence[Difference]) -> list[str]:
    """One row for all packages whose versions differ."""
    more = f" and {len(packages) - _NAMED} more" if len(packages) > _NAMED else ""
    sides: list[list[str]] = [[], []]
    for difference in packages[:_NAMED]:
        name = difference.path.removeprefix(_PACKAGE)
        for side, value in zip(sides, (difference.first, difference.second), strict=True):
            side.append(f"{name} {_shown(value)}")
    return [counted(len(packages), "package"), *(", ".join(side) + more for side in sides)]


def _shown(value: Any) -> str:
    """A value as text for a table."""
    if value is None:
        return "–"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_shown(item) for item in value) or "–"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
