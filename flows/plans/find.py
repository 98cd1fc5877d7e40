"""Find a sweep or a run by name, or say what else goes by that name."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from analysis.published_names import published_names
from flows.plans.stored import read_plan, read_plans
from flows.runs.directory import RunDir
from flows.settings import Home
from sweeps.load import presets, spec_kind
from sweeps.plan import Plan

_LISTED = 6
_SPECS = (".yaml", ".yml")
_TRAINS = {"sweep": "isoflop sweep", "study": "isoflop tune"}


def find_plan(name: str, home: Home) -> Plan:
    """The plan of a sweep in this home.

    Raises:
        ValueError: the home has no sweep of that name; the message says what the name is of, or
            lists the sweeps.
    """
    # Its folder has its name, so the other plans need not be read.
    planned = read_plan(home, name)
    if planned is not None and planned.spec.name == name:
        return planned
    plans = {planned.spec.name: planned for planned in read_plans(home)}
    if name not in plans:
        other = other_kind(name, home) or sweeps_there(name, list(plans))
        raise ValueError(f"no sweep {name!r} in {home.root}. {other}")
    return plans[name]


def find_run(reference: str, home: Home) -> RunDir:
    """The run with an id, the beginning of one, a name, or SWEEP/NAME.

    Raises:
        ValueError: no run matches, and the message says what the name is of; or several do, and it
            lists them.
    """
    by_id = sorted(path.name for path in home.runs.glob("*") if path.name.startswith(reference))
    sweep, _, name = reference.rpartition("/")
    by_name = {
        run.id: f"{plan.spec.name}/{run.name}"
        for plan in read_plans(home)
        for run in plan.runs
        if run.name == name and sweep in ("", plan.spec.name)
    }
    matches = by_id if by_id and reference else sorted(by_name)
    if len(matches) == 1:
        run = RunDir(home.runs / matches[0])
        if not run.spec_path.exists():
            raise ValueError(f"run {by_name.get(run.id, run.id)} is planned and was never started.")
        return run
    if not matches:
        other = other_kind(reference, home) or (
            "Give an id or its beginning, a name, or SWEEP/NAME; isoflop runs lists them."
        )
        raise ValueError(f"no run {reference!r} in {home.runs}. {other}")
    listed = [f"{run} ({by_name[run]})" if run in by_name else run for run in matches]
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    raise ValueError(f"{reference!r} could be {', '.join(listed[:_LISTED])}{more}: give the id.")


def sweeps_there(name: str, sweeps: Sequence[str]) -> str:
    """The sweeps of a home, for a message that none of them has this name; the nearest first."""
    near = difflib.get_close_matches(name, sweeps, n=1)
    question = f"Did you mean {near[0]}? " if near else ""
    return f"{question}Sweeps there: {', '.join(sweeps) or 'none yet'}."


def other_kind(name: str, home: Home) -> str:
    """What goes by a name, and a command that takes it; empty where nothing does.

    For a message that nothing of the kind asked for goes by it.
    """
    study, (sweep, _, run) = home.tunes / name, name.rpartition("/")
    if Path(name).is_file():
        if Path(name).suffix in _SPECS:
            return spec_sentence(name)
        return f"{name} is a file. A table of runs is read by: isoflop fit {name}"
    if (home.sweeps / name / "plan.json").is_file():
        return (
            f"{name} is a sweep: isoflop runs {name} lists its runs, isoflop report {name} "
            "writes its report."
        )
    if (study / "spec.json").is_file():
        return (
            f"{name} is a study: isoflop fit-lr reads its trials, {study / 'trials.csv'}; its "
            f"report, once it has ended, is {study / 'report.html'}."
        )
    planned = read_plan(home, sweep) if sweep else None
    if planned is not None and any(each.name == run for each in planned.runs):
        return f"{name} is a run: isoflop show {name}"
    if (home.forecasts / f"{name}.json").is_file():
        return f"{name} is a registered forecast: isoflop forecast --check {name}"
    if name in published_names("laws"):
        return f"{name} is a published law: isoflop frontier --law {name}"
    return spec_sentence(name)


def spec_sentence(spec: str) -> str:
    """What trains the spec of this name; empty where there is none."""
    kind = spec_kind(spec)
    if kind is None:
        return ""
    where = "preset" if spec in presets("" if kind == "sweep" else "tune") else "spec"
    return f"{spec} is the {where} of a {kind}. Train it with: {_TRAINS[kind]} {spec}"
