"""Delimited text and sheets: cells in lines, under a header."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice

import polars as pl

from analysis.table.observations import LINE, Doubt, TableError

# The line in which a row begins, and its cells.
Cells = tuple[int, list[str]]

_SEPARATORS = ",;\t|"
_TITLES = 4  # lines that may stand above the names of the columns, besides the first
_SAMPLE = 50  # lines that choose the separator
# How spreadsheets, R and pandas write that there is no value.
_NULLS = ["", "NA", "N/A", "n/a", "#N/A", "<NA>", "null", "NULL", "None", "-", "–", "—"]
_NUMBER = re.compile(r"[+-]?(\d[\d_',.]*|\.\d+)([eE][+-]?\d+)?")
# Integers of this many digits may be larger than 64 bits hold.
_LONG = r"^[+-]?\d{19,}$"


def read_lines(text: str) -> tuple[pl.DataFrame, tuple[Doubt, ...]]:
    """The frame of text whose cells are separated by comma, semicolon, tab, bar or blanks.

    Raises:
        TableError: a quote is never closed, or as `read_cells`.
    """
    # Excel's own hint, before the header.
    hint = re.match(r'"?sep=(.)"?\r?\n', text)
    separator = hint[1] if hint else _separator(text)
    rows = list(_rows(text, separator))[1 if hint else 0 :]
    if separator == "|":
        rows = [_without_frame(row) for row in rows if not _is_rule(row)]
    return read_cells(rows)


def read_cells(rows: Sequence[Cells]) -> tuple[pl.DataFrame, tuple[Doubt, ...]]:
    """The frame of rows of text, the first of them the names; `LINE` says where each begins.

    Blank rows are skipped, and rows that begin with `#`.

    Raises:
        TableError: there is no header, two of its names are equal, or a row is longer or shorter.
    """
    stripped = [(line, [cell.strip() for cell in cells]) for line, cells in rows]
    filled = [row for row in stripped if any(row[1])]
    if not filled:
        raise TableError("it is empty.")
    header, rows, comments = _header(filled)
    _refuse_titles(header, rows)
    names = _names(header, rows)
    _refuse_ragged(header, names, rows)
    frame = typed([names, *(cells[: len(names)] for _, cells in rows)])
    lines = pl.Series(LINE, [line for line, _ in rows], dtype=pl.Int64)
    # Columns that have neither a name nor a value.
    nameless = [name for name in names if not name.strip()]
    return frame.drop(nameless).with_columns(lines), _comment_doubts(comments, names)


def _rows(text: str, separator: str) -> Iterator[Cells]:
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True
    )
    begin = 1
    try:
        for cells in reader:
            yield begin, cells
            begin = reader.line_num + 1
    except csv.Error as error:
        unclosed = str(error) == "unexpected end of data"
        reason = "its quote is never closed" if unclosed else str(error)
        raise TableError(f"line {begin}: {reason}.") from error


def _separator(text: str) -> str:
    """The separator under which the first lines have equally many cells, and most of them."""
    lines = [line for line in islice(io.StringIO(text, newline=None), 10 * _SAMPLE) if line.strip()]
    plain = [line for line in lines if not line.startswith("#")] or lines
    best, most = ",", (False, 1)
    for separator in (*_SEPARATORS, " "):
        cells = csv.reader(plain[:_SAMPLE], delimiter=separator, skipinitialspace=True)
        try:
            widths = list(map(len, cells))
        except csv.Error:  # a cell is too long, which `_rows` says of its line
            continue
        if widths[0] == 1 or (separator == " " and most[1] > 1):
            continue
        even = len(set(widths)) == 1
        if (even, widths[0]) > most:
            best, most = separator, (even, widths[0])
    return best


def _is_rule(row: Cells) -> bool:
    """Whether a row is the line under the header of a Markdown table."""
    return any(row[1]) and all(re.fullmatch(r"\s*:?-*:?\s*", cell) for cell in row[1])


def _without_frame(row: Cells) -> Cells:
    """A row without the bars at both its ends, as Markdown writes tables."""
    line, cells = row
    framed = len(cells) > 2 and not cells[0].strip() and not cells[-1].strip()
    return (line, cells[1:-1]) if framed else row


def _header(rows: list[Cells]) -> tuple[Cells, list[Cells], list[Cells]]:
    """The header, the rows under it, and those that are comments."""
    comments = [row for row in rows if row[1][0].startswith("#") and row[1][0] not in _NULLS]
    lines = {line for line, _ in comments}
    body = [row for row in rows if row[0] not in lines]
    if not body or len(body) == 1 < len(rows):
        # All rows begin so: it belongs to their names.
        body, comments = rows, []
    header, *rest = body
    if not _all_numbers(header[1]):
        return header, rest, [row for row in comments if row[0] > header[0]]
    # NumPy writes the header as a comment.
    for line, cells in reversed(comments):
        names = [cells[0].lstrip("#").strip(), *cells[1:]]
        # With blanks between the cells, # is one itself.
        names = names if names[0] or len(names) == len(header[1]) else names[1:]
        if line < header[0] and len(names) == len(header[1]):
            return (line, names), body, [row for row in comments if row[0] > line]
    raise TableError(
        f"line {header[0]} holds numbers ({', '.join(header[1][:3])}), so the columns have no "
        "names. Add a first line with them, for example N,D,loss."
    )


def _all_numbers(cells: Sequence[str]) -> bool:
    return all(_NUMBER.fullmatch(cell) for cell in cells if cell)


def _names(header: Cells, rows: Sequence[Cells]) -> list[str]:
    """The names of the columns; blanks for those that have neither a name nor a value.

    A column without a name, as the index that pandas writes, is called as pandas reads it.

    Raises:
        TableError: two names are equal.
    """
    line, cells = header
    names = list(cells)
    while (
        names
        and not names[-1]
        and not any(any(row[len(names) - 1 : len(names)]) for _, row in rows)
    ):
        names.pop()
    for place, name in enumerate(names):
        if not name:
            empty = not any(row[place] for _, row in rows if place < len(row))
            names[place] = " " * (place + 1) if empty else f"Unnamed: {place}"
        elif name in names[:place]:
            raise TableError(
                f"columns {names.index(name) + 1} and {place + 1} of line {line} are both named "
                f"{name!r}. Rename one of them."
            )
    return names


def _refuse_titles(header: Cells, rows: Sequence[Cells]) -> None:
    """Refuse a title, or names of groups of columns, above the names of the columns."""
    line, cells = header
    named = sum(map(bool, cells))
    # One column without a name is an index.
    if named > len(cells) - 2:
        return
    for below, names in rows[:_TITLES]:
        words = [name for name in names if name and not _NUMBER.fullmatch(name)]
        if len(words) == len(names) == len(cells):
            raise TableError(
                f"line {line} names {named} of {len(cells)} columns, and line {below} all of them. "
                f"Delete what stands above line {below}."
            )


def _refuse_ragged(header: Cells, names: Sequence[str], rows: Sequence[Cells]) -> None:
    width = len(names)
    ragged = [
        (place, line, len(cells))
        for place, (line, cells) in enumerate(rows)
        if len(cells) < width or any(cells[width:])
    ]
    widths = {len(cells) for _, cells in rows}
    if len(ragged) == len(rows) > 1 and len(widths) == 1 and min(widths) > width:
        raise TableError(
            f"line {header[0]} has {width} cell{'' if width == 1 else 's'} and every row "
            f"{widths.pop()}. Delete what stands above the names of the columns."
        )
    if ragged:
        raise TableError(
            f"every row needs the {width} cells of the header (line {header[0]}), not "
            f"{ragged[0][2]}.",
            pl.DataFrame({"row": [row[0] for row in ragged], LINE: [row[1] for row in ragged]}),
        )


def typed(rows: Sequence[Sequence[str]]) -> pl.DataFrame:
    """A frame from cells of text under a header; a column holds numbers if all its cells do."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    content = text.getvalue().encode()
    written = pl.read_csv(content, infer_schema=False, null_values=_NULLS)
    return pl.read_csv(
        content,
        infer_schema_length=None,
        null_values=_NULLS,
        schema_overrides=dict(_long_integers(written)),
    )


def _long_integers(written: pl.DataFrame) -> Iterator[tuple[str, type[pl.DataType]]]:
    """Columns with integers beyond 64 bits, of which some versions of polars fail, and a type.

    They are floats, but text where a float could not tell two of them apart, as in ids.
    """
    for name in written.columns:
        column = written[name]
        if not column.str.contains(_LONG).any():
            continue
        numbers = column.cast(pl.Float64, strict=False)
        if numbers.null_count() == column.null_count() and (numbers.abs() >= 2**63).any():
            yield name, pl.Float64 if numbers.n_unique() == column.n_unique() else pl.String


def _comment_doubts(comments: Sequence[Cells], names: Sequence[str]) -> tuple[Doubt, ...]:
    """A sentence about comments that look like rows."""
    lines = [str(line) for line, cells in comments if len(cells) == len(names) > 1]
    if not lines:
        return ()
    plural = "s" if len(lines) > 1 else ""
    return (
        Doubt(
            f"Line{plural} {', '.join(lines)} begin{'' if plural else 's'} with # and "
            f"{'are' if plural else 'is'} not read."
        ),
    )
