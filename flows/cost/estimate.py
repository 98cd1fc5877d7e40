"""Time that a plan takes: of each run and of the sweep, from timings or from an assumed MFU."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flows.cost.timing import Timing
from flows.runs.attempts import CompileChoice, StackChoice
from flows.training.stacks import makespan
from llama_core.config import TrainConfig
from llama_core.schedule import segments
from sweeps.spec import PlannedRun
from sweeps.tune_plan import AnyPlan

# A Prefect server before the first training, and fit, report and mirror after the last; measured
# on the demo (docs/benchmarks/demo_sweep.md).
AROUND_S = 14.0


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast runs train.

    Attributes:
        timing: the timing of a run's shape.
        start_s: seconds of a training before its first step and after its last, torch loaded.
        around_s: seconds of a sweep before its first training and after its last.
        basis: source of the numbers, for a person.
        compiled: by run id, whether it will be compiled, where that is chosen by its gain.
        stacked: groups of run ids that may train as one program, and whether they will.
    """

    timing: Callable[[PlannedRun], Timing]
    start_s: float
    around_s: float
    basis: str
    compiled: Mapping[str, CompileChoice] = field(default_factory=dict)
    stacked: Sequence[tuple[tuple[str, ...], StackChoice]] = ()

    @property
    def stacks(self) -> list[tuple[str, ...]]:
        """Groups of runs that will train as one program."""
        return [group for group, choice in self.stacked if choice.stacked]


@dataclass(frozen=True, slots=True)
class RunTime:
    """Seconds of one training alone on its slot, or its share of those of its stack.

    Attributes:
        whole_s: from the first step.
        left_s: from its newest checkpoint; 0 when it is settled.
        left_range_s: `left_s` at the lower and at the upper quartile of the timed steps.
        left_flops: counted FLOPs still to be spent.
    """

    whole_s: float
    left_s: float
    left_range_s: tuple[float, float]
    left_flops: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """Time left for a plan.

    Attributes:
        runs: by run id.
        elapsed_s: seconds to the end of the sweep on these slots, longest run first.
        elapsed_range_s: the same at the quartiles of the timed steps.
        device_s: the sum over runs and their ranks: what training takes.
        idle_share: share of the slots' time from first to last training in which a slot waits
            for the others.
        compiled, stacked: as in `Speed`.
    """

    runs: Mapping[str, RunTime]
    elapsed_s: float
    elapsed_range_s: tuple[float, float]
    device_s: float
    idle_share: float
    slots: int
    basis: str
    compiled: Mapping[str, CompileChoice] = field(default_factory=dict)
    stacked: Sequence[tuple[tuple[str, ...], StackChoice]] = ()


def estimate(
    plan: AnyPlan, speed: Speed, steps_kept: Mapping[str, int | None], slots: int
) -> Estimate:
    """Add up the time left for a plan.

    Args:
        steps_kept: by run id, optimizer steps that a resumed training does not repeat; None for
            a run that will not train again.
    """
    every_s = plan.spec.placement.checkpoint_every_s
    members = {run: len(group) for group in speed.stacks for run in group}
    runs = {
        run.id: _run_time(run, speed, steps_kept[run.id], every_s, members.get(run.id, 1))
        for run in plan.runs
    }
    left = {run: time for run, time in runs.items() if time.left_s}
    training_s = sum(time.left_s for time in left.values())
    groups = [*speed.stacks, *((run,) for run in left if run not in members)]

    def busy(seconds: Mapping[str, float]) -> float:
        return makespan([sum(map(seconds.__getitem__, group)) for group in groups], slots)

    busy_s = busy({run: time.left_s for run, time in left.items()})
    around_s = speed.around_s if left else 0.0
    fast, slow = ({run: time.left_range_s[end] for run, time in left.items()} for end in (0, 1))
    return Estimate(
        runs=runs,
        elapsed_s=busy_s + around_s,
        elapsed_range_s=(busy(fast) + around_s, busy(slow) + around_s),
        device_s=training_s * plan.spec.placement.ranks,
        idle_share=1 - training_s / (slots * busy_s) if busy_s else 0.0,
        slots=slots,
        basis=speed.basis,
        compiled=speed.compiled,
        stacked=speed.stacked,
    )


def shared_by(ranks: int, timing: Timing) -> Timing:
    """The timing of one process shared evenly by several ranks."""
    return timing.scaled(1 / ranks, eval_s_per_token=timing.eval_s_per_token / ranks)


def flops_left(run: PlannedRun, steps_kept: int | None) -> float:
    """Counted FLOPs that a run still costs when its first `steps_kept` steps are kept."""
    if steps_kept is None:
        return 0.0
    return float((run.steps - steps_kept) * run.flops_per_step)


def evals_left(train: TrainConfig, steps_kept: int) -> int:
    """Horizons still to be validated when the first `steps_kept` steps are kept."""
    done = left = 0
    for segment in segments(train):
        done += segment.steps
        # At equality the steps are kept, but perhaps not the validation after them.
        left += segment.horizon is not None and done >= steps_kept
    return left


def _run_time(
    run: PlannedRun, speed: Speed, steps_kept: int | None, checkpoint_every_s: float, members: int
) -> RunTime:
    """The time of a run.

    Args:
        members: runs that start as one program.
    """
    timing, train = speed.timing(run), run.run.train
    total = run.steps

    def seconds(steps: int, evals: int, step_s: float) -> float:
        training = steps * step_s + evals * train.eval_tokens * timing.eval_s_per_token
        checkpoints = training / checkpoint_every_s * timing.checkpoint_s
        return (speed.start_s + timing.warm_s) / members + training + checkpoints

    whole = seconds(total, len(train.schedule.horizons), timing.step_s)
    if steps_kept is None:
        return RunTime(whole, 0.0, (0.0, 0.0), 0.0)
    steps, evals = total - steps_kept, evals_left(train, steps_kept)
    last = len(timing.blocks) - 1
    fast, slow = timing.blocks[round(last / 4)], timing.blocks[round(last * 3 / 4)]
    return RunTime(
        whole_s=whole,
        left_s=seconds(steps, evals, timing.step_s),
        left_range_s=(seconds(steps, evals, fast), seconds(steps, evals, slow)),
        left_flops=flops_left(run, steps_kept),
    )
