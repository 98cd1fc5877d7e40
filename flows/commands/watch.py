"""Command watch."""

import time

_EVERY_S = 0.5


def watch(sweep: str) -> None:
    """Show a sweep as it trains, from any terminal, until every run has ended or Ctrl-C."""
    from rich.console import Console

    from flows.cli import fail
    from flows.observe import missing
    from flows.plan import read_plans
    from flows.rundir import RunDir
    from flows.settings import Settings, open_home
    from flows.watch import TableWatcher

    home = open_home(Settings())
    plans = {planned.spec.name: planned for planned in read_plans(home)}
    if sweep not in plans:
        known = ", ".join(plans) or "none yet"
        fail(f"no sweep {sweep!r} in {home.root}. Sweeps there: {known}.")
    planned = plans[sweep]
    with TableWatcher(Console(), home) as watcher:
        watcher.begin(planned, missing(planned.runs, home))
        try:
            while any(RunDir(home.runs / run.id).result() is None for run in planned.runs):
                watcher.tick()
                time.sleep(_EVERY_S)
        except KeyboardInterrupt:
            return
