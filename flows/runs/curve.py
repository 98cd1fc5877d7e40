"""The curve of a run: an append-only file, written and read by line."""

import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.files import LineWriter, read_lines
from llama_core.records import DivergedRecord, EvalRecord, StepRecord

if TYPE_CHECKING:
    import polars as pl

CurveRecord = StepRecord | EvalRecord | DivergedRecord
_KINDS: dict[type[Any], str] = {StepRecord: "step", EvalRecord: "eval", DivergedRecord: "diverged"}
_NAMES = {kind: tuple(field.name for field in fields(kind)) for kind in _KINDS}
_TAIL_BYTES = 4096


class Curve:
    """Reads a curve; nothing is cached, the training appends to the file meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every whole row, in the order of training."""
        return (row for row, _ in read_lines(self.path))

    def tail(self) -> list[dict[str, Any]]:
        """The newest rows, a dozen or so, read from the end of the file."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES))
                if size > _TAIL_BYTES:
                    file.readline()
                return [row for row, _ in read_lines(self.path, file.tell())]
        except FileNotFoundError:
            return []

    def last(self) -> dict[str, Any] | None:
        """The newest row."""
        rows = self.tail()
        return rows[-1] if rows else None

    def evals(self) -> dict[int, dict[str, Any]]:
        """The rows with a validation loss, by horizon."""
        return {row["horizon"]: row for row in self.rows() if row["kind"] == "eval"}

    def steps(self) -> "pl.DataFrame":
        """The step rows as a frame: step, tokens, horizon, loss, lr, grad_norm, …, at."""
        import polars as pl  # trainings do not need it

        rows = [row for row in self.rows() if row.pop("kind") == "step"]
        return pl.DataFrame(rows, infer_schema_length=None)

    def sync(self) -> None:
        """Make every row written so far durable, whichever process wrote it."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())


class CurveWriter(LineWriter):
    """Appends to a curve that is never rewritten: a record whose row is there is skipped.

    A resumed training repeats the steps after its checkpoint. They are the same steps, so
    the rows of the first time stay, with their times, and so does what was mirrored of them.
    `steps` counts the optimizer steps on the curve, branches included.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last_step: dict[int | None, int] = {}
        self._evaluated: set[int] = set()
        self.steps = 0
        end = 0
        # A row that is missing would be a hole in the curve; what follows it is trained again.
        for row, row_end in read_lines(path, stop_at_damage=True):
            end = row_end
            if row["kind"] == "step":
                self._last_step[row["horizon"]] = row["step"]
                self.steps += 1
            elif row["kind"] == "eval":
                self._evaluated.add(row["horizon"])
        super().__init__(path, end)

    def append(self, record: CurveRecord) -> None:
        """Write one record as a line, unless its row is there.

        Raises:
            CurveBehindError: rows before this one are missing.
        """
        match record:
            case StepRecord():
                last = self._last_step.get(record.horizon)
                if last is not None and record.step <= last:
                    return
                # A branch may begin at any step; the trunk begins at 1.
                expected = record.step if record.horizon is not None else 1
                if record.step != (expected if last is None else last + 1):
                    raise CurveBehindError(
                        f"{self._path} ends at step {last or 0}, and step {record.step} comes next"
                    )
                self._last_step[record.horizon] = record.step
                self.steps += 1
            case EvalRecord():
                if record.horizon in self._evaluated:
                    return
                self._evaluated.add(record.horizon)
        row = {"kind": _KINDS[type(record)]}
        # Not `asdict`, which copies every value: half of the time of a step's row.
        row |= {name: getattr(record, name) for name in _NAMES[type(record)]}
        super().append(row)


class CurveBehindError(RuntimeError):
    """A checkpoint is newer than the curve that belongs to it, as after a power cut."""
