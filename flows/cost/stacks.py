"""Which runs of a plan will train as one program: python -m flows.cost.stacks, a child of a slot.

The child reads a `Request` from standard input and keeps in the home what it measures.
"""

import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flows.runs.attempts import StackChoice
from flows.settings import Home
from flows.training.slots import child_environment
from flows.training.stack_gain import choose, kept_at, measure
from flows.training.stacks import stacks
from llama_core.config import Frozen, Placement
from sweeps.plan import Plan
from sweeps.spec import PlannedRun, RunSpec

log = logging.getLogger(__name__)

_LONGEST_S = 600.0
Group = tuple[PlannedRun, ...]


class Request(Frozen):
    """Groups of runs that might train together, to be tried both ways."""

    home: Path
    placement: Placement
    groups: tuple[tuple[RunSpec, ...], ...]


def stacked(
    plan: Plan,
    home: Home,
    slots: Sequence[dict[str, str]],
    kept: Mapping[str, int | None],
    *,
    retime: bool = False,
) -> list[tuple[Group, StackChoice]]:
    """The groups that the slots will get of the runs left, and whether each trains together.

    What the home does not know of a group is tried, as the training itself would try it first;
    a group whose trial fails is left out, and counts as single runs.

    Args:
        kept: by run id, None for a run that will not train again.
        retime: try every group again.
    """
    placement = plan.spec.placement
    left = [run for run in plan.runs if kept[run.id] is not None]
    # The rates of variants are scanned before their sweep begins.
    rounds = [[run for run in left if (run.rate_factor is None) is own] for own in (False, True)]
    groups = [
        group for runs in rounds for group in stacks(runs, placement, len(slots)) if len(group) > 1
    ]
    # Groups of equal batches have one ratio.
    places = {
        kept_at([run.run for run in group], home, placement, slots[0]): group for group in groups
    }
    _try(
        [
            group
            for group in places.values()
            if retime or choose(group, home, placement, slots[0]) is None
        ],
        home,
        placement,
        slots,
    )
    choices = ((group, choose(group, home, placement, slots[0])) for group in groups)
    return [(group, choice) for group, choice in choices if choice is not None]


def _try(
    groups: Sequence[Group], home: Home, placement: Placement, slots: Sequence[dict[str, str]]
) -> None:
    """Try groups of runs both ways, dealt to the slots, all working at once."""

    def work(number: int) -> None:
        share = tuple(tuple(run.run for run in group) for group in groups[number :: len(slots)])
        request = Request(home=home.root, placement=placement, groups=share)
        try:
            _ask(request, slots[number])
        except subprocess.CalledProcessError as error:
            last = error.stderr.strip().rpartition("\n")[2] or "no output"
            log.warning("runs of one shape could not be tried as one program: %s", last)
        except subprocess.TimeoutExpired as error:
            log.warning("runs of one shape could not be tried as one program: %s", error)

    if groups:
        with ThreadPoolExecutor(len(slots)) as pool:
            list(pool.map(work, range(min(len(slots), len(groups)))))


def _ask(request: Request, slot: dict[str, str]) -> None:
    """Have a child of a slot measure what is requested."""
    subprocess.run(
        [sys.executable, "-m", "flows.cost.stacks"],
        input=request.model_dump_json(),
        stderr=subprocess.PIPE,
        env=child_environment(slot),
        text=True,
        timeout=_LONGEST_S,
        check=True,
    )


def main() -> int:
    """Try every group of the request on standard input."""
    request = Request.model_validate_json(sys.stdin.read())
    for group in request.groups:
        measure(group, Home(request.home), request.placement)
    return 0


if __name__ == "__main__":
    sys.exit(main())
