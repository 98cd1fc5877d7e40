"""The cap on what a sweep may spend: FLOPs, device-hours, or money."""

from typing import Annotated, Literal

from pydantic import Field

from analysis.words import flops
from llama_core.config import Frozen

_Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class AssumedSpeed(Frozen):
    """A share of a GPU's dense bf16 peak, for a sweep planned on a machine without that GPU."""

    gpu: str = Field(description="a listed GPU such as h100, or any name with peak and memory_gb")
    mfu: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="share of the peak, the same for every run; None: that of published trainings "
        "of the run's size",
    )
    peak: Annotated[float, Field(ge=1e9, allow_inf_nan=False)] | None = Field(
        default=None, description="dense bf16 FLOP/s; None: the listed GPU's"
    )
    memory_gb: _Amount | None = Field(default=None, description="None: the listed GPU's")


_Speed = Annotated[
    AssumedSpeed | None,
    Field(description="of the devices; None: timed on the machine that dispatches"),
]


class FlopsCap(Frozen):
    """Counted training FLOPs, repeated steps of a killed training included."""

    kind: Literal["flops"] = "flops"
    flops: Annotated[_Amount, Field(description="the most that is spent")]


class HoursCap(Frozen):
    """Device-hours: two slots busy for an hour are two hours."""

    kind: Literal["hours"] = "hours"
    hours: Annotated[_Amount, Field(description="the most that is spent")]
    speed: _Speed = None


class MoneyCap(Frozen):
    """Dollars, at a price per device-hour."""

    kind: Literal["money"] = "money"
    usd: Annotated[_Amount, Field(description="the most that is spent")]
    usd_per_hour: Annotated[_Amount, Field(description="price of one device")]
    speed: _Speed = None


Cap = Annotated[FlopsCap | HoursCap | MoneyCap, Field(discriminator="kind")]


def amount(cap: Cap) -> float:
    """The cap in its own unit."""
    match cap:
        case FlopsCap():
            return cap.flops
        case HoursCap():
            return cap.hours
        case MoneyCap():
            return cap.usd


def in_words(cap: Cap, value: float) -> str:
    """An amount with the cap's unit, for people to read."""
    match cap:
        case FlopsCap():
            return f"{flops(value)} FLOPs"
        case HoursCap():
            return f"{value:.3g} device-hours"
        case MoneyCap():
            return f"${value:,.2f}" if value >= 0.01 or not value else f"${value:.2g}"


def option(cap: Cap) -> str:
    """The option of `isoflop sweep` that sets this kind of cap."""
    return {"flops": "--max-flops", "hours": "--max-hours", "money": "--max-cost"}[cap.kind]
