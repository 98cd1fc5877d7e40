"""Command watch."""

import time
from typing import TYPE_CHECKING

from flows.commands.common import busy, open_all_to_read, refusals
from flows.commands.options import SweepName

if TYPE_CHECKING:
    from flows.settings import Home, Settings
    from sweeps.plan import Plan

_EVERY_S = 0.5
# A worker starts a sweep within seconds, but prepares its corpus before it writes a plan.
_PATIENCE_S = 300.0


def watch(sweep: SweepName, /) -> None:
    """Show a sweep as it trains, from any terminal, until every run has ended or you press Ctrl-C.

    It waits for a worker to plan the sweep.
    """
    with refusals():
        settings, home = open_all_to_read()
        planned = _planned(sweep, settings, home)

    from rich.console import Console

    from flows.runs.state import missing
    from flows.watch.terminal import TableWatcher

    with TableWatcher(Console(), home) as watcher:
        watcher.begin(planned, missing(planned.runs, home))
        try:
            while _goes_on(planned, home):
                watcher.tick()
                time.sleep(_EVERY_S)
                latest = _latest(planned, home)
                if latest != planned:
                    planned = latest
                    watcher.begin(planned, missing(planned.runs, home))
        except KeyboardInterrupt:
            return


def _goes_on(planned: "Plan", home: "Home") -> bool:
    """Whether a run is still to end, or further runs are still to be chosen."""
    from flows.plans.rounds import read_rounds

    if planned.spec.design is None:
        return not _all_ended(planned, home)
    rounds = read_rounds(home.sweeps / planned.spec.name)
    return rounds is not None and not rounds.stopped


def _latest(planned: "Plan", home: "Home") -> "Plan":
    """The plan with the runs chosen since; only a design that waits for a choice is read again."""
    from flows.plans.find import find_plan

    if planned.spec.design is None or not _all_ended(planned, home):
        return planned
    return find_plan(planned.spec.name, home)


def _all_ended(planned: "Plan", home: "Home") -> bool:
    from flows.runs.directory import RunDir

    return all(RunDir(home.runs / run.id).result() is not None for run in planned.runs)


def _planned(sweep: str, settings: "Settings", home: "Home") -> "Plan":
    from flows.plans.find import find_plan
    from flows.stack.servers import server_answers

    try:
        return find_plan(sweep, home)
    except ValueError:
        if not server_answers(settings):
            raise
        # Only here: Prefect's import takes seconds.
        from flows.dispatch.cancel import is_requested

        if not is_requested(sweep, settings):
            raise
    with busy(f"waiting for a worker to plan {sweep}"):
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return find_plan(sweep, home)
            except ValueError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_EVERY_S)
