"""The history of a run's attempts: who trained which steps, where, for how long, to what end.

One line when an attempt starts and one when it ends, appended to `attempts.jsonl`. A killed
attempt leaves no end; how far it came is read off the curve.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flows.files import now, write_whole
from flows.runs.directory import RunDir
from flows.runs.provenance import Environment, Provenance, environment, packages, provenance
from flows.settings import Home
from llama_core.config import Frozen, Placement
from llama_core.schedule import steps_done

log = logging.getLogger(__name__)


class Attempt(Frozen):
    """One process that trained a run.

    Attributes:
        ended_at: None while it trains; of a killed one the time of its last sign of life.
        how: how it ended, `training` while it has not, `killed` when nothing tells.
        steps_from, steps_to: optimizer steps of the run's path, branches included, that it began
            and ended with. Between them lies what it trained, repeated steps included.
        packages: only where they differ from those of the provenance.
    """

    number: int
    started_at: float
    ended_at: float | None
    how: str
    steps_from: int
    steps_to: int
    environment: Environment
    packages: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """What trainings of a run have cost: optimizer steps, repeated ones too, and seconds."""

    steps: int
    seconds: float

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.steps - other.steps, self.seconds - other.seconds)


@contextmanager
def attempted(run: RunDir, home: Home, placement: Placement) -> Iterator[None]:
    """Note the start of an attempt, and its end however it ends; whoever calls holds the run."""
    from llama_core.machine import resolve_device

    planned, device = run.planned(), str(resolve_device(placement.device))
    if not run.provenance_path.exists():
        written = provenance(planned, home, device, now())
        write_whole(run.provenance_path, written.model_dump_json(indent=1))
    here = environment(device)
    first = read_provenance(run)
    known = first is not None and first.lock_sha256 == here.lock_sha256
    number = len(_rows(run, "start")) + 1
    _append(
        run,
        {
            "kind": "start",
            "number": number,
            "at": now(),
            "steps": steps_kept(run),
            "steps_before": steps_seen(run),
            "environment": here.model_dump(),
            "packages": None if known else packages(),
        },
    )
    how = "failed"
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
        _append(run, end)


def read_attempts(run: RunDir) -> list[Attempt]:
    """Every attempt of a run in order; none for a run of before they were kept."""
    starts = _rows(run, "start")
    ends = {row["number"]: row for row in _rows(run, "end")}
    seen = steps_seen(run)
    found = []
    for place, start in enumerate(starts):
        end = ends.get(start["number"])
        last = place == len(starts) - 1
        # What a killed attempt reached is what the next one found on the curve.
        reached = seen if last else starts[place + 1]["steps_before"]
        if end is not None:
            ended_at, how, reached = end["at"], end["how"], end["steps"]
        elif last and run.busy():
            ended_at, how = None, "training"
        else:
            limit = now() if last else starts[place + 1]["at"]
            ended_at, how = min(limit, max(start["at"], _last_sign(run))), "killed"
        found.append(
            Attempt(
                number=start["number"],
                started_at=start["at"],
                ended_at=ended_at,
                how=how,
                steps_from=start["steps"],
                steps_to=max(reached, start["steps"]),
                environment=Environment.model_validate(start["environment"]),
                packages=start["packages"],
            )
        )
    return found


def read_provenance(run: RunDir) -> Provenance | None:
    """What made the run; None where it was not recorded or is damaged."""
    try:
        return Provenance.model_validate_json(run.provenance_path.read_text())
    except (OSError, ValidationError):
        return None


def spent(run: RunDir) -> Spent:
    """What the run has cost until now. A run without attempts is taken by its result."""
    attempts = read_attempts(run)
    if not attempts:
        result = run.result()
        return Spent(steps_seen(run), result.train_s if result is not None else 0.0)
    return Spent(
        sum(attempt.steps_to - attempt.steps_from for attempt in attempts),
        sum((attempt.ended_at or now()) - attempt.started_at for attempt in attempts),
    )


def steps_kept(run: RunDir) -> int:
    """Optimizer steps that a resumed training does not repeat: those of the newest checkpoint."""
    # A checkpoint's name begins with the steps walked; see `llama_core.checkpoint`.
    return max(
        (int(path.name[:9]) for path in run.checkpoints.glob("?????????-???.json")), default=0
    )


def steps_seen(run: RunDir) -> int:
    """Optimizer steps of the run's path that its curve tells of."""
    last = run.last_row()
    if last is None:
        return 0
    return steps_done(run.planned().run.train, last["horizon"], last["step"])


def _last_sign(run: RunDir) -> float:
    """When something was last written by whoever trained the run."""
    paths = [run.curve_path, *run.checkpoints.glob("*.json")]
    return max((path.stat().st_mtime for path in paths if path.exists()), default=0.0)


def _append(run: RunDir, row: dict[str, Any]) -> None:
    line = json.dumps(row, separators=(",", ":")) + "\n"
    try:
        with run.attempts_path.open("ab+") as file:
            if file.tell() and not _ends_whole(run.attempts_path):
                line = "\n" + line
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        # A training is worth more than the note of it.
        log.warning("run %s: an attempt could not be noted: %s", run.id, error)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _rows(run: RunDir, kind: str) -> list[dict[str, Any]]:
    try:
        lines = run.attempts_path.read_bytes().split(b"\n")
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            # Torn by a kill, or what follows the last line feed.
            continue
        if row["kind"] == kind:
            rows.append(row)
    return rows
