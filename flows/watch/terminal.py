"""The table of a running sweep in a terminal."""

import math
from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flows.settings import Home
from flows.watch.progress import RunProgress, SweepProgress, progress_cells
from flows.watch.under_way import EndsShown
from flows.watch.watcher import Periodic

_REFRESH_S = 0.5
_LOG_S = 60.0
_STYLES = {
    "finished": "green",
    "training": "cyan",
    "planned": "dim",
    "interrupted": "yellow",
    "found": "green dim",
}
# A terminal of this width has room for a bar and the size.
_WIDE = 110
# Lines around the rows: title, header, and the count of rows left out.
_AROUND = 4
_NARROWEST = 70
# Columns after the step's.
_NAMES = ("nats/token", "tokens/s", "MFU", "left", "ends at, 90%")


class TableWatcher(Periodic):
    """Shows every run in a terminal: state, step, loss, speed, MFU, time left.

    Into a log it writes a line a minute, and the table at the end.
    """

    def __init__(self, console: Console, home: Home) -> None:
        super().__init__(home)
        self._console = console
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        super().__exit__(kind)
        self._live.stop()
        if not self._console.is_terminal:
            # Rich ends the table's last line on a terminal only.
            self._console.print()

    def trained(self) -> None:
        """Say what is next: a law of many rows takes half a minute."""
        self._console.print("fitting the law and writing the report", highlight=False)

    def show(self, progress: SweepProgress, *, ended: str | None = None) -> float:
        """Draw the table; off a terminal, write a line once the sweep has run for a while."""
        if self._console.is_terminal or ended is not None:
            self._live.update(progress_table(progress, self._console, self.ends), refresh=True)
        elif progress.elapsed_s >= _LOG_S:
            self._console.print(progress.title(), soft_wrap=True, highlight=False)
        return _REFRESH_S if self._console.is_terminal else _LOG_S


def progress_table(
    progress: SweepProgress, console: Console, ends: EndsShown | None = None
) -> Table:
    """A sweep as a table that fits the terminal; a last line counts the runs that do not fit.

    Where the ends need the room, MFU and then tokens/s give way.
    """
    ends = ends or EndsShown()
    names = list(_NAMES if ends.ends else _NAMES[:-1])
    table = _table(progress, console, ends, names)
    unbounded = console.options.update(max_width=10 * console.width)
    for name in ("MFU", "tokens/s") if ends.ends else ():
        if Measurement.get(console, unbounded, table).maximum <= console.width:
            break
        names.remove(name)
        table = _table(progress, console, ends, names)
    return table


def _table(
    progress: SweepProgress, console: Console, ends: EndsShown, names: Sequence[str]
) -> Table:
    wide = console.width >= _WIDE
    # Rich would wrap the title at the table's width, not the terminal's.
    title = Text(progress.title(), no_wrap=True, overflow="ellipsis", style="italic")
    table = Table(
        title=title, title_justify="left", box=None, pad_edge=False, min_width=_NARROWEST,
        caption=Text("\n".join(ends.notes), style="dim") if ends.notes else None,
        caption_justify="left",
    )  # fmt: skip
    table.add_column("run", no_wrap=True, overflow="ellipsis")
    if wide:
        table.add_column("N", justify="right")
    table.add_column("state", no_wrap=True)
    if wide:
        table.add_column("", min_width=18)
    for name in ("step", *names):
        table.add_column(name, justify="right", no_wrap=True)
    noted = sum(math.ceil(len(note) / _NARROWEST) for note in ends.notes)
    room = console.height - _AROUND - noted if console.is_terminal else len(progress.runs)
    shown, folded = _fold(progress.runs, max(1, room))
    for run in shown:
        cells = dict(zip(_NAMES, [*progress_cells(run), ends.cell(run)], strict=True))
        table.add_row(*_row(run, [cells[name] for name in names if name in cells], wide=wide))
    if folded:
        states = sorted({run.state for run in folded})
        counts = [f"{sum(run.state == state for run in folded)} {state}" for state in states]
        table.add_row(Text(f"and {', '.join(counts)}", style="dim"))
    return table


def _row(run: RunProgress, shown: list[str], *, wide: bool) -> list[str | Text | ProgressBar]:
    cells: list[str | Text | ProgressBar] = [Text(run.name)]
    if wide:
        cells.append(f"{run.n_params:,}")
    cells.append(Text(run.state, style=_STYLES.get(run.state, "red")))
    if wide:
        cells.append(ProgressBar(total=run.steps, completed=run.step, width=18))
    return [*cells, f"{run.step:,}/{run.steps:,}", *shown]


def _fold(runs: tuple[RunProgress, ...], room: int) -> tuple[list[RunProgress], list[RunProgress]]:
    """The runs to show, in the plan's order, and those left out for lack of room.

    Runs that train or have failed are shown first; runs that wait or were found are left out first.
    """
    rank = {"training": 0, "planned": 3, "finished": 2, "found": 4}
    order = sorted(range(len(runs)), key=lambda at: rank.get(runs[at].state, 1))
    chosen = set(order[:room])
    return (
        [run for at, run in enumerate(runs) if at in chosen],
        [run for at, run in enumerate(runs) if at not in chosen],
    )
