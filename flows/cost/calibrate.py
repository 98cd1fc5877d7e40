"""How fast this machine trains a plan's shapes: every slot times each of them briefly."""

import hashlib
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import psutil

from analysis.words import counted
from flows.cost.assumed import assumed, device_of
from flows.cost.estimate import AROUND_S, Estimate, Speed, estimate, shared_by
from flows.cost.stacks import stacked
from flows.cost.timing import Answer, Request, Shape, Timing, shape_of
from flows.files import now, read_record, write_whole
from flows.runs.attempts import StackChoice, steps_kept
from flows.runs.directory import RunDir
from flows.runs.provenance import processor
from flows.settings import Home
from flows.training.compiling import foreseen, micro_step
from flows.training.slots import child_environment
from flows.training.stack_gain import IN_A_STACK
from llama_core.config import Frozen, Placement
from llama_core.cores import usable_cores
from sweeps.cap import AssumedSpeed
from sweeps.plan import Plan
from sweeps.spec import PlannedRun
from sweeps.tune_plan import AnyPlan

# A machine's other load changes within hours, its speed does not.
_GOOD_FOR_S = 6 * 3600.0
_LONGEST_S = 600.0
# Time in which a dispatcher sees the end of a training and starts the next.
_BETWEEN_S = 0.3


class CalibrationError(RuntimeError):
    """The timing processes ended without an answer."""


class _StoredTiming(Frozen):
    """A timing as it is stored in the home."""

    timing: Timing
    load_s: float
    start_s: float
    measured_at: float
    # Processes that ran or waited to run in the minute before; None in files of older versions.
    others: float | None = None


@dataclass(frozen=True, slots=True)
class _Slot:
    """The measurements of one child: its imports, its start with a corpus, the shapes in order."""

    load_s: float
    start_s: float
    timings: list[Timing]


def calibrated(
    plan: AnyPlan, home: Home, slots: Sequence[dict[str, str]], *, retime: bool = False
) -> Speed:
    """Speed of a plan's shapes in child processes, with all slots busy at once.

    Of a study, each of whose trials has a batch of its own, only the least and the greatest batch
    of each width are timed.

    Timings are kept in the home for some hours, by shape, device and number of slots. They are of
    uncompiled steps unless the placement has them compiled.

    Args:
        retime: take every timing again.

    Raises:
        CalibrationError: a timing process failed.
    """
    shapes = {shape_of(run.run.model, run.run.train): run.run for run in _timed(plan)}
    placement = plan.spec.placement
    if placement.compile == "auto":
        placement = placement.model_copy(update={"compile": "off"})
    keys = {shape: _key(shape, placement, slots) for shape in shapes}
    folder = home.timings
    stored = {shape: None if retime else _read(folder / f"{keys[shape]}.json") for shape in shapes}
    timed = {shape: timing for shape, timing in stored.items() if timing is not None}
    if missing := [shape for shape in shapes if shape not in timed]:
        trainings = [(shapes[shape].model, shapes[shape].train) for shape in missing]
        others = psutil.getloadavg()[0]
        measured = _measure(home, plan.data.digest, placement, trainings, slots)
        folder.mkdir(exist_ok=True)
        load_s = statistics.median(slot.load_s for slot in measured)
        start_s = statistics.median(slot.start_s for slot in measured)
        for index, shape in enumerate(missing):
            timing = _merged([slot.timings[index] for slot in measured])
            fresh = _StoredTiming(
                timing=timing, load_s=load_s, start_s=start_s, measured_at=now(), others=others
            )
            write_whole(folder / f"{keys[shape]}.json", fresh.model_dump_json())
            timed[shape] = fresh
    return Speed(
        timing=lambda run: shared_by(placement.ranks, _timing(run, timed)),
        start_s=statistics.median(timing.start_s for timing in timed.values()) + _BETWEEN_S,
        around_s=AROUND_S + statistics.median(timing.load_s for timing in timed.values()),
        basis=_basis(plan, list(timed.values()), len(slots)),
    )


def _basis(plan: AnyPlan, timed: Sequence[_StoredTiming], slots: int) -> str:
    """What was timed, where, when and beside what, for a person."""
    placement, age_s = plan.spec.placement, now() - min(timing.measured_at for timing in timed)
    recent = age_s < 120
    which = "every shape" if isinstance(plan, Plan) else "the ends of every width's batches"
    when = "just now" if recent else f"{age_s / 60:.0f} minutes ago"
    basis = f"{which} timed on {device_name(placement)} {when}"
    if loads := [timing.others for timing in timed if timing.others is not None]:
        basis += f", at load {max(loads):.1f} on {counted(usable_cores(), 'core')}"
    basis += f", {slots} at once" if recent else f", {slots} at once; --retime times it again"
    if placement.ranks > 1:
        basis += f", one rank alone; {placement.ranks} are taken to share its work evenly"
    return basis


def _timed(plan: AnyPlan) -> Sequence[PlannedRun]:
    """The runs whose shapes are timed."""
    if isinstance(plan, Plan):
        return plan.runs
    widths: dict[int, list[PlannedRun]] = {}
    for run in sorted(plan.runs, key=lambda run: run.run.train.batch_tokens):
        widths.setdefault(run.run.model.d_model, []).append(run)
    return [runs[place] for runs in widths.values() for place in (0, -1)]


def _timing(run: PlannedRun, timed: Mapping[Shape, _StoredTiming]) -> Timing:
    """The timing of a run's shape, or one between the batches timed of its model."""
    shape = shape_of(run.run.model, run.run.train)
    if shape in timed:
        return timed[shape].timing
    alike = sorted(
        (other for other in timed if other.model == shape.model),
        key=lambda other: other.batch_tokens,
    )
    low, high = alike[0], alike[-1]
    first, last = timed[low].timing, timed[high].timing
    # With the batch the time of a step grows along a line.
    share = (shape.batch_tokens - low.batch_tokens) / (high.batch_tokens - low.batch_tokens)
    near = first if share < 0.5 else last
    return near.scaled((first.step_s + share * (last.step_s - first.step_s)) / near.step_s)


def estimate_plan(
    plan: AnyPlan,
    home: Home,
    slots: Sequence[dict[str, str]],
    speed: AssumedSpeed | None = None,
    *,
    retime: bool = False,
    stacks: bool = True,
) -> Estimate:
    """Time left for a plan: timed here, or at a fraction of a GPU's peak.

    Args:
        retime: time this machine again, though it was timed within hours.
        stacks: whether runs of one shape may train as one program.

    Raises:
        CalibrationError: a timing process failed.
        published.UnknownName: the GPU is not in the table.
    """
    kept = steps_kept_by_run(plan, home)
    if speed is None:
        timed = calibrated(plan, home, slots, retime=retime)
        if stacks and isinstance(plan, Plan):
            timed = _with_stacks(timed, stacked(plan, home, slots, kept, retime=retime))
        timed = _with_compilation(plan, home, slots[0], timed, kept)
        return estimate(plan, timed, kept, len(slots))
    fast = assumed(speed, device_of(speed), plan.spec.placement)
    return estimate(plan, fast, kept, len(slots))


def _with_stacks(speed: Speed, groups: Sequence[tuple[Sequence[PlannedRun], StackChoice]]) -> Speed:
    """The speed with the choices of `stack`: steps of a stack are sooner done by its gain."""
    gains = {
        run.id: choice.gain or 1.0 for group, choice in groups if choice.stacked for run in group
    }

    def timing(run: PlannedRun) -> Timing:
        return speed.timing(run).scaled(1 / gains.get(run.id, 1.0))

    ids = [(tuple(run.id for run in group), choice) for group, choice in groups]
    return replace(speed, timing=timing if gains else speed.timing, stacked=ids)


def _with_compilation(
    plan: AnyPlan, home: Home, slot: dict[str, str], speed: Speed, kept: Mapping[str, int | None]
) -> Speed:
    """The speed with the choices of `compile: auto`: a compiled run is sooner done by its gain."""
    placement = plan.spec.placement
    choices = {run: IN_A_STACK for group in speed.stacks for run in group}
    shapes = {run.id: micro_step(run.run, placement) for run in plan.runs if run.id not in choices}
    alike = Counter(shape for run, shape in shapes.items() if kept[run] is not None)
    for run in (run for run in plan.runs if run.id in shapes):
        timed, runs = speed.timing(run), max(1, alike[shapes[run.id]])
        step_s = timed.work_s or timed.step_s
        choice = foreseen(run, home, placement, slot, step_s=step_s, runs=runs)
        if choice is not None:
            choices[run.id] = choice

    def timing(run: PlannedRun) -> Timing:
        timed, choice = speed.timing(run), choices.get(run.id)
        if choice is None or not choice.compiled or not choice.gain_s:
            return timed
        share = 1 - choice.gain_s / (run.steps * timed.step_s)
        # A share below zero was chosen where its steps took longer.
        return timed.scaled(share) if share > 0 else timed

    return replace(speed, timing=timing, compiled=choices)


def steps_kept_by_run(plan: AnyPlan, home: Home) -> dict[str, int | None]:
    """Steps that a resumed training does not repeat, by run id; None for a settled run."""
    directories = {run.id: RunDir(home.runs / run.id) for run in plan.runs}
    return {
        run: None if directory.settled() else steps_kept(directory)
        for run, directory in directories.items()
    }


def device_name(placement: Placement) -> str:
    """Name of the processor or GPU that a placement means here."""
    if placement.device != "cpu":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name(0)
    return processor()


def _measure(
    home: Home,
    corpus: str,
    placement: Placement,
    trainings: Sequence[tuple[object, object]],
    slots: Sequence[dict[str, str]],
) -> list[_Slot]:
    """The measurements of each slot, all working at once; a slot that fails is left out."""

    def work(number: int, slot: dict[str, str]) -> _Slot | Exception:
        # Each slot starts at another shape, so that a shape does not run only beside itself.
        turned = [*trainings[number % len(trainings) :], *trainings[: number % len(trainings)]]
        try:
            answer = _ask(home, corpus, placement, turned, slot)
        except (CalibrationError, OSError) as error:
            return error
        back = len(trainings) - number % len(trainings)
        return replace(answer, timings=[*answer.timings[back:], *answer.timings[:back]])

    with ThreadPoolExecutor(len(slots)) as pool:
        results = list(pool.map(work, range(len(slots)), slots))
    done = [result for result in results if isinstance(result, _Slot)]
    if not done:
        raise CalibrationError(str(results[0]))
    return done


def _ask(
    home: Home,
    corpus: str,
    placement: Placement,
    trainings: Sequence[tuple[object, object]],
    slot: dict[str, str],
) -> _Slot:
    """Run one child and read its measurements."""
    request = Request.model_validate(
        {"home": home.root, "corpus": corpus, "placement": placement, "trainings": trainings}
    )
    started = time.time()
    try:
        child = subprocess.run(
            [sys.executable, "-m", "flows.cost.timing"],
            input=request.model_dump_json(),
            capture_output=True,
            env=child_environment(slot),
            text=True,
            timeout=_LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CalibrationError(f"timing failed: no end after {_LONGEST_S:.0f} s") from error
    answers = [Answer.model_validate_json(line) for line in child.stdout.splitlines()]
    if len(answers) < len(trainings):
        lines = child.stderr.strip().splitlines()
        raise CalibrationError(f"timing failed: {lines[-1] if lines else 'no output'}")
    first = answers[0]
    return _Slot(
        load_s=first.loaded_at - started,
        start_s=first.ready_at - first.loaded_at,
        timings=[answer.timing for answer in answers],
    )


def _merged(timings: Sequence[Timing]) -> Timing:
    blocks = tuple(sorted(block for timing in timings for block in timing.blocks))
    return Timing(
        step_s=statistics.median(blocks),
        blocks=blocks,
        warm_s=statistics.median(timing.warm_s for timing in timings),
        eval_s_per_token=statistics.median(timing.eval_s_per_token for timing in timings),
        checkpoint_s=statistics.median(timing.checkpoint_s for timing in timings),
        work_s=min((timing.work_s for timing in timings if timing.work_s), default=None),
    )


def _key(shape: Shape, placement: Placement, slots: Sequence[dict[str, str]]) -> str:
    parts = [
        shape.model_dump_json(),
        placement.model_dump_json(exclude={"checkpoint_every_s", "keep_checkpoints"}),
        json.dumps([len(slots), sorted(slots[0].items())]),
        device_name(placement),
        version("torch"),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _read(path: Path) -> _StoredTiming | None:
    kept = read_record(path, _StoredTiming)
    return kept if kept is not None and 0 <= now() - kept.measured_at < _GOOD_FOR_S else None
