"""A sweep's observations and curves as files that other programs read."""

import io
import json
import math
from pathlib import Path
from typing import Literal

import polars as pl

from flows.plans.joined import joined
from flows.runs.table import curves, observations_frame
from flows.settings import Home
from llama_core.files import write_durably
from sweeps.plan import Plan

Format = Literal["parquet", "csv", "json"]


def export_sweep(plan: Plan, home: Home, folder: Path, kind: Format) -> list[Path]:
    """Write observations.KIND and curves.KIND; each file appears whole or not at all.

    Counts are 64-bit integers, everything else that is a number a 64-bit float; text formats
    hold the shortest digits that read back as the same float. docs/orchestration/provenance.md
    has the columns.

    Returns:
        the files written; no curves where nothing was trained.
    """
    folder.mkdir(parents=True, exist_ok=True)
    runs = joined(plan, home).plan.runs
    frames = {"observations": observations_frame(runs, home), "curves": curves(runs, home)}
    written = []
    for name, frame in frames.items():
        if frame.is_empty():
            continue
        path = folder / f"{name}.{kind}"
        write_durably(path, encoded(frame, kind))
        written.append(path)
    return written


def encoded(frame: pl.DataFrame, kind: Format) -> bytes:
    """The bytes of a frame's file. Polars writes to memory: it would hide that a disk is full."""
    match kind:
        case "parquet":
            frame.write_parquet(buffer := io.BytesIO())
            return buffer.getvalue()
        case "csv":
            return frame.write_csv().encode()
        case "json":
            # One row a line, so that a person can read it and a diff shows what moved.
            rows = [
                {key: _finite(value) for key, value in row.items()}
                for row in frame.iter_rows(named=True)
            ]
            body = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
            return f"[\n{body}\n]\n".encode()


def _finite(value: object) -> object:
    """A value with null for NaN and infinity, which JSON lacks."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
