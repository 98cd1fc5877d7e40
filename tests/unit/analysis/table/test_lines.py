"""Delimited text: separators, headers, comments, and the lines in which rows begin."""

import numpy as np
import polars as pl
import pytest

from analysis.table.lines import read_cells, read_lines
from analysis.table.observations import LINE, TableError

ROWS = [("1e8", "2e9", "3.4"), ("2e8", "4e9", "3.2"), ("4e8", "8e9", "3.0")]


def _text(separator: str = ",", header: str = "N D loss", rows: object = ROWS) -> str:
    lines = [header.split(" "), *rows]  # type: ignore[misc]
    return "".join(separator.join(line) + "\n" for line in lines)


def _frame(text: str) -> pl.DataFrame:
    return read_lines(text)[0]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " ", "   ", ", ", " | ", " ; "])
def test_every_usual_separator_is_told_from_the_text(separator: str) -> None:
    frame = _frame(_text(separator))
    assert frame.columns == ["N", "D", "loss", LINE]
    assert frame["loss"].to_list() == [3.4, 3.2, 3.0]
    assert frame[LINE].to_list() == [2, 3, 4]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_end_of_a_line_is_read(end: str) -> None:
    assert _frame(_text().replace("\n", end))["loss"].to_list() == [3.4, 3.2, 3.0]


def test_names_with_commas_do_not_decide_the_separator() -> None:
    text = "N\tD\tloss\ta, b, c, d\n" + "".join("\t".join(row) + "\tx\n" for row in ROWS)
    assert _frame(text).columns[:3] == ["N", "D", "loss"]
    quoted = '"Params, total",D,loss\n' + "".join(",".join(row) + "\n" for row in ROWS)
    assert _frame(quoted).columns[0] == "Params, total"


def test_decimal_commas_stay_as_written_under_semicolons() -> None:
    rows = [[cell.replace(".", ",") for cell in row] for row in ROWS]
    assert _frame(_text(";", rows=rows))["loss"].to_list() == ["3,4", "3,2", "3,0"]


def test_excels_own_hint_is_no_row() -> None:
    frame = _frame("sep=;\n" + _text(";"))
    assert frame["loss"].to_list() == [3.4, 3.2, 3.0]
    assert frame[LINE].to_list() == [3, 4, 5]


def test_a_markdown_table_is_read() -> None:
    text = "| N | D | loss |\n|---|--:|:-:|\n" + "".join(f"| {' | '.join(r)} |\n" for r in ROWS)
    frame = _frame(text)
    assert frame.columns == ["N", "D", "loss", LINE]
    assert frame[LINE].to_list() == [3, 4, 5]


def test_lines_are_those_of_the_file_past_blanks_comments_and_quoted_line_ends() -> None:
    text = '# by me\n\nN,D,loss,note\n1,2,3,"a\nb"\n\n# no row\n4,5,6,c\n,,,\n7,8,9,d\n'
    frame, doubts = read_lines(text)
    assert frame[LINE].to_list() == [4, 8, 10]
    assert frame["note"].to_list() == ["a\nb", "c", "d"]
    assert not doubts


def test_rows_that_are_commented_out_are_named() -> None:
    _, doubts = read_lines(_text() + "#1e8,2e9,3\n#4e8,2e9,3\n# a remark\n")
    assert [d.sentence for d in doubts] == ["Lines 5, 6 begin with # and are not read."]


def test_names_of_runs_that_begin_like_comments_are_no_comments() -> None:
    rows = [(f"#{k}", *row) for k, row in enumerate(ROWS)]
    frame, doubts = read_lines(_text(header="name N D loss", rows=rows))
    assert frame["name"].to_list() == ["#0", "#1", "#2"]
    assert not doubts


@pytest.mark.parametrize("delimiter", [" ", ","])
def test_the_header_that_numpy_writes_as_a_comment_is_one(tmp_path, delimiter: str) -> None:
    path = tmp_path / "runs.txt"
    header = delimiter.join(("N", "D", "loss"))
    np.savetxt(path, np.array(ROWS, dtype=float), header=header, delimiter=delimiter)
    frame = _frame(path.read_text())
    assert frame.columns == ["N", "D", "loss", LINE]
    assert frame[LINE].to_list() == [2, 3, 4]


def test_a_file_of_a_header_alone_has_names_and_no_rows() -> None:
    for text in ("N,D,loss\n", "# N,D,loss\n"):
        frame = _frame(text)
        assert (frame.height, frame.columns[1:]) == (0, ["D", "loss", LINE])


def test_a_cell_longer_than_csv_takes_is_refused_by_its_line() -> None:
    with pytest.raises(TableError, match="line 2: field larger than field limit"):
        read_lines(f"N,D,loss,config\n1,2,3,{'x' * 200_000}\n")


def test_a_table_without_a_header_is_refused() -> None:
    with pytest.raises(TableError, match=r"line 2 holds numbers \(1e8, 2e9, 3.4\).*N,D,loss"):
        read_lines("\n" + "".join(",".join(row) + "\n" for row in ROWS))


@pytest.mark.parametrize("name", ["loss", " loss", "loss "])
def test_equal_names_are_refused_by_place(name: str) -> None:
    rows = "".join(",".join((*row, "9")) + "\n" for row in ROWS)
    with pytest.raises(TableError, match="columns 3 and 4 of line 1 are both named 'loss'"):
        read_lines(f"N,D,loss,{name}\n{rows}")


def test_columns_without_a_name_are_called_as_pandas_reads_them() -> None:
    text = ",N,,D,loss,\n" + "".join(f"{k},{a},,{b},{c},\n" for k, (a, b, c) in enumerate(ROWS))
    assert _frame(text).columns == ["Unnamed: 0", "N", "D", "loss", LINE]


def test_empty_cells_beyond_the_header_are_no_cells() -> None:
    text = "N,D,loss,\n" + "".join(",".join(row) + "\n" for row in ROWS) + "1,2,3,,\n"
    assert _frame(text)["loss"].to_list() == [3.4, 3.2, 3.0, 3.0]


@pytest.mark.parametrize(("row", "cells"), [("1,2", 2), ("1,2,3,4", 4)])
def test_rows_of_another_length_are_refused_by_line(row: str, cells: int) -> None:
    words = rf"needs the 3 cells of the header \(line 1\), not {cells}\. Line 5\."
    with pytest.raises(TableError, match=words) as caught:
        read_lines(_text() + row + "\n")
    assert caught.value.rows == (3,)


def test_an_open_quote_is_refused_by_the_line_where_it_opens() -> None:
    with pytest.raises(TableError, match="line 3: its quote is never closed"):
        read_lines('N,D,loss,note\n1,2,3,a\n4,5,6,"b\n7,8,9,c\n')


def test_integers_beyond_64_bits_are_floats_in_every_version_of_polars() -> None:
    flops = [str(10**21 + 7 * 10**18 * k) for k in range(3)]
    frame = _frame(
        _text(header="N D loss C", rows=[(*r, c) for r, c in zip(ROWS, flops, strict=True)])
    )
    assert frame.schema["C"] == pl.Float64
    assert frame["C"].to_list() == [float(value) for value in flops]


def test_ids_that_a_float_cannot_tell_apart_stay_text() -> None:
    ids = [str(10**20 + k) for k in range(3)]
    frame = _frame(
        _text(header="N D loss id", rows=[(*r, c) for r, c in zip(ROWS, ids, strict=True)])
    )
    assert frame["id"].to_list() == ids


@pytest.mark.parametrize("empty", ["", "NA", "N/A", "#N/A", "<NA>", "NULL", "-", "—"])
def test_every_usual_spelling_of_no_value_is_none(empty: str) -> None:
    frame = _frame(_text() + f"{empty},1e9,3.1\n")
    assert frame["N"].to_list() == [1e8, 2e8, 4e8, None]


def test_cells_of_a_sheet_are_typed_like_text() -> None:
    frame, _ = read_cells([(3, ["N", "ok"]), (5, ["12", ""]), (6, ["14", "yes"])])
    assert frame.to_dict(as_series=False) == {"N": [12, 14], "ok": [None, "yes"], LINE: [5, 6]}


def test_a_title_above_the_names_of_the_columns_is_refused_with_the_line_of_the_names() -> None:
    above = ["Sweep 3,,\n", "Model,Data,\n"]
    with pytest.raises(TableError, match="line 1 names 1 of 3 columns, and line 3 all of them"):
        _frame("".join(above) + _text())
    # An index without a name, and a row of words under a header with all its names, are none.
    assert _frame(_text(header=" N D")).columns[1:] == ["N", "D", LINE]
    assert _frame(_text(rows=[("a", "b", "c"), *ROWS])).height == 4
