"""Two cheap runs that show whether the learning rate of a size is near its best."""

import json
import math
import shlex

from sweeps.choices import Timescale
from sweeps.ladder import GIVEN_BY
from sweeps.load import load_spec, presets
from sweeps.plan import Plan
from sweeps.rate_scan import at_factor
from sweeps.shapes import only
from sweeps.spec import PlannedRun

# Half and twice the rate cost 0.01 to 0.04 nats on the demo's corpus, above the noise of a seed.
FACTORS = (0.5, 2.0)
# A check for more than this share of the sweep's FLOPs is not worth its price.
_DEAREST = 0.05


def extremes(plan: Plan) -> list[PlannedRun]:
    """The run of the smallest and of the largest model; the shortest, if a model has several."""
    sizes = _shortest_by_size(plan)
    return sizes if len(sizes) == 1 else [sizes[0], sizes[-1]]


def affordable(plan: Plan, end: PlannedRun) -> PlannedRun | None:
    """The run nearest in size to an end whose two checks cost at most a twentieth of the sweep."""

    def distance(run: PlannedRun) -> float:
        return abs(math.log(run.n_params / end.n_params))

    for run in sorted(_shortest_by_size(plan), key=distance):
        if sum(check.flops_spent for check in check_runs(run)) <= _DEAREST * plan.flops_spent:
            return run
    return None


def _shortest_by_size(plan: Plan) -> list[PlannedRun]:
    """The shortest run of each size, in rising N."""
    by_size: dict[int, PlannedRun] = {}
    for run in plan.runs:
        if run.unique_tokens is not None:
            continue
        known = by_size.get(run.n_params)
        if known is None or run.cells[0].tokens < known.cells[0].tokens:
            by_size[run.n_params] = run
    return [by_size[N] for N in sorted(by_size)]


def check_runs(run: PlannedRun) -> list[PlannedRun]:
    """The run, only to its shortest budget, with half and with twice its learning rate."""
    return [at_factor(run, factor) for factor in FACTORS]


def check_command(plan: Plan, check: PlannedRun, given: str = "") -> str:
    """The command that trains a check run, with the same id.

    Args:
        given: how the spec was named on the command line, with its overrides. Without it, the
            name of a shipped preset, or `SPEC` where the plan is of none.
    """
    spec, train = plan.spec, check.run.train
    # The timescale would ask for another weight decay at this one budget.
    by_timescale = isinstance(spec.weight_decay, Timescale)
    decay = [f"weight_decay={train.optimizer.weight_decay!r}"] if by_timescale else []
    settings = [
        f"name={spec.name}-{check.name}".replace(".", "_")[:69],
        _ladder(plan, check),
        f"grid={{kind: tokens, tokens: [{check.cells[0].tokens}]}}",
        f"recipe={{kind: fixed, lr: {train.optimizer.lr!r}, batch_tokens: {train.batch_tokens}}}",
        *decay,
        f"seeds=[{train.seed}]",
        *(["unique_tokens=[]"] if spec.unique_tokens else []),
    ]
    if not given:
        shipped = spec.name in presets() and load_spec(spec.name) == spec
        given = spec.name if shipped else "SPEC"
    words = [f"--set {shlex.quote(setting)}" for setting in settings]
    return " ".join(["isoflop sweep", given, *words])


def _ladder(plan: Plan, check: PlannedRun) -> str:
    """The override that leaves the ladder its one size."""
    ladder = only(plan.spec.ladder, [check.run.model])
    [name] = [name for name in GIVEN_BY if hasattr(ladder, name)]
    values = ladder.model_dump(mode="json", exclude_none=True)[name]
    return f"ladder.{name}={json.dumps(values)}"
