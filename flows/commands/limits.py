"""Options of `plan` and `sweep` that cap and price a sweep."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.options import COST, gpu_names

if TYPE_CHECKING:
    from sweeps.cap import AssumedSpeed, Cap


@Parameter(name="*", group=COST)
@dataclass(frozen=True)
class Limits:
    """Limits of a sweep's cost; they replace the spec's own cap.

    Attributes:
        max_flops: counted FLOPs the sweep may spend.
        max_hours: hours of devices it may spend, all slots together.
        max_cost: dollars it may spend; needs --price, or --gpu with a listed price.
        price: dollars per hour of one device.
        gpu: plan for this GPU, such as h100, instead of timing this machine.
        mfu: share of its dense bf16 peak that training reaches; else as published, by size.
        peak: dense bf16 peak of a GPU that is not listed, in FLOP/s, as 362e12.
        memory: memory of a GPU that is not listed, in GB.
    """

    max_flops: float | None = None
    max_hours: float | None = None
    max_cost: float | None = None
    price: float | None = None
    gpu: Annotated[str | None, Parameter(completer=gpu_names)] = None
    mfu: float | None = None
    peak: float | None = None
    memory: float | None = None


UNLIMITED = Limits()


def cap_of(limits: Limits) -> "Cap | None":
    """The cap that the options set; None without one.

    Raises:
        ValueError: several caps, no price for one in dollars, or a number out of range.
    """
    from pydantic import ValidationError

    from sweeps.cap import FlopsCap, HoursCap, MoneyCap

    speed = speed_of(limits)
    limits_given = {
        name: value
        for name in ("max_flops", "max_hours", "max_cost")
        if (value := getattr(limits, name)) is not None
    }
    if len(limits_given) > 1:
        options = " and ".join(f"--{name.replace('_', '-')}" for name in limits_given)
        raise ValueError(f"{options} were given: a sweep has one cap, choose one.")
    if limits.price is not None and not 0 < limits.price < float("inf"):
        raise ValueError(f"--price {limits.price:g} is not above zero dollars an hour.")
    try:
        match limits_given:
            case {"max_flops": flops}:
                return FlopsCap(flops=flops)
            case {"max_hours": hours}:
                return HoursCap(hours=hours, speed=speed)
            case {"max_cost": usd}:
                return MoneyCap(usd=usd, usd_per_hour=_price(limits), speed=speed)
    except ValidationError as error:
        [(name, value)] = limits_given.items()
        reason = error.errors()[0]["msg"].lower()
        raise ValueError(f"--{name.replace('_', '-')} {value:g}: {reason}.") from error
    return None


def _price(limits: Limits) -> float:
    """Dollars per hour: as given, or as listed for the GPU."""
    from flows.cost.assumed import device_of

    if limits.price is not None:
        return limits.price
    speed = speed_of(limits)
    listed = device_of(speed).usd_per_hour if speed is not None else None
    if listed is None:
        raise ValueError(
            "--max-cost needs the price of one device per hour, for example --price 2.5."
        )
    return float(listed)


def speed_of(limits: Limits) -> "AssumedSpeed | None":
    """The speed that the options assume; None where this machine is to be timed.

    Raises:
        ValueError: an option is out of range, or needs a GPU that none names.
        published.UnknownName: the GPU is not listed, and its peak or memory is not given.
    """
    from analysis import published
    from flows.cost.assumed import device_of
    from sweeps.cap import AssumedSpeed

    if limits.mfu is not None and not 0 < limits.mfu <= 1:
        raise ValueError(f"--mfu {limits.mfu:g} is not a share between 0 and 1.")
    if limits.peak is not None and not 1e9 <= limits.peak < float("inf"):
        raise ValueError(f"--peak {limits.peak:g} is not a peak in FLOP/s, such as 362e12.")
    if limits.memory is not None and not 0 < limits.memory < 1e6:
        raise ValueError(f"--memory {limits.memory:g} is not a memory in GB, such as 80.")
    if limits.gpu is None:
        for option in ("mfu", "peak", "memory"):
            if getattr(limits, option) is not None:
                raise ValueError(f"--{option} is of a GPU: name it, as --gpu h100.")
        return None
    speed = AssumedSpeed(gpu=limits.gpu, mfu=limits.mfu, peak=limits.peak, memory_gb=limits.memory)
    try:
        device_of(speed)
    except published.UnknownName as error:
        missing = [
            option
            for option, value in (
                ("--peak in FLOP/s", speed.peak),
                ("--memory in GB", speed.memory_gb),
            )
            if value is None
        ]
        if len(missing) == 1:
            raise published.UnknownName(
                f"--gpu {limits.gpu} is not listed: give its {missing[0]} too."
            ) from error
        raise published.UnknownName(
            f"{error} For another GPU give its --peak in FLOP/s and its --memory in GB."
        ) from error
    return speed


def refuse_idle(limits: Limits) -> None:
    """Refuse options that price a cap where no cap in hours or dollars is set.

    Raises:
        ValueError: such an option was given.
    """
    options = ("gpu", "mfu", "peak", "memory", "price")
    idle = [f"--{name}" for name in options if getattr(limits, name) is not None]
    if idle and limits.max_hours is None and limits.max_cost is None:
        raise ValueError(
            f"{' and '.join(idle)} would change nothing: a sweep trains on this machine, and only "
            "--max-hours and --max-cost use a GPU's speed or price. isoflop plan takes them."
        )
