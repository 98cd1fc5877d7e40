"""Arithmetic of columns: computed row by row, and nothing else gets through."""

import math

import polars as pl
import pytest

from analysis.table.expressions import evaluate
from analysis.table.observations import TableError

FRAME = pl.DataFrame(
    {
        "steps": [1000, 3_000_000_000],
        "batch": [256, 4_000_000_000],
        "Params (M)": ["8", "1,400,000"],
        "order": [2.0, 3.0],
        'a "b"': [5.0, 6.0],
        "name": ["x", "y"],
    }
)


def _evaluate(text: str) -> list[float]:
    rows = pl.DataFrame({"row": range(FRAME.height)})
    return evaluate(f"--map tokens={text}", text, FRAME, rows=rows, kind="count").to_list()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("steps*batch*2048", 1000 * 256 * 2048.0),
        ('"Params (M)"*1e6', 8e6),
        ("`Params (M)` * 1e6", 8e6),
        ("order", 2.0),
        ("-order + 3", 1.0),
        ("(order + 1) * 1_000 / 3", 1000.0),
        ("ln(order)", math.log(2)),
        ("LOG10(steps)", 3.0),
        ("pow(10, order)", 100.0),
        ("sqrt(abs(-order * 2))", 2.0),
        ("2/3*order", 4 / 3),
        ("steps % 7", 1000 % 7),
        ('"a ""b""" * .5', 2.5),
    ],
)
def test_arithmetic_has_its_value_in_the_first_row(text: str, value: float) -> None:
    assert _evaluate(text)[0] == pytest.approx(value, rel=1e-15)


def test_products_beyond_64_bit_integers_do_not_overflow() -> None:
    assert _evaluate("steps*batch*2048")[1] == 3e9 * 4e9 * 2048


@pytest.mark.parametrize(
    "text",
    [
        "sum(order)",
        "max(order)",
        "order OVER (steps)",
        "read_csv('/etc/passwd')",
        "(SELECT 1)",
        "order; DROP",
        "order = 2",
        "CASE WHEN order THEN 1 END",
        "order steps",
        "order(2)",
        "2 order",
        "order'x'",
        "order**2",
        "order^2",
        "order *",
        "ln(order, 2)",
        "()",
        "2048",
        "1e6",
    ],
)
def test_what_is_no_arithmetic_of_columns_is_refused_by_option(text: str) -> None:
    with pytest.raises(TableError, match=r"^--map tokens="):
        _evaluate(text)


def test_a_column_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(TableError, match=r"no column 'batchs'\. Did you mean 'batch'\?"):
        _evaluate("steps*batchs")
    with pytest.raises(TableError, match=r"Did you mean 'Params \(M\)'\?"):
        _evaluate("Param (M)")


def test_a_column_of_text_is_refused_by_name() -> None:
    with pytest.raises(TableError, match="column 'name' should hold numbers, not 'x'"):
        _evaluate("name*2")
