"""Measured speed of matched runs: the variant's FLOP/s over the baseline's."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.law import Array
from analysis.table.names import numeric_column
from analysis.table.observations import plain

_SPEED = ("tokens_per_s", "tokens_per_second", "tokens_per_sec", "tok_per_s", "tok_s", "tps")
_DEVICE = ("device", "device_name", "gpu", "gpu_type", "accelerator", "hardware")


def speed_ratios(
    names: tuple[str, str], frames: tuple[pl.DataFrame, pl.DataFrame], pairs: NDArray[np.intp]
) -> tuple[Array | None, str]:
    """Logs of the ratio of FLOP/s by pair, NaN off one device; or None and the reason."""
    measured = []
    for name, frame in zip(names, frames, strict=True):
        speed, device = _flops_per_s(frame), _devices(frame)
        if speed is None:
            return None, f"{name} has no measured tokens per second (column tokens_per_s)"
        if device is None:
            return None, f"{name} does not say on which device it ran (column device)"
        measured.append((speed, device))
    if not len(pairs):
        return None, "no run of one has the size, compute and seed of a run of the other"
    (speeds, devices), (other_speeds, other_devices) = measured
    mine, other = pairs.T
    same = devices[mine] == other_devices[other]
    if not same.any():
        by_name = " and ".join(
            f"{name} on {', '.join(sorted(set(device)))}"
            for name, (_, device) in zip(names, measured, strict=True)
        )
        return None, f"they ran on different devices: {by_name}"
    return np.where(same, np.log(other_speeds[other] / speeds[mine]), np.nan), ""


def _flops_per_s(frame: pl.DataFrame) -> Array | None:
    """Tokens per second times FLOPs per token."""
    name = numeric_column(frame, _SPEED)
    if not name:
        return None
    counted = "train_flops" in frame.columns and not frame["train_flops"].null_count()
    flops = frame["train_flops" if counted else "flops_6nd"].to_numpy().astype(float)
    return np.asarray(frame[name].to_numpy().astype(float) * flops / frame["tokens"].to_numpy())


def _devices(frame: pl.DataFrame) -> "NDArray[np.str_] | None":
    for name in frame.columns:
        if plain(name) in _DEVICE and not frame[name].null_count():
            return frame[name].cast(pl.String).to_numpy().astype(str)
    return None
