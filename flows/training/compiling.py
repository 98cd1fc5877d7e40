"""Whether a run is compiled: decided when it first trains, and the same when it is resumed."""

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from flows.files import no_room
from flows.plans.stored import read_plan, read_round
from flows.runs.attempts import CompileChoice, compile_choice, record_choice, steps_kept
from flows.runs.directory import RunDir
from flows.runs.provenance import environment
from flows.settings import Home
from flows.training.compile_gain import MicroStep, StepRecords, StepTimes, choose
from flows.training.failures import out_of_memory
from llama_core.config import Placement
from llama_core.schedule import tokens_spent
from sweeps.spec import PlannedRun, RunSpec

if TYPE_CHECKING:
    import torch

    from llama_core.corpus.batches import Batches

log = logging.getLogger(__name__)

# A training of fewer FLOPs saves less than it takes to load a graph on any processor.
_LEAST_FLOPS = 2.5e10
# And one of fewer steps than this would pay for the trial with more than it gains.
_FEWEST_STEPS = 200


def settled(run: RunDir, home: Home, batches: "Batches") -> Placement:
    """The run's placement with `compile` on or off. The caller holds the run.

    A choice is made once and recorded, so that a resumed run has the same bits. Where the
    placement says on or off, that counts.
    """
    from llama_core.machine import resolve_device

    placement = run.placement()
    if placement.compile == "auto" and compile_choice(run) is None:
        device = resolve_device(placement.device)
        choice = _foregone(run, run.planned(), placement, device)
        if choice is None:
            choice = _measured(run, home, placement, batches)
        record_choice(run, choice)
        log.info(
            "run %s is %scompiled: %s", run.id, "" if choice.compiled else "not ", choice.reason
        )
    return as_recorded(run, home)


def as_recorded(run: RunDir, home: Home) -> Placement:
    """The placement that `settled` returns, for a rank that does not write the run's record."""
    from llama_core.compiling import compile_obstacle, keep_graphs
    from llama_core.machine import resolve_device

    keep_graphs(home.graphs)
    placement = run.placement()
    if placement.compile != "auto":
        return placement
    device = resolve_device(placement.device)
    choice = compile_choice(run) or _foregone(run, run.planned(), placement, device)
    assert choice is not None, "the first rank has not recorded whether the run is compiled"
    if choice.compiled and (obstacle := compile_obstacle(device)) is not None:
        log.warning(
            "run %s was compiled and goes on uncompiled: %s Its losses differ by rounding.",
            *(run.id, obstacle),
        )
        choice = choice.model_copy(update={"compiled": False})
    return placement.model_copy(update={"compile": "on" if choice.compiled else "off"})


def foreseen(
    planned: PlannedRun,
    home: Home,
    placement: Placement,
    slot: Mapping[str, str],
    *,
    step_s: float,
    runs: int,
) -> CompileChoice | None:
    """What `settled` will choose, or has chosen; None where the placement says on or off.

    Args:
        slot: the environment of the training's process.
        step_s: seconds of an uncompiled step.
        runs: trainings of the run's graph still to come, this one included.
    """
    from llama_core.machine import resolve_device

    if placement.compile != "auto":
        return None
    run, device = RunDir(home.runs / planned.id), resolve_device(placement.device)
    choice = compile_choice(run) or _foregone(run, planned, placement, device)
    if choice is not None:
        return choice
    shape = micro_step(planned.run, placement)
    records = step_records(home, placement, slot)
    steps = tokens_spent(planned.run.train) / shape.tokens
    eager_s = step_s * shape.tokens / planned.run.train.batch_tokens
    return choose(steps, eager_s, times=records.read(shape), others=records.others(), runs=runs)


def _foregone(
    run: RunDir, planned: PlannedRun, placement: Placement, device: "torch.device"
) -> CompileChoice | None:
    """The first choice for a run where it needs no measurement."""
    from llama_core.compiling import compile_obstacle
    from llama_core.machine import compiles

    if steps_kept(run) or placement.ranks > 1:
        # Its earlier steps were trained before choices were recorded; ranks measure nothing.
        compiled = compiles(placement, device)
        return CompileChoice(compiled=compiled, reason=f"as always on {device.type}")
    if (obstacle := compile_obstacle(device)) is not None:
        return CompileChoice(compiled=False, reason=obstacle)
    steps = tokens_spent(planned.run.train) / micro_step(planned.run, placement).tokens
    if planned.flops_spent < _LEAST_FLOPS or steps < _FEWEST_STEPS:
        return CompileChoice(compiled=False, reason="too short to gain")
    return None


def micro_step(spec: RunSpec, placement: Placement) -> MicroStep:
    """The micro-step of a run on this machine."""
    from llama_core.machine import micro_batch_rows, resolve_device

    device = resolve_device(placement.device)
    rows = micro_batch_rows(spec.model, spec.train, placement, device, 1)
    return MicroStep(
        model=spec.model, rows=rows, seq_len=spec.train.seq_len, dtype=spec.train.dtype
    )


def step_records(home: Home, placement: Placement, slot: Mapping[str, str]) -> StepRecords:
    """What the home knows of compiled steps on the device of a placement.

    Args:
        slot: the environment of the training's process, which limits its threads.
    """
    from llama_core.machine import resolve_device

    device = str(resolve_device(placement.device))
    name = environment(device).device_name or device
    threads = str(placement.threads or slot.get("OMP_NUM_THREADS", ""))
    return StepRecords(home.timings / "steps", name, threads)


def _measured(run: RunDir, home: Home, placement: Placement, batches: "Batches") -> CompileChoice:
    """Choose by the times of this shape's steps, measured here unless the home has them."""
    from llama_core.compiling import keep_graphs
    from llama_core.trial import tried

    keep_graphs(home.graphs)
    planned = run.planned()
    spec, shape = planned.run, micro_step(planned.run, placement)
    steps = tokens_spent(spec.train) / shape.tokens
    off, on = (placement.model_copy(update={"compile": how}) for how in ("off", "on"))
    records = step_records(home, placement, os.environ)
    times = records.read(shape)
    if times is None:
        eager = tried(spec.model, spec.train, batches, off)
        times = StepTimes(device=records.device, eager_s=eager.step_s)
        records.write(shape, times)
    runs = _runs_to_come(planned, home, shape, placement)
    choice = choose(steps, times.eager_s, times=times, others=records.others(), runs=runs)
    if not choice.compiled or times.compiled_s is not None:
        return choice
    # It is expected to pay: the graph is needed anyway, and now it is known.
    try:
        compiled = tried(spec.model, spec.train, batches, on)
    except (RuntimeError, ImportError, OSError) as error:
        if out_of_memory(error) or no_room(error):
            raise
        line = str(error).strip().partition("\n")[0]
        # So that no other run of this shape tries.
        records.write(shape, times.model_copy(update={"compiled_s": times.eager_s}))
        return CompileChoice(compiled=False, reason=f"the compiler failed: {line[:200]}")
    eager_s = min(times.eager_s, tried(spec.model, spec.train, batches, off).step_s)
    cold_s = compiled.first_s if _new_graphs() else None
    times = times.model_copy(
        update={"eager_s": eager_s, "compiled_s": compiled.step_s, "cold_s": cold_s}
    )
    records.write(shape, times)
    return choose(steps, eager_s, times=times, others=(), runs=runs)


def _runs_to_come(planned: PlannedRun, home: Home, shape: MicroStep, placement: Placement) -> int:
    """Trainings of its sweep, or its study's round, that would use its graph and have not ended."""
    plan = read_plan(home, planned.sweep)
    runs = (*(plan.runs if plan is not None else ()), *read_round(home, planned.sweep))
    alike = {each.id for each in runs if micro_step(each.run, placement) == shape}
    return len({planned.id} | {each for each in alike if not RunDir(home.runs / each).settled()})


def _new_graphs() -> int:
    """Graphs that this process compiled and did not find among those kept."""
    from torch._dynamo.utils import counters

    return counters["inductor"]["fxgraph_cache_miss"]
