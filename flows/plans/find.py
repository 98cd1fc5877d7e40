"""Find a run by what a person would call it."""

from flows.plans.plan import read_plans
from flows.runs.directory import RunDir
from flows.settings import Home

_LISTED = 6


def find_run(asked: str, home: Home) -> RunDir:
    """The run of an id, the beginning of one, a name, or SWEEP/NAME.

    Raises:
        ValueError: no run is meant, or several are; the message lists them.
    """
    by_id = sorted(path.name for path in home.runs.iterdir() if path.name.startswith(asked))
    sweep, _, name = asked.rpartition("/")
    by_name = {
        run.id: f"{plan.spec.name}/{run.name}"
        for plan in read_plans(home)
        for run in plan.runs
        if run.name == name and sweep in ("", plan.spec.name)
    }
    found = by_id if by_id and asked else sorted(by_name)
    if len(found) == 1:
        run = RunDir(home.runs / found[0])
        if not run.spec_path.exists():
            raise ValueError(f"run {by_name.get(run.id, run.id)} is planned and was never started.")
        return run
    if not found:
        raise ValueError(
            f"no run {asked!r} in {home.runs}. Give an id or its beginning, a name, or SWEEP/NAME; "
            "isoflop runs lists them."
        )
    listed = [f"{run} ({by_name[run]})" if run in by_name else run for run in found]
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    raise ValueError(f"{asked!r} could be {', '.join(listed[:_LISTED])}{more}: give the id.")
