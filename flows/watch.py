"""The live table of a sweep in a terminal."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flows.rundir import RunDir, RunResult
from flows.settings import Home
from llama_core.counting import count_params
from sweeps.plan import Plan
from sweeps.spec import PlannedRun, steps_done, tokens_spent

_REFRESH_S = 0.5
_STYLES = {"finished": "green", "training": "cyan", "waiting": "dim", "found": "green dim"}


class TableWatcher:
    """Shows every run: state, progress, loss, speed; reads the curves, asks nobody."""

    def __init__(self, console: Console, home: Home) -> None:
        self._home = home
        self._live = Live(console=console, auto_refresh=False)
        self._plan: Plan | None = None
        self._results: dict[str, RunResult] = {}
        self._found: set[str] = set()
        self._drawn_at = 0.0
        self._began_at = 0.0
        self._began_flops = 0.0

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._plan is not None:
            self._draw()
        self._live.__exit__(kind, error, trace)

    def begin(self, plan: Plan, todo: list[PlannedRun]) -> None:
        """Start the clock."""
        self._plan = plan
        missing = {planned.id for planned in todo}
        self._found = {planned.id for planned in plan.runs} - missing
        self._began_at = time.monotonic()
        self._began_flops = self._flops()[0]

    def finished(self, planned: PlannedRun, result: RunResult) -> None:
        """Remember the result for the table."""
        self._results[planned.id] = result

    def tick(self) -> None:
        """Draw again, at most twice a second."""
        if time.monotonic() - self._drawn_at > _REFRESH_S:
            self._drawn_at = time.monotonic()
            self._draw()

    def _draw(self) -> None:
        self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        assert self._plan is not None
        table = Table(title=self._title(), title_justify="left", box=None, pad_edge=False)
        for name, justify in (
            ("run", "left"), ("N", "right"), ("state", "left"), ("", "left"),
            ("loss nats/token", "right"), ("tokens/s", "right"),
        ):  # fmt: skip
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for planned in self._plan.runs:
            table.add_row(*self._row(planned))
        return table

    def _row(self, planned: PlannedRun) -> tuple[str | Text | ProgressBar, ...]:
        done, total = self._progress(planned)
        last = RunDir(self._home.runs / planned.id).last_row()
        state = self._state(planned, done)
        loss = (last or {}).get("val_loss", (last or {}).get("loss"))
        speed = (last or {}).get("tokens_per_s") if state == "training" else None
        return (
            planned.name,
            f"{count_params(planned.run.model).multiplying:,}",
            Text(state, style=_STYLES.get(state, "red")),
            ProgressBar(total=total, completed=done, width=24),
            f"{loss:.4f}" if loss is not None else "",
            f"{speed:,.0f}" if speed is not None else "",
        )

    def _state(self, planned: PlannedRun, done: int) -> str:
        if planned.id in self._found:
            return "found"
        if planned.id in self._results:
            return self._results[planned.id].status
        return "training" if done and RunDir(self._home.runs / planned.id).busy() else "waiting"

    def _progress(self, planned: PlannedRun) -> tuple[int, int]:
        train = planned.run.train
        total = tokens_spent(train) // train.batch_tokens
        if planned.id in self._results or planned.id in self._found:
            return total, total
        last = RunDir(self._home.runs / planned.id).last_row()
        if last is None:
            return 0, total
        return steps_done(train, last["horizon"], last["step"]), total

    def _title(self) -> str:
        """Share of the FLOPs done and the time left at the pace since the start."""
        assert self._plan is not None
        spent, left = self._flops()
        elapsed = time.monotonic() - self._began_at
        title = f"sweep {self._plan.spec.name}: {elapsed:.0f} s"
        if left:
            title += f", {spent / (spent + left):.0%} of the FLOPs"
            if spent > self._began_flops:
                to_go = elapsed * left / (spent - self._began_flops)
                title += f", about {to_go:.0f} s to go"
        return title

    def _flops(self) -> tuple[float, float]:
        """FLOPs done and left of the runs that were missing at the start."""
        assert self._plan is not None
        spent = left = 0.0
        for planned in self._plan.runs:
            if planned.id not in self._found:
                done, total = self._progress(planned)
                spent += planned.flops_spent * done / total
                left += planned.flops_spent * (1 - done / total)
        return spent, left
