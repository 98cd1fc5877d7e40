"""Read a file of any usual kind, told by its content, with its columns as they are named there."""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from analysis.table.json_text import WITHIN, read_json, short_names
from analysis.table.lines import Cells, read_cells, read_lines
from analysis.table.observations import LINE, Doubt, TableError

_ZIP = b"PK\x03\x04"
_OLD_EXCEL = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# Formats that hold tables but are not read, by their first bytes.
_OTHERS = {
    b"SQLite format 3\x00": "an SQLite database. Of Optuna: optuna:STUDY@sqlite:///FILE; of "
    "MLflow: mlflow:EXPERIMENT with MLFLOW_TRACKING_URI=sqlite:///FILE. Else save it as CSV",
    b"\x89HDF": "HDF5. Save the table as CSV or Parquet",
    b"FEA1": "the first version of Feather. Save the table as Parquet",
    b"\x93NUMPY": "a NumPy array, without names of columns. Save the table as CSV",
    b"\x80\x04\x95": "a Python pickle. Save the table as CSV or Parquet",
    b"\x80\x05\x95": "a Python pickle. Save the table as CSV or Parquet",
    b"%PDF": "a PDF. Save the table as CSV",
}
_UNREADABLE = (
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, EOFError, ValueError),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile),
)


@dataclass(frozen=True, slots=True)
class Contents:
    """The rows of a source, before its columns have isoflop's names.

    Attributes:
        frame: columns without a value are not in it; `LINE` is, where the source has lines.
        doubts: what reading left open.
        mapping: columns whose meaning the source itself gives, by isoflop's name.
        hints: sentences for the message that a column is missing.
    """

    frame: pl.DataFrame
    doubts: tuple[Doubt, ...] = ()
    mapping: Mapping[str, str] = field(default_factory=dict)
    hints: tuple[str, ...] = ()


def read_contents(path: Path) -> Contents:
    """Read delimited text, JSON, JSON lines, Parquet, Arrow or Excel, also compressed.

    Raises:
        TableError: the file is missing or unreadable, its header names columns twice or not at
            all, or it holds curves of a chart.
    """
    path = Path(path)
    if not path.is_file():
        raise TableError(f"{path} is not a file.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TableError(f"{path} cannot be read as a table: {error}") from error
    return contents_of(content, str(path))


def contents_of(content: bytes, name: str) -> Contents:
    """`read_contents` of a file's bytes.

    Raises:
        TableError: see there; its message begins with the name.
    """
    try:
        return described(*_read(content))
    except TableError as error:
        raise TableError(f"{name}: {error}") from error
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TableError(f"{name} cannot be read as a table: {reason}") from error


def described(frame: pl.DataFrame, doubts: tuple[Doubt, ...] = ()) -> Contents:
    """The contents of a source from its frame.

    Raises:
        TableError: two columns have one name but for blanks, or they are curves of a chart.
    """
    frame = _flat(frame)
    twice = [name for name in frame.columns if name != name.strip() and name.strip() in frame]
    if twice:
        raise TableError(
            f"two columns are named {twice[0].strip()!r}, one of them {twice[0]!r}. Rename one."
        )
    frame = frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
    _refuse_curves([name for name in frame.columns if name != LINE])
    empty = [name for name in frame.columns if frame[name].null_count() == frame.height]
    hints = []
    if empty and frame.height:
        frame = frame.drop(empty)
        hints.append(f"Without any value: {', '.join(map(repr, empty))}.")
    if "_step" in frame.columns and {"_runtime", "_timestamp"} & set(frame.columns):
        hints.append("Its rows look like steps of W&B runs, not like finished runs.")
    return Contents(frame, doubts, hints=tuple(hints))


def _read(content: bytes) -> tuple[pl.DataFrame, tuple[Doubt, ...]]:
    """The frame of a file's bytes."""
    content = _unpacked(content)
    for start, what in _OTHERS.items():
        if content.startswith(start):
            raise TableError(f"it is {what}.")
    if content.startswith(b"PAR1"):
        return pl.read_parquet(io.BytesIO(content)), ()
    if content.startswith(b"ARROW1"):
        return pl.read_ipc(io.BytesIO(content)), ()
    if content.startswith(b"\xff\xff\xff\xff"):
        return pl.read_ipc_stream(io.BytesIO(content)), ()
    if content.startswith((_ZIP, _OLD_EXCEL)):
        return _read_workbook(content)
    text, doubts = _decoded(content)
    first = text.lstrip()[:1]
    if not first:
        raise TableError("it is empty.")
    if first == "<":
        raise TableError("it is a web page or XML. Save the table as CSV.")
    if first in "{[":
        return read_json(text), doubts
    frame, more = read_lines(text)
    return frame, (*doubts, *more)


def _zstd(content: bytes) -> bytes:
    import pyarrow

    with pyarrow.CompressedInputStream(pyarrow.BufferReader(content), "zstd") as stream:
        return bytes(stream.read())


_PACKED: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"\x28\xb5\x2f\xfd": _zstd,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ\x00": lzma.decompress,
}


def _unpacked(content: bytes) -> bytes:
    """The bytes without gzip, zstd, bzip2, xz, or a zip around a single file."""
    for start, unpack in _PACKED.items():
        if content.startswith(start):
            return _unpacked(unpack(content))
    if content.startswith(_ZIP):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            if any(name in names for name in ("[Content_Types].xml", "mimetype")):
                return content
            if len(names) != 1:
                raise TableError(f"the archive holds {len(names)} files. Unpack the one to read.")
            return _unpacked(archive.read(names[0]))
    if content[257:262] == b"ustar":
        raise TableError("it is a tar archive. Unpack the file to read.")
    return content


def _decoded(content: bytes) -> tuple[str, tuple[Doubt, ...]]:
    """Text in UTF-8, UTF-16 or UTF-32, else in Windows-1252 with a doubt that says so."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if content.startswith(mark):
            return content.decode(encoding), ()
    # Without a mark, UTF-16 of a table has a zero in nearly every other byte.
    for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(content) > 2 and content[offset::2].count(0) > 0.4 * len(content):
            return content.decode(encoding), ()
    if b"\x00" in content:
        raise TableError("it is neither text nor Parquet, Arrow or Excel. Save it as CSV.")
    try:
        return content.decode(), ()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:
        raise TableError(
            f"line {line} is in none of UTF-8, UTF-16 and Windows-1252. Save the file as UTF-8."
        ) from None
    words = re.findall(r"\w*[^\x00-\x7f]\w*", text)
    return text, (
        Doubt(
            f"The file is not UTF-8 (line {line}) and was read as Windows-1252, so that it has "
            f"{words[0]!r}. If that is wrong, save it as UTF-8."
        ),
    )


def _read_workbook(content: bytes) -> tuple[pl.DataFrame, tuple[Doubt, ...]]:
    """The first sheet of an Excel or OpenDocument workbook."""
    try:
        import fastexcel
    except ImportError:
        raise TableError(
            "Excel needs an extra: pip install 'isoflop[excel]'. Or save the sheet as CSV."
        ) from None
    try:
        workbook = fastexcel.read_excel(content)
        name, *others = workbook.sheet_names
        # Rows before the first that has a cell are counted too.
        sheet = workbook.load_sheet(name, header_row=None, skip_rows=0, dtypes="string")
    except fastexcel.FastExcelError as error:
        raise TableError(f"as a workbook: {str(error).splitlines()[0]}") from error
    rows: list[Cells] = [
        (line, [cell or "" for cell in cells])
        for line, cells in enumerate(sheet.to_polars().iter_rows(), start=1)
    ]
    frame, doubts = read_cells(rows)
    if not others:
        return frame, doubts
    unread = ", ".join(map(repr, others))
    return frame, (*doubts, Doubt(f"Only the first sheet was read, {name!r}, not {unread}."))


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with the fields of its structs as columns."""
    while any(isinstance(dtype, pl.Struct) for dtype in frame.dtypes):
        columns: list[pl.Expr] = []
        for name, dtype in frame.schema.items():
            if isinstance(dtype, pl.Struct):
                columns += [
                    pl.col(name).struct.field(field.name).alias(f"{name}{WITHIN}{field.name}")
                    for field in dtype.fields
                ]
            else:
                columns.append(pl.col(name))
        frame = frame.select(columns)
    return frame.rename(short_names(frame.columns))


def _refuse_curves(columns: list[str]) -> None:
    """Refuse the export of a W&B chart: a column `RUN - metric` for each run, a row for each step.

    Raises:
        TableError: the columns are such curves.
    """
    curves = [name for name in columns if f"{name}__MIN" in columns and f"{name}__MAX" in columns]
    others = columns[1:]
    if not curves and others and all(" - " in name for name in others):
        metrics = {name.rpartition(" - ")[2] for name in others}
        curves = others if len(metrics) == 1 else []
    if curves:
        raise TableError(
            f"curves of a W&B chart ({curves[0]!r}{', …' if len(curves) > 1 else ''}), a row for "
            "each step. Export the table of runs instead, with N, D and the last loss."
        )
