"""Tables and sentences that fit a width: numbers stay whole, words wrap, spare columns go."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from textwrap import wrap

# 1,234; 11B; $12; 1.00e+23; 16.3%; with an interval or a range behind it.
_NUMBER = re.compile(r"(< )?[+−×-]?\$?\d[\d,.]*(e[+-]?\d+)?[kMBT%]?( .*)?|–")
# What is never broken: an interval in brackets, an equation, a word.
_UNIT = re.compile(r"\[[^\]]*\][,;]?|\S+ = \S+|\S+")
_INTERVAL = re.compile(r" \[[^\]]*\]")
# Of numbers only an interval begins a new line: 1.5 min, 3 of 10 stay whole.
_NUMBER_UNIT = re.compile(r"\[[^\]]*\][,;]?|[^\[\s][^\[]*[^\[\s]|[^\[\s]")
_NARROWEST = 8  # columns of words that no longer fit whole
READABLE = 80  # columns of a sentence, however wide the terminal


@dataclass(frozen=True)
class _Column:
    name: str
    cells: list[str]
    numeric: bool

    @property
    def natural(self) -> int:
        return max(map(len, (self.name, *self.cells)))

    @property
    def least(self) -> int:
        """The width at which only words and intervals begin new lines."""
        header = max((len(word) for word in self.name.split()), default=0)
        return max([header, *(len(unit) for cell in self.cells for unit in self.units(cell))])

    def units(self, cell: str) -> list[str]:
        return (_NUMBER_UNIT if self.numeric else _UNIT).findall(cell)

    @property
    def folded(self) -> int:
        """The width at which names go on in the next line, too, and numbers still do not."""
        units = [unit for cell in self.cells for unit in self.units(cell)]
        whole = [unit for unit in units if " = " in unit or is_number(unit)]
        return self.least if self.numeric else max([_NARROWEST, *map(len, whole)])

    def lines(self, cell: str, width: int) -> list[str]:
        """The cell in lines of a width; a word that is wider goes on in the next line."""
        if len(cell) <= width:
            return [cell]
        lines = [""]
        for unit in self.units(cell):
            if not lines[-1]:
                lines[-1] = unit
            elif len(lines[-1]) + 1 + len(unit) <= width:
                lines[-1] += f" {unit}"
            else:
                lines.append(unit)
        if self.numeric:
            return lines
        return [line[at : at + width] for line in lines for at in range(0, len(line), width)]


def table_lines(
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    width: int,
    spare: Sequence[str] = (),
    indent: str = "   ",
    gap: int = 2,
) -> list[str]:
    """A table in lines, the names of the columns first.

    Numbers stand to the right and are never broken or cut; words wrap. Where that is still too
    wide, spare columns are left out and the last line names them. A table of numbers that are
    wider even so keeps its width.

    Args:
        spare: columns to leave out, the first first; `[NAME]` leaves out only the intervals in
            brackets behind the numbers of that column.
        gap: spaces between columns.
    """
    cells = [[cell(value) for value in row] for row in rows]
    columns = [
        _Column(name, column, _all_numeric([row[place] for row in rows]))
        for place, (name, column) in enumerate(
            zip(header, map(list, zip(*cells, strict=True)), strict=True)
            if cells
            else ((name, []) for name in header)
        )
    ]
    room = width - len(indent)
    left_out: list[str] = []
    for name in spare:
        if _least(columns, gap) <= room:
            break
        shorter = _without(columns, name)
        if shorter != columns:
            columns, left_out = shorter, [*left_out, name]
    widths = _widths(columns, room, gap)
    lines = [
        f"{indent}{line}".rstrip()
        for place in range(-1, len(cells))
        for line in _row_lines(columns, widths, place, " " * gap)
    ]
    if left_out:
        lines += wrapped(f"no room in {width} columns for: {_names(left_out)}", width, indent)
    return lines


def cell(value: object) -> str:
    """A value as a cell: digits of a whole number in groups, four digits of any other."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def is_number(value: object) -> bool:
    """Whether a cell holds a number, with or without a unit, an interval or a range."""
    return isinstance(value, int | float) or _NUMBER.fullmatch(str(value)) is not None


def wrapped(text: str, width: int = READABLE, indent: str = "") -> list[str]:
    """Sentences in lines that break between words; what goes on is indented further.

    A line that begins with `  isoflop ` is a command to copy and stays whole.
    """
    lines = []
    for line in text.splitlines():
        if line.startswith("  isoflop "):
            lines.append(line)
            continue
        lines += wrap(
            line,
            min(width, READABLE),
            initial_indent=indent,
            subsequent_indent=f"{indent}   ",
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return lines


def hanging(lead: str, text: str, width: int = READABLE) -> Iterator[str]:
    """The text wrapped beside its lead."""
    room = max(min(width, READABLE) - len(lead) - 3, 20)
    lines = wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    yield f"   {lead}{lines[0]}"
    for line in lines[1:]:
        yield f"   {' ' * len(lead)}{line}"


def _all_numeric(values: Iterable[object]) -> bool:
    shown = [value for value in values if value != ""]
    return bool(shown) and all(map(is_number, shown))


def _least(columns: Sequence[_Column], gap: int) -> int:
    return sum(column.least for column in columns) + gap * (len(columns) - 1)


def _without(columns: list[_Column], name: str) -> list[_Column]:
    """The columns less one, or less its intervals."""
    if not (name.startswith("[") and name.endswith("]")):
        return [column for column in columns if column.name != name]
    return [
        replace(column, cells=[_INTERVAL.sub("", text) for text in column.cells])
        if column.name == name[1:-1]
        else column
        for column in columns
    ]


def _names(left_out: Iterable[str]) -> str:
    """The columns and intervals left out, as people say it."""
    intervals = [name[1:-1] for name in left_out if name.startswith("[")]
    whole = [name for name in left_out if not name.startswith("[")]
    return ", ".join([*whole, *([f"intervals of {', '.join(intervals)}"] if intervals else [])])


def _widths(columns: Sequence[_Column], room: int, gap: int) -> list[int]:
    """The natural widths, taken from the widest columns until they fit."""
    widths = [column.natural for column in columns]
    over = sum(widths) + gap * (len(widths) - 1) - room
    least = [column.least for column in columns]
    folded = [min(column.least, column.folded) for column in columns]
    for floor in (least, folded):
        while over > 0:
            excess = [width - low for width, low in zip(widths, floor, strict=True)]
            place = max(range(len(widths)), key=lambda place: (excess[place] > 0, widths[place]))
            if excess[place] <= 0:
                break
            widths[place] -= 1
            over -= 1
    return widths


def _row_lines(
    columns: Sequence[_Column], widths: Sequence[int], place: int, gap: str
) -> Iterator[str]:
    """A row in as many lines as its highest cell has; -1 is the header, which ends at its foot."""
    if place < 0:
        names = [
            wrap(column.name, width, break_long_words=False) or [""]
            for column, width in zip(columns, widths, strict=True)
        ]
        height = max(map(len, names))
        parts = [[""] * (height - len(lines)) + lines for lines in names]
    else:
        parts = [
            column.lines(column.cells[place], width)
            for column, width in zip(columns, widths, strict=True)
        ]
        height = max(map(len, parts))
        parts = [lines + [""] * (height - len(lines)) for lines in parts]
    for line in zip(*parts, strict=True):
        yield gap.join(
            text.rjust(width) if column.numeric else text.ljust(width)
            for text, column, width in zip(line, columns, widths, strict=True)
        )
