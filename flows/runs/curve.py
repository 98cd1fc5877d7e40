"""The curve of a run: an append-only file, written and read by line."""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.files import LineWriter, copy_aside, has_fields, read_lines
from llama_core.files import write_durably
from llama_core.records import DivergedRecord, EvalRecord, StepRecord

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)

CurveRecord = StepRecord | EvalRecord | DivergedRecord
_KINDS: dict[type[Any], str] = {StepRecord: "step", EvalRecord: "eval", DivergedRecord: "diverged"}
# An evaluation's losses by source are written only where there are any.
_NAMES = {
    kind: tuple(field.name for field in fields(kind) if field.name != "sources") for kind in _KINDS
}
# Fields without which no row of a kind was ever written.
_NEEDED = {
    "step": ("step", "tokens", "horizon", "loss", "lr", "grad_norm", "tokens_per_s", "mfu", "at"),
    "eval": ("step", "tokens", "horizon", "val_loss", "val_bpb", "at"),
    "diverged": ("step", "horizon", "at"),
}
# Fields of a step that are null on the trunk, or where no peak is known.
_NULLABLE = ("horizon", "mfu")
_TAIL_BYTES, _LAST_BYTES = 4096, 512


def is_curve_row(row: Any) -> bool:
    """Whether a line of a curve holds what one was written with."""
    return has_fields(row, "kind") and has_fields(row, *_NEEDED.get(row["kind"], ("no kind",)))


class Curve:
    """Reads a curve; nothing is cached, the training appends to the file meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every whole row, in the order of training."""
        return (row for row, _ in read_lines(self.path, is_row=is_curve_row))

    def tail(self, window: int = _TAIL_BYTES) -> list[dict[str, Any]]:
        """The newest rows, a dozen or so in 4 kB, read from the end of the file."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                while True:
                    file.seek(max(0, size - window))
                    if size > window:
                        file.readline()
                    lines = read_lines(self.path, file.tell(), is_row=is_curve_row)
                    rows = [row for row, _ in lines]
                    # The losses of many sources make one long line.
                    if len(rows) > 1 or window >= size:
                        return rows
                    window *= 2
        except FileNotFoundError:
            return []

    def last(self) -> dict[str, Any] | None:
        """The newest row."""
        rows = self.tail(_LAST_BYTES)
        return rows[-1] if rows else None

    def evals(self) -> dict[int, dict[str, Any]]:
        """The rows with a validation loss, by horizon."""
        return {row["horizon"]: row for row in self.rows() if row["kind"] == "eval"}

    def steps(self) -> "pl.DataFrame":
        """The step rows as a frame: step, tokens, horizon, loss, lr, grad_norm, …, at."""
        import polars as pl  # trainings do not need it

        names = _NAMES[StepRecord]
        frame = self._read_at_once()
        if frame is None:
            rows = [tuple(map(row.get, names)) for row in self.rows() if row["kind"] == "step"]
            types = {name: dtype for name, dtype in _schema().items() if name in names}
            frame = pl.DataFrame(rows, schema=types, orient="row")
        return frame[list(names)]

    def _read_at_once(self) -> "pl.DataFrame | None":
        """The step rows of an undamaged curve; None where each line has to be looked at.

        Several times faster than `rows`, and equal to it, or it would be None: every line has been
        read, and none lacks what a row of its kind was ever written with.
        """
        import polars as pl

        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        # What follows the last line feed is still being written, or was torn by a kill.
        content = content[: content.rfind(b"\n") + 1]
        try:
            frame = pl.read_ndjson(content, schema=_schema())
        except pl.exceptions.PolarsError:
            return None
        lines = content.count(b"\n")
        steps = frame.filter(pl.col("kind") == "step")
        others = frame.filter(pl.col("kind") != "step").to_dicts()
        if frame.height != lines or steps.height + len(others) != lines:
            return None
        # A null may be one that was written, or a field that is missing.
        nulls = steps.null_count().row(0, named=True)
        written = (
            not any(nulls[name] for name in _NEEDED["step"] if name not in _NULLABLE)
            and not any(
                row[name] is None for row in others for name in _NEEDED.get(row["kind"], ())
            )
            and all(row["kind"] in _NEEDED for row in others)
            and content.count(b'"horizon":') == lines
            and content.count(b'"mfu":') == steps.height
        )
        return steps if written else None

    def sync(self) -> None:
        """Make every row written so far durable, whichever process wrote it."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())


def _schema() -> "pl.Schema":
    """The fields of a step, and those that no row lacks."""
    import polars as pl

    counts = ("step", "tokens", "horizon")
    names = dict.fromkeys(
        (*_NAMES[StepRecord], *(name for kind in _NEEDED.values() for name in kind))
    )
    types = {name: pl.Int64() if name in counts else pl.Float64() for name in names}
    return pl.Schema({"kind": pl.String(), **types})


class CurveWriter(LineWriter):
    """Appends to a curve that is never rewritten: a record whose row is there is skipped.

    A resumed training repeats the steps after its checkpoint. They are the same steps, so
    the rows of the first time stay, with their times, and so does what was mirrored of them.
    Trained in another company (a stack, or alone) they differ by rounding: a horizon evaluated
    again with other weights has a second row, which counts.
    `steps` counts the optimizer steps on the curve, branches included.

    Args:
        kept: optimizer steps that a resumed training does not repeat. If rows of these lie behind
            a damaged line, the curve is mended: it lacks that line alone. Otherwise it is cut
            off there, and what follows is trained and written again.
    """

    def __init__(self, path: Path, kept: int = 0) -> None:
        self._path = path
        self._last_step: dict[int | None, int] = {}
        self._evaluated: dict[int, str] = {}
        self.steps = 0
        end = self._read(0, stop_at_damage=True)
        if self.steps < kept:
            end = self._mend(end)
        super().__init__(path, end)

    def _read(self, start: int, *, stop_at_damage: bool) -> int:
        """Count the rows from an offset on; the end of the last of them."""
        end = start
        for row, row_end in read_lines(
            self._path, start, is_row=is_curve_row, stop_at_damage=stop_at_damage
        ):
            end = row_end
            if row["kind"] == "step":
                self._last_step[row["horizon"]] = row["step"]
                self.steps += 1
            elif row["kind"] == "eval":
                self._evaluated[row["horizon"]] = row.get("weights_sha256", "")
        return end

    def _mend(self, end: int) -> int:
        """Leave damaged lines behind this offset out of the curve; its new end."""
        behind = [row for row, _ in read_lines(self._path, end, is_row=is_curve_row)]
        if not behind:
            return end
        content = self._path.read_bytes()
        lost = content[end:].count(b"\n") - len(behind)
        copy = copy_aside(self._path)
        lines = (json.dumps(row, separators=(",", ":")) + "\n" for row in behind)
        write_durably(self._path, content[:end] + "".join(lines).encode())
        log.warning(
            "%s: %d damaged lines are left out and %d rows behind them kept; as it was: %s",
            *(self._path, lost, len(behind), copy.name),
        )
        return self._read(end, stop_at_damage=False)

    def require(self, horizon: int | None, step: int) -> None:
        """Refuse to go on behind a step that has no row.

        Raises:
            CurveBehindError: the curve does not come to it.
        """
        last = self._last_step.get(horizon, 0)
        if last < step:
            raise CurveBehindError(
                f"{self._path} ends at step {last}, and step {step + 1} comes next"
            )

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
                if self._evaluated.get(record.horizon) == record.weights_sha256:
                    return
                self._evaluated[record.horizon] = record.weights_sha256
        row: dict[str, Any] = {"kind": _KINDS[type(record)]}
        # Not `asdict`, which copies every value: half of the time of a step's row.
        row |= {name: getattr(record, name) for name in _NAMES[type(record)]}
        if isinstance(record, EvalRecord) and record.sources:
            row["sources"] = [asdict(source) for source in record.sources]
        super().append(row)


class CurveBehindError(RuntimeError):
    """A checkpoint is newer than the curve that belongs to it, as after a power cut."""
