"""Find a run by its id, name or sweep."""

from flows.plans.stored import read_plans
from flows.runs.directory import RunDir
from flows.settings import Home

_LISTED = 6


def find_run(reference: str, home: Home) -> RunDir:
    """The run with an id, the beginning of one, a name, or SWEEP/NAME.

    Raises:
        ValueError: no run matches, or several do; the message lists them.
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
        raise ValueError(
            f"no run {reference!r} in {home.runs}. Give an id or its beginning, a name, or "
            "SWEEP/NAME; isoflop runs lists them."
        )
    listed = [f"{run} ({by_name[run]})" if run in by_name else run for run in matches]
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    raise ValueError(f"{reference!r} could be {', '.join(listed[:_LISTED])}{more}: give the id.")
