"""The attempts at training a run: which process trained which steps, where, and how it ended.

An attempt appends a line to `attempts.jsonl` when it starts and one when it ends. A killed
attempt has no end; how far it came is read from the curve. The first one adds whether the run is
compiled, and one that may train with others whether it does.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import PositiveFloat, ValidationError

from flows.files import append_line, has_fields, now, read_lines, read_record, write_whole
from flows.runs.directory import RunDir
from flows.runs.provenance import Environment, Provenance, environment, packages, provenance
from flows.settings import Home
from llama_core.checkpoints.place import newest_place
from llama_core.config import Frozen
from llama_core.schedule import steps_done

log = logging.getLogger(__name__)


class CompileChoice(Frozen):
    """Whether a run is compiled.

    Attributes:
        reason: for a person, a clause.
        gain_s: seconds that it is expected to save, compilation paid; of an uncompiled run, what
            compiling it would have saved, negative for a loss; None where nothing was reckoned.
    """

    compiled: bool
    reason: str
    gain_s: float | None = None


class StackChoice(Frozen):
    """Whether runs of one shape train as one program.

    Attributes:
        runs: how many.
        reason: for a person, a clause.
        gain: work of the runs one by one over their work as one program; None where no trial of
            both was made.
    """

    stacked: bool
    runs: int
    reason: str
    gain: PositiveFloat | None = None


class Attempt(Frozen):
    """One process that trained a run.

    Attributes:
        ended_at: None while it trains; for a killed one the time of its last row or checkpoint.
        seconds: from its start to its end, or until now.
        how: how it ended; `training` before that, `killed` when it recorded no end.
        steps_from, steps_to: optimizer steps, branches included, at its start and end. It
            trained those between, some of them perhaps a second time.
        packages: None where they are those of the provenance.
        together: runs that the process trained as one program, this one included.
        flow_run: id of its own flow run in Prefect; None where it had none, as without workers.
    """

    number: int
    started_at: float
    ended_at: float | None
    seconds: float
    how: str
    steps_from: int
    steps_to: int
    environment: Environment
    packages: dict[str, str] | None = None
    together: int = 1
    flow_run: str | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """The cost of training a run: optimizer steps, repeated ones included, and seconds."""

    steps: int
    seconds: float

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.steps - other.steps, self.seconds - other.seconds)


@contextmanager
def recording_attempt(run: RunDir, home: Home, together: int = 1) -> Iterator[None]:
    """Record the start of an attempt and its end, however it ends. The caller holds the run.

    Args:
        together: runs that train as one program.
    """
    from llama_core.machine import resolve_device

    planned, device = run.planned(), str(resolve_device(run.placement().device))
    if not run.provenance_path.exists():
        document = provenance(planned, home, device, now())
        write_whole(run.provenance_path, document.model_dump_json(indent=1))
    current = environment(device)
    first = read_provenance(run)
    same_packages = first is not None and first.lock_sha256 == current.lock_sha256
    number = max((row["number"] for row in _rows(run, "start")), default=0) + 1
    _append(
        run,
        {
            "kind": "start",
            "number": number,
            "at": now(),
            "steps": steps_kept(run),
            "steps_before": steps_seen(run),
            "last_write": _last_write(run, now()),
            "environment": current.model_dump(),
            "packages": None if same_packages else packages(),
            **({"together": together} if together > 1 else {}),
            # Prefect's worker sets it; this room does not import Prefect.
            "flow_run": os.environ.get("PREFECT__FLOW_RUN_ID"),
        },
    )
    how, began = "failed", time.monotonic()
    try:
        yield
        result = run.result()
        how = result.status if result is not None else "stopped"
    except Exception as error:
        how = f"failed: {type(error).__name__}: {error}"[:500]
        raise
    except BaseException as error:
        how = f"stopped: {type(error).__name__} {error}".strip()
        raise
    finally:
        end = {"kind": "end", "number": number, "at": now(), "how": how, "steps": steps_seen(run)}
        # The clock may be set while it trains.
        _append(run, end | {"seconds": time.monotonic() - began})


def read_attempts(run: RunDir) -> list[Attempt]:
    """All attempts of a run, oldest first; empty for runs older than this record."""
    starts = _rows(run, "start")
    ends = {row["number"]: row for row in _rows(run, "end")}
    seen = steps_seen(run)
    attempts = []
    for place, start in enumerate(starts):
        end = ends.get(start["number"])
        last = place == len(starts) - 1
        # A killed attempt reached the steps that the next one found on the curve.
        reached = seen if last else starts[place + 1]["steps_before"]
        if end is not None:
            ended_at, how, reached = end["at"], end["how"], end["steps"]
        elif last and run.busy():
            ended_at, how = None, "training"
        else:
            ended_at, how = max(start["at"], _last_sign(run, starts[place + 1 :])), "killed"
        by_clock = max(0.0, (now() if ended_at is None else ended_at) - start["at"])
        attempts.append(
            Attempt(
                number=start["number"],
                started_at=start["at"],
                ended_at=ended_at,
                seconds=by_clock if end is None else end.get("seconds", by_clock),
                how=how,
                steps_from=start["steps"],
                steps_to=max(reached, start["steps"]),
                environment=Environment.model_validate(start["environment"]),
                packages=start["packages"],
                together=start.get("together", 1),
                flow_run=start.get("flow_run"),
            )
        )
    return attempts


def compile_choice(run: RunDir) -> CompileChoice | None:
    """Whether the run is compiled, as chosen when it first trained; None before that."""
    rows = _rows(run, "compile")
    return CompileChoice.model_validate(rows[0]["choice"]) if rows else None


def stack_choice(run: RunDir) -> StackChoice | None:
    """Whether the run trained with others when that was last to be chosen; None if it never was."""
    rows = _rows(run, "stack")
    return StackChoice.model_validate(rows[-1]["choice"]) if rows else None


def record_choice(run: RunDir, choice: CompileChoice | StackChoice) -> None:
    """Record a choice on how the run is trained. The caller holds the run."""
    kind = "compile" if isinstance(choice, CompileChoice) else "stack"
    number = max((row["number"] for row in _rows(run, "start")), default=0)
    row = {"kind": kind, "number": number, "at": now(), "steps": steps_kept(run)}
    _append(run, {**row, "choice": choice.model_dump()})


def read_provenance(run: RunDir) -> Provenance | None:
    """What made the run; None where it was not recorded or the file is damaged."""
    return read_record(run.provenance_path, Provenance)


def spent(run: RunDir) -> Spent:
    """The cost of the run until now. Without attempts, it is read from the result."""
    attempts = read_attempts(run)
    if not attempts:
        result = run.result()
        return Spent(steps_seen(run), result.train_s if result is not None else 0.0)
    return Spent(
        sum(attempt.steps_to - attempt.steps_from for attempt in attempts),
        sum(attempt.seconds / attempt.together for attempt in attempts),
    )


def steps_kept(run: RunDir) -> int:
    """Optimizer steps that a resumed training does not repeat: those of the newest checkpoint."""
    place = newest_place(run.checkpoints)
    return place.steps_taken if place is not None else 0


def steps_seen(run: RunDir) -> int:
    """Optimizer steps on the run's curve, branches included, each counted once."""
    last = run.curve.last()
    if last is None:
        return 0
    return steps_done(run.planned().run.train, last["horizon"], last["step"])


def _last_sign(run: RunDir, later: list[dict[str, Any]]) -> float:
    """When a killed attempt, after which these started, last wrote anything."""
    if not later:
        return _last_write(run, now())
    # Older versions did not record what the next attempt found.
    return float(later[0].get("last_write") or _last_write(run, later[0]["at"]))


def _last_write(run: RunDir, limit: float) -> float:
    """When a training last wrote a row, a checkpoint or a heartbeat until `limit`; 0 if never.

    One that repeats steps writes no rows.
    """
    times = [row["at"] for row in run.curve.rows()]
    paths = [*run.checkpoints.glob("*.json"), run.lease_path, run.left_lease_path]
    times += [path.stat().st_mtime for path in paths if path.exists()]
    return max((time for time in times if time <= limit), default=0.0)


def _append(run: RunDir, row: dict[str, Any]) -> None:
    try:
        append_line(run.attempts_path, row)
    except OSError as error:
        # The training is worth more than the record of it.
        log.warning("run %s: an attempt could not be recorded: %s", run.id, error)


def _rows(run: RunDir, kind: str) -> list[dict[str, Any]]:
    try:
        rows = [row for row, _ in read_lines(run.attempts_path, is_row=_is_entry)]
    except OSError:
        return []
    return [row for row in rows if row["kind"] == kind]


def _is_entry(row: Any) -> bool:
    """Whether a line records the start or the end of an attempt, or the choice of one."""
    if not has_fields(row, "kind", "number", "at", "steps"):
        return False
    if row["kind"] == "end":
        return "how" in row
    kinds: dict[str, type[Frozen]] = {"compile": CompileChoice, "stack": StackChoice}
    choice = kinds.get(row["kind"])
    try:
        if choice is not None:
            choice.model_validate(row.get("choice"))
            return True
        Environment.model_validate(row.get("environment"))
    except ValidationError:
        return False
    return has_fields(row, "steps_before", "packages")
