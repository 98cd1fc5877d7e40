"""The cost of a plan: time, memory, money, and the runs its cap leaves out."""

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from flows.cost.assumed import device_of, micro_batch_rows
from flows.cost.calibrate import estimate_plan
from flows.cost.estimate import Estimate
from flows.cost.ledger import capped
from flows.settings import Home
from llama_core import machine
from llama_core.config import Placement
from llama_core.machine import attention_backend, resolve_device
from llama_core.memory import MEMORY_SHARE, step_memory
from sweeps.cap import AssumedSpeed, HoursCap, MoneyCap
from sweeps.spec import PlannedRun
from sweeps.tune_plan import AnyPlan

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a plan.

    Attributes:
        memory_gib: peak of a training step, by run id.
        usd_per_hour: price of one device; None where it is not known.
        price_source: source of the price.
        refusal: which runs the sweep's cap leaves out; None if it leaves out none.
        warnings: problems that depend on the device, such as too little memory.
    """

    estimate: Estimate
    memory_gib: dict[str, float]
    usd_per_hour: float | None
    price_source: str
    refusal: str | None
    warnings: tuple[str, ...]

    def usd(self, seconds: float) -> float | None:
        """Dollars for these seconds on one device."""
        return None if self.usd_per_hour is None else seconds / 3600 * self.usd_per_hour


def quote(
    plan: AnyPlan,
    home: Home,
    slots: Sequence[dict[str, str]],
    *,
    speed: AssumedSpeed | None,
    usd_per_hour: float | None,
    retime: bool = False,
) -> Cost:
    """The remaining cost of a plan on this machine, or on a GPU at an assumed MFU.

    Args:
        usd_per_hour: price of one device; None: the price listed for the GPU, if any.
        retime: time this machine again, though it was timed within hours.

    Raises:
        CalibrationError: a timing process failed.
        published.UnknownName: the GPU is not in the table.
    """
    if speed is None and isinstance(plan.spec.cap, HoursCap | MoneyCap):
        # The cap is measured by this speed.
        speed = plan.spec.cap.speed
    estimate = estimate_plan(plan, home, slots, speed, retime=retime)
    device = device_of(speed) if speed is not None else None
    source = "as given"
    if usd_per_hour is None and isinstance(plan.spec.cap, MoneyCap):
        usd_per_hour, source = plan.spec.cap.usd_per_hour, "the cap's price"
    if usd_per_hour is None and device is not None and device.usd_per_hour is not None:
        usd_per_hour, source = device.usd_per_hour, "the listed price; --price sets another"
    gpu_bytes = device.memory_bytes if device is not None else None
    memory = {run.id: memory_gib(run, plan.spec.placement, gpu_bytes) for run in plan.runs}
    cap = capped(plan, home, slots, estimate)
    return Cost(
        estimate=estimate,
        memory_gib=memory,
        usd_per_hour=usd_per_hour,
        price_source=source,
        refusal=cap.foresee() if cap is not None else None,
        warnings=tuple(_warnings(plan, memory, gpu_bytes, len(slots))),
    )


def memory_gib(run: PlannedRun, placement: Placement, gpu_bytes: float | None = None) -> float:
    """Estimated peak of weights, gradients, moments and activations, without the libraries.

    Args:
        gpu_bytes: memory of the GPU planned for; None: the device that the placement means here.
    """
    model, train = run.run.model, run.run.train
    if gpu_bytes is None:
        device = resolve_device(placement.device)
        eager = attention_backend(placement, device, train.seq_len) == "eager"
        rows = machine.micro_batch_rows(model, train, placement, device, placement.ranks)
    else:
        eager = placement.attention == "eager"
        rows = micro_batch_rows(run, placement, gpu_bytes)
    return step_memory(model, train, placement, rows=rows, eager=eager).peak / _GIB


def _warnings(
    plan: AnyPlan, memory: dict[str, float], gpu_bytes: float | None, slots: int
) -> list[str]:
    warnings = []
    if gpu_bytes is not None:
        room, where, fewer = gpu_bytes * MEMORY_SHARE / _GIB, "the GPU's", ""
    else:
        room, where, fewer = _room_here(plan, slots), "a slot's share of the", "Fewer slots, "
    large = [run.name for run in plan.runs if memory[run.id] > room]
    if large:
        warnings.append(
            f"{', '.join(large)}: up to {max(memory.values()):.3g} GiB, more than {where} "
            f"{room:.3g} GiB of memory. {fewer}placement.activation_checkpointing=full or "
            "sharding over more ranks would help."
        )
    if gpu_bytes is not None and plan.spec.dtype == "float32":
        warnings.append(
            "the spec trains in float32, and the MFU is of the bf16 peak, which float32 cannot "
            "reach. Set dtype=bfloat16."
        )
    return warnings


def _room_here(plan: AnyPlan, slots: int) -> float:
    """GiB of memory for one slot of this machine."""
    if resolve_device(plan.spec.placement.device).type == "cuda":
        import torch

        return torch.cuda.mem_get_info()[1] * MEMORY_SHARE / _GIB
    return psutil.virtual_memory().available / slots / _GIB
