"""Progress of a sweep, run by run, read from the run directories alone."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from flows.runs.directory import RunDir, RunResult
from flows.runs.state import TO_DO, state_with
from flows.runs.words import RunState
from flows.settings import Home
from llama_core.schedule import steps_done
from sweeps.plan import Plan
from sweeps.spec import PlannedRun

# Until one of the two is reached, start-up outweighs training and the pace says little.
_LEAST_S = 60.0
_LEAST_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class RunProgress:
    """One run at one moment.

    Attributes:
        state: as `flows.runs.state` has it, or `found`: its result was there before the sweep.
        step: optimizer steps done, cooldown branches included, of `steps`.
        loss: newest loss, nats per token: of validation where a horizon has just ended, else of
            the last step's batch.
        tokens_per_s: over the newest rows of the curve; None unless training.
        mfu: counted FLOP/s over the device's peak; None where no peak is known, as on a CPU.
        left_s: seconds to its end at that pace.
        heartbeat_s: seconds since its newest row was written.
    """

    run_id: str
    name: str
    n_params: int
    state: RunState | Literal["found"]
    step: int
    steps: int
    loss: float | None
    tokens_per_s: float | None = None
    mfu: float | None = None
    left_s: float | None = None
    heartbeat_s: float | None = None


@dataclass(frozen=True, slots=True)
class SweepProgress:
    """All runs of a sweep at one moment.

    Attributes:
        elapsed_s: since the sweep or its observer started.
        share: fraction spent of the FLOPs that were missing at the start; 1 if none were.
        left_s: seconds to the end at the pace since the start; None before the first step, and
            while start-up outweighs training.
    """

    name: str
    runs: tuple[RunProgress, ...]
    elapsed_s: float
    share: float
    left_s: float | None

    def count(self, *states: str) -> int:
        """How many runs are in one of these states."""
        return sum(run.state in states for run in self.runs)

    @property
    def tokens_per_s(self) -> float:
        """Throughput of all runs that train now."""
        return sum(run.tokens_per_s or 0.0 for run in self.runs)

    def title(self) -> str:
        """The sweep's progress in one line."""
        parts = [f"sweep {self.name}: {span(self.elapsed_s)}"]
        if self.share < 1:
            parts.append(f"{self.share:.0%} of the FLOPs")
        if self.left_s is not None and self.share < 1:
            parts.append(f"about {span(self.left_s)} to go")
        if self.tokens_per_s:
            parts.append(f"{self.tokens_per_s:,.0f} tokens/s")
        elif any(run.state == "training" and run.heartbeat_s is None for run in self.runs):
            parts.append("no step yet: steps may be timed and compiled first")
        return ", ".join(parts)


class SweepGauge:
    """Reads a sweep's progress repeatedly, each time only the ends of its curves.

    Args:
        todo: the runs without a result now; the others count as found.
    """

    def __init__(self, plan: Plan, home: Home, todo: Iterable[PlannedRun]) -> None:
        self._plan = plan
        self._home = home
        missing = {planned.id for planned in todo}
        self._finished_before = {planned.id for planned in plan.runs} - missing
        self._settled: dict[str, RunProgress] = {}
        self._began_at = time.monotonic()
        self._began = self._spent(tuple(map(self._run, plan.runs)))

    def read(self) -> SweepProgress:
        """The sweep's progress now."""
        runs = tuple(map(self._run, self._plan.runs))
        elapsed = time.monotonic() - self._began_at
        total = sum(
            run.flops_spent for run in self._plan.runs if run.id not in self._finished_before
        )
        spent = self._spent(runs)
        gained = spent - self._began
        telling = elapsed >= _LEAST_S or gained >= _LEAST_SHARE * (total - self._began)
        return SweepProgress(
            name=self._plan.spec.name,
            runs=runs,
            elapsed_s=elapsed,
            share=spent / total if total else 1.0,
            left_s=elapsed * (total - spent) / gained if gained > 0 and telling else None,
        )

    def _spent(self, runs: tuple[RunProgress, ...]) -> float:
        """FLOPs spent on the runs that were missing; a failed run counts as spent."""
        spent = 0.0
        for planned, run in zip(self._plan.runs, runs, strict=True):
            if planned.id not in self._finished_before:
                ended = run.state not in ("training", *TO_DO)
                spent += planned.flops_spent * (1.0 if ended else run.step / run.steps)
        return spent

    def _run(self, planned: PlannedRun) -> RunProgress:
        if planned.id in self._settled:
            return self._settled[planned.id]
        directory = RunDir(self._home.runs / planned.id)
        run = read_run(planned, directory, finished_before=planned.id in self._finished_before)
        if run.state in ("found", "finished", "diverged"):
            self._settled[planned.id] = run
        return run


def read_run(
    planned: PlannedRun, directory: RunDir, *, finished_before: bool = False
) -> RunProgress:
    """One run's progress from its directory."""
    return progress_with(directory.result(), planned, directory, finished_before=finished_before)


def progress_with(
    result: RunResult | None,
    planned: PlannedRun,
    directory: RunDir,
    *,
    finished_before: bool = False,
) -> RunProgress:
    """`read_run` of a run whose result has been read."""
    train = planned.run.train
    steps = planned.steps
    tokens_per_s = mfu = left_s = None
    state: RunState | Literal["found"] = state_with(result, directory)
    last = directory.curve.last() or {}
    done = steps_done(train, last["horizon"], last["step"]) if last else 0
    if state == "finished":
        done = steps
    elif state == "training":
        tokens_per_s, mfu = _pace(directory.curve.tail(), train.batch_tokens)
        left_s = (steps - done) * train.batch_tokens / tokens_per_s if tokens_per_s else None
    if finished_before and state not in ("training", *TO_DO):
        state = "found"
    return RunProgress(
        run_id=directory.id,
        name=planned.name,
        n_params=planned.n_params,
        state=state,
        step=done,
        steps=steps,
        loss=last.get("val_loss", last.get("loss")),
        tokens_per_s=tokens_per_s,
        mfu=mfu,
        left_s=left_s,
        heartbeat_s=max(0.0, time.time() - last["at"]) if last else None,
    )


def span(seconds: float) -> str:
    """A duration as text: 42 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def ago(seconds: float | None) -> str:
    """The age of a heartbeat as text; a dash where there was none."""
    return "–" if seconds is None else f"{span(seconds)} ago"


def _pace(rows: list[dict[str, Any]], batch_tokens: int) -> tuple[float | None, float | None]:
    """Tokens per second and MFU over the newest steps; a single step reports its own."""
    steps = [row for row in rows if row["kind"] == "step"]
    if not steps:
        return None, None
    mfus = [row["mfu"] for row in steps if row["mfu"] is not None]
    mfu = sum(mfus) / len(mfus) if mfus else None
    elapsed = steps[-1]["at"] - steps[0]["at"]
    if len(steps) == 1 or elapsed <= 0:
        return steps[-1]["tokens_per_s"], mfu
    return (len(steps) - 1) * batch_tokens / elapsed, mfu


def progress_cells(run: RunProgress) -> list[str]:
    """Loss, tokens per second, MFU and time left as text; a dash for an unknown MFU."""
    training = run.state == "training"
    return [
        "" if run.loss is None else f"{run.loss:.4f}",
        "" if run.tokens_per_s is None else f"{run.tokens_per_s:,.0f}",
        f"{run.mfu:.1%}" if run.mfu is not None else "–" if training else "",
        "" if run.left_s is None else span(run.left_s),
    ]
