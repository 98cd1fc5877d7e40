"""Who looks on while a sweep trains: the table of a terminal, and several watchers as one."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flows.runs.directory import RunResult
from flows.settings import Home
from flows.watch.progress import RunProgress, SweepGauge, SweepProgress, progress_cells
from sweeps.plan import Plan
from sweeps.spec import PlannedRun

_REFRESH_S = 0.5
# A log gets a line this often, and the table at the end.
_LOG_S = 60.0
_STYLES = {
    "finished": "green",
    "training": "cyan",
    "planned": "dim",
    "interrupted": "yellow",
    "found": "green dim",
}
# From this many columns on there is room for a bar and the size.
_WIDE = 110
# Lines around the rows: title, header, and what is folded.
_AROUND = 4


class TableWatcher:
    """Shows every run in a terminal: state, step, loss, speed, MFU, time left."""

    def __init__(self, console: Console, home: Home) -> None:
        self._console = console
        self._home = home
        self._live = Live(console=console, auto_refresh=False)
        self._gauge: SweepGauge | None = None
        self._drawn_at = 0.0

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._draw()
        self._live.__exit__(kind, error, trace)

    def begin(self, plan: Plan, todo: list[PlannedRun]) -> None:
        """Start the clock."""
        self._gauge = SweepGauge(plan, self._home, todo)
        self._drawn_at = time.monotonic()

    def tick(self) -> None:
        """Draw again, at most twice a second; into a log, a line a minute."""
        waited = time.monotonic() - self._drawn_at
        if self._console.is_terminal and waited > _REFRESH_S:
            self._draw()
        elif not self._console.is_terminal and waited > _LOG_S and self._gauge is not None:
            self._drawn_at = time.monotonic()
            self._console.print(self._gauge.read().title(), soft_wrap=True, highlight=False)

    def finished(self, planned: PlannedRun, result: RunResult) -> None:
        """Nothing: its result is on disk, which the next drawing reads."""

    def _draw(self) -> None:
        if self._gauge is not None:
            self._drawn_at = time.monotonic()
            self._live.update(progress_table(self._gauge.read(), self._console), refresh=True)


def progress_table(progress: SweepProgress, console: Console) -> Table:
    """A sweep as a table that fits the terminal; what does not fit is counted in a last line."""
    wide = console.width >= _WIDE
    # A title that rich wraps at the table's width rather than the terminal's is no title.
    title = Text(progress.title(), no_wrap=True, overflow="ellipsis", style="italic")
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, min_width=70)
    table.add_column("run", no_wrap=True, overflow="ellipsis")
    if wide:
        table.add_column("N", justify="right")
    table.add_column("state", no_wrap=True)
    if wide:
        table.add_column("", min_width=18)
    for name in ("step", "nats/token", "tokens/s", "MFU", "left"):
        table.add_column(name, justify="right", no_wrap=True)
    room = console.height - _AROUND if console.is_terminal else len(progress.runs)
    shown, folded = _fold(progress.runs, max(1, room))
    for run in shown:
        table.add_row(*_row(run, wide=wide))
    if folded:
        states = sorted({run.state for run in folded})
        counts = [f"{sum(run.state == state for run in folded)} {state}" for state in states]
        table.add_row(Text(f"and {', '.join(counts)}", style="dim"))
    return table


def _row(run: RunProgress, *, wide: bool) -> list[str | Text | ProgressBar]:
    cells: list[str | Text | ProgressBar] = [Text(run.name)]
    if wide:
        cells.append(f"{run.n_params:,}")
    cells.append(Text(run.state, style=_STYLES.get(run.state, "red")))
    if wide:
        cells.append(ProgressBar(total=run.steps, completed=run.step, width=18))
    return [
        *cells,
        f"{run.step:,}/{run.steps:,}",
        *progress_cells(run),
    ]


def _fold(runs: tuple[RunProgress, ...], room: int) -> tuple[list[RunProgress], list[RunProgress]]:
    """The runs to show, in the plan's order, and those there is no room for.

    What trains or has failed is seen first; runs that wait or were found can be counted.
    """
    if len(runs) <= room:
        return list(runs), []
    rank = {"training": 0, "planned": 3, "finished": 2, "found": 4}
    order = sorted(range(len(runs)), key=lambda at: rank.get(runs[at].state, 1))
    seen = set(order[:room])
    return (
        [run for at, run in enumerate(runs) if at in seen],
        [run for at, run in enumerate(runs) if at not in seen],
    )
