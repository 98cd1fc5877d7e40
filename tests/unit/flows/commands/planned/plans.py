"""Plans and costs whose text and JSON tests read."""

from types import SimpleNamespace

from flows.cost.estimate import Estimate, RunTime
from flows.cost.quote import Cost
from sweeps.load import load_spec
from sweeps.plan import Plan
from sweeps.spec import DataRef
from tests.fakes import planned_run

CORPUS = SimpleNamespace(
    digest="c0ffee", path="folder", vocab_size=512, train_tokens=12_345_678, val_tokens=9, notes=[]
)
SMALL, LARGE = planned_run(width=16), planned_run(width=48, steps=(40,))


def plan_of(*runs, **changes):
    spec = load_spec("smoke").model_copy(update=changes)
    return Plan(spec=spec, data=DataRef(digest="x"), runs=runs, warnings=("thin valleys",))


def cost_of(
    plan, *, left_s=1800.0, usd_per_hour=2.5, refusal=None, spread=(3000.0, 7200.0), idle_share=0.0
):
    times = {run.id: RunTime(3600.0, left_s, (left_s, left_s), 5.0) for run in plan.runs}
    device_s = left_s * len(times)
    elapsed_s = 3600.0 if left_s else 0.0
    estimate = Estimate(times, elapsed_s, spread, device_s, idle_share, 2, "timed in a test")
    memory = {run.id: 1.2345 for run in plan.runs}
    return Cost(estimate, memory, usd_per_hour, "as given", refusal, ("too little memory",))
