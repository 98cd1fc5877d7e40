"""The curve of a run: an append-only file, written and read by line."""

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from flows.files import whole_line
from llama_core.records import DivergedRecord, EvalRecord, StepRecord

CurveRecord = StepRecord | EvalRecord | DivergedRecord
_KINDS: dict[type[Any], str] = {StepRecord: "step", EvalRecord: "eval", DivergedRecord: "diverged"}
_NAMES = {kind: tuple(field.name for field in fields(kind)) for kind in _KINDS}


class CurveWriter:
    """Appends to a curve that is never rewritten: a record whose row is there is passed over.

    A resumed training repeats the steps after its checkpoint. They are the same steps, so
    the rows of the first time stay, with their times; what was mirrored once stays true.
    Rows are written unbuffered, so a killed process loses none that came before a checkpoint.
    `steps` counts the optimizer steps that the curve tells of, branches included.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._last_step: dict[int | None, int] = {}
        self._evaluated: set[int] = set()
        self.steps = 0
        self._read_what_is_there()

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
        # Not `asdict`, which copies every value: half of what a step's row takes.
        row |= {name: getattr(record, name) for name in _NAMES[type(record)]}
        data = (json.dumps(row, separators=(",", ":")) + "\n").encode()
        while data:
            data = data[os.write(self._file, data) :]

    def sync(self) -> None:
        """Make what was written durable."""
        os.fsync(self._file)

    def close(self) -> None:
        """Make durable and close."""
        os.fsync(self._file)
        os.close(self._file)

    def _read_what_is_there(self) -> None:
        whole = 0
        with self._path.open("rb") as handle:
            for line in handle:
                row = parse(line)
                if row is None:
                    break
                whole += len(line)
                if row["kind"] == "step":
                    self._last_step[row["horizon"]] = row["step"]
                    self.steps += 1
                elif row["kind"] == "eval":
                    self._evaluated.add(row["horizon"])
        # What follows the last whole row was torn by a kill and never was a row.
        os.ftruncate(self._file, whole)


class CurveBehindError(RuntimeError):
    """A checkpoint is newer than the curve that belongs to it, as after a power cut."""


def parse(line: bytes) -> dict[str, Any] | None:
    row = whole_line(line)
    return row if isinstance(row, dict) else None
