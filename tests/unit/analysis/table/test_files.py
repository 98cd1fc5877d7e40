"""Files of every usual kind are read, and what cannot be read is refused with its cause."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow
import pytest

from analysis.table.files import read_contents
from analysis.table.observations import LINE, TableError
from analysis.table.read import read_table
from tests.others_tables import six_runs

LOSSES = [3.4, 3.2, 3.0, 2.9, 2.8, 2.7]
CSV = "N,D,loss\n" + "".join(f"{k}00000000,{k}000000000,{x}\n" for k, x in enumerate(LOSSES, 1))


def _read(path: Path, content: bytes | str) -> list[float]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(path).frame["val_loss"].to_list()


def _zipped(content: bytes, *names: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        for name in names:
            writer.writestr(name, content)
    return archive.getvalue()


def _zstd(content: bytes) -> bytes:
    return bytes(pyarrow.Codec("zstd").compress(content, asbytes=True))


@pytest.mark.parametrize(
    "write",
    [
        pl.DataFrame.write_csv,
        pl.DataFrame.write_json,
        pl.DataFrame.write_ndjson,
        pl.DataFrame.write_parquet,
        pl.DataFrame.write_ipc,
        pl.DataFrame.write_ipc_stream,
    ],
)
def test_the_content_of_a_file_says_its_kind_whatever_its_ending(
    tmp_path: Path, write: Callable[[pl.DataFrame, Path], None]
) -> None:
    for suffix in ("csv", "parquet", "data"):
        path = tmp_path / f"runs.{suffix}"
        write(six_runs(), path)
        assert read_table(path).frame["val_loss"].to_list() == LOSSES


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, _zstd])
def test_compressed_files_are_read(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    assert _read(tmp_path / "runs.csv", compress(CSV.encode())) == LOSSES
    # The separator is that of the text, not of the compressed bytes.
    assert _read(tmp_path / "runs.txt", compress(CSV.replace(",", ";").encode())) == LOSSES
    with pytest.raises(TableError, match="cannot be read"):
        _read(tmp_path / "torn.csv", compress(CSV.encode() * 50)[:-30])


def test_an_archive_of_one_file_is_read_and_of_two_refused(tmp_path: Path) -> None:
    assert _read(tmp_path / "runs.zip", _zipped(CSV.encode(), "runs.csv")) == LOSSES
    with pytest.raises(TableError, match="holds 2 files"):
        _read(tmp_path / "runs.zip", _zipped(CSV.encode(), "a.csv", "b.csv"))


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_every_unicode_encoding_is_read_without_a_word(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(CSV.replace("loss", "loss,größe").replace("\n", ",é\n"), encoding=encoding)
    with pytest.raises(TableError, match="every row needs"):
        read_table(path)
    path.write_text(CSV.replace("loss", "Loss"), encoding=encoding)
    table = read_table(path)
    assert table.frame["val_loss"].to_list() == LOSSES
    assert not table.doubts


def test_text_that_is_not_unicode_is_read_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    header, *rows = CSV.splitlines()
    text = "\n".join([f"{header},note", *(f"{row},grün" for row in rows)])
    path.write_text(text, encoding="cp1252")
    table = read_table(path)
    assert table.frame["note"][0] == "grün"
    [doubt] = table.doubts
    assert doubt.sentence.startswith("The file is not UTF-8 (line 2) and was read as Windows-1252")
    assert "'grün'" in doubt.sentence
    path.write_text(text, encoding="utf-8")
    assert not read_table(path).doubts
    path.write_bytes(b"N,D,loss\n\x81\x8d\n")
    with pytest.raises(TableError, match="line 2 is in none of"):
        read_table(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"PAR1 and no more", "cannot be read"),
        (b"SQLite format 3\x00 ...", "optuna:STUDY@"),
        (b"\x80\x04\x95 ...", "pickle"),
        (b"<!doctype html>", "web page"),
        (bytes(range(256)), "neither text nor"),
        (b"PK\x03\x04", "not a zip file"),
        (b"N,D,loss\n", "no rows"),
    ],
)
def test_what_is_no_table_is_refused_with_its_cause(
    tmp_path: Path, content: bytes, words: str
) -> None:
    with pytest.raises(TableError, match=words):
        _read(tmp_path / "runs.csv", content)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="is not a file"):
        read_table(tmp_path / "none.csv")


def test_fields_of_structs_are_columns_under_their_own_name(tmp_path: Path) -> None:
    path = tmp_path / "runs.parquet"
    runs = pl.DataFrame(
        {
            "config": [{"N": 1e8, "opt": {"lr": 1e-3, "name": "adam"}}],
            "summary": [{"D": 1e9, "loss": 3.0, "name": "a"}],
            "train.loss": [2.5],
        }
    )
    runs.write_parquet(path)
    columns = ["N", "lr", "config.opt.name", "D", "loss", "summary.name", "train.loss"]
    assert read_contents(path).frame.columns == columns


def test_categories_are_text(tmp_path: Path) -> None:
    path = tmp_path / "runs.parquet"
    kinds = pl.Series(["a"] * 6)
    columns = {"set": kinds.cast(pl.Categorical), "kind": kinds.cast(pl.Enum(["a"]))}
    six_runs(**columns).write_parquet(path)
    frame = read_contents(path).frame
    assert frame.schema["set"] == frame.schema["kind"] == pl.String


def test_names_that_differ_by_blanks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.parquet"
    six_runs(**{" loss": LOSSES}).write_parquet(path)
    with pytest.raises(TableError, match="two columns are named 'loss', one of them ' loss'"):
        read_contents(path)


def test_a_column_without_a_value_is_absent(tmp_path: Path) -> None:
    path = tmp_path / "runs.parquet"
    six_runs(weight=[None] * 6, val_loss=pl.Series([None] * 6, dtype=pl.Float64)).write_parquet(
        path
    )
    assert read_table(path).frame["val_loss"].to_list() == LOSSES
    six_runs(loss=[None] * 6).write_parquet(path)
    with pytest.raises(TableError, match="Without any value: 'loss'"):
        read_table(path)


@pytest.mark.parametrize(
    "columns",
    [
        ["Step", "a - val/loss", "a - val/loss__MIN", "a - val/loss__MAX"],
        ["train/global_step", "a - loss", "a - loss__MIN", "a - loss__MAX", "b - loss"],
        ["Step", "a - val/loss", "b - lr 3 - val/loss"],
        ["Relative Time (Process)", "a - loss"],
        ["train/global_step", "a - loss", "b - loss"],
    ],
)
def test_curves_of_a_chart_are_named_as_such(tmp_path: Path, columns: list[str]) -> None:
    path = tmp_path / "chart.csv"
    pl.DataFrame({name: [1.0, 2.0] for name in columns}).write_csv(path)
    with pytest.raises(TableError, match="curves of a W&B chart"):
        read_contents(path)


@pytest.mark.parametrize(
    "extra", [{"Step": [1] * 6, "loss - last": LOSSES}, {"a - b": LOSSES}, {"loss__MIN": LOSSES}]
)
def test_a_table_of_runs_with_dashes_in_its_names_is_no_chart(
    tmp_path: Path, extra: dict[str, list[float]]
) -> None:
    path = tmp_path / "runs.csv"
    six_runs(**extra).select(*extra, pl.exclude(*extra)).write_csv(path)
    assert read_table(path).frame["val_loss"].to_list() == LOSSES


def test_the_history_of_a_run_is_named_where_the_loss_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("_step,_runtime,_timestamp,train/bpd\n1,1,1,3.0\n2,2,2,2.9\n")
    with pytest.raises(TableError, match="look like steps of W&B runs"):
        read_table(path)


def _workbook(*sheets: list[list[object]]) -> bytes:
    """The smallest Excel workbook: sheets of numbers and texts, empty rows left out."""
    spreadsheet = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    kinds = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        parts = "".join(
            f'<Override PartName="/xl/worksheets/sheet{k}.xml" '
            f'ContentType="{kinds}.worksheet+xml"/>'
            for k, _ in enumerate(sheets, 1)
        )
        writer.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType='
            f'"application/vnd.openxmlformats-package.relationships+xml"/><Override '
            f'PartName="/xl/workbook.xml" ContentType="{kinds}.sheet.main+xml"/>{parts}</Types>',
        )
        writer.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}/relationships"><Relationship Id="rId1" '
            f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        names = "".join(
            f'<sheet name="sheet {k}" sheetId="{k}" r:id="rId{k}"/>'
            for k, _ in enumerate(sheets, 1)
        )
        writer.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{spreadsheet}" xmlns:r="{office}"><sheets>{names}</sheets>'
            "</workbook>",
        )
        targets = "".join(
            f'<Relationship Id="rId{k}" Type="{office}/worksheet" '
            f'Target="worksheets/sheet{k}.xml"/>'
            for k, _ in enumerate(sheets, 1)
        )
        writer.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{package}/relationships">{targets}</Relationships>',
        )
        for k, rows in enumerate(sheets, 1):
            lines = "".join(
                f'<row r="{line}">{"".join(map(_cell, "ABCDEF", [line] * 6, row))}</row>'
                for line, row in enumerate(rows, 1)
                if row
            )
            writer.writestr(
                f"xl/worksheets/sheet{k}.xml",
                f'<worksheet xmlns="{spreadsheet}"><sheetData>{lines}</sheetData></worksheet>',
            )
    return archive.getvalue()


def _cell(column: str, line: int, value: object) -> str:
    if isinstance(value, str):
        return f'<c r="{column}{line}" t="inlineStr"><is><t>{value}</t></is></c>'
    return f'<c r="{column}{line}"><v>{value}</v></c>'


def test_a_workbook_is_read_by_its_first_sheet_and_its_own_lines(tmp_path: Path) -> None:
    pytest.importorskip("fastexcel")
    rows = [[], ["N", "D", "loss"], *([10**8 * k, 10**9, x] for k, x in enumerate(LOSSES, 1))]
    path = tmp_path / "runs.xlsx"
    path.write_bytes(_workbook(rows, [["notes"]]))
    table = read_table(path)
    assert table.frame["val_loss"].to_list() == LOSSES
    assert table.frame[LINE].to_list() == [3, 4, 5, 6, 7, 8]
    [doubt] = table.doubts
    assert doubt.sentence == "Only the first sheet was read, 'sheet 1', not 'sheet 2'."
    path.write_bytes(_workbook([["N", "D", "loss", "loss"], [1, 2, 3, 4]]))
    with pytest.raises(TableError, match="both named 'loss'"):
        read_table(path)
    path.write_bytes(_workbook([[]]))
    with pytest.raises(TableError, match="is empty"):
        read_table(path)


def test_a_workbook_without_its_reader_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fastexcel", None)
    path = tmp_path / "runs.xlsx"
    path.write_bytes(_workbook([["N"], [1]]))
    with pytest.raises(TableError, match=r"isoflop\[excel\]"):
        read_table(path)
