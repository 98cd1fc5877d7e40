"""Any table, in any usual kind of file: a law or a refusal in a line, and no file half-written."""

import contextlib
import csv
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.table.observations import TableError
from analysis.table.read import read_table
from flows.cli import main
from tests.others_tables import BASE

NAMES = st.one_of(
    st.sampled_from(
        (
            *(
                "N",
                "D",
                "C",
                "L",
                "loss",
                "params",
                "n_params",
                "n_params_total",
                "tokens",
                "flops",
            ),
            *(
                "Params (M)",
                "Tokens (B)",
                "perplexity",
                "val_bpb",
                "State",
                "status",
                "run",
                "Name",
            ),
            *("run_id", "lr", "batch_size", "seq_len", "steps", "weights", "budget", "seed"),
            *(
                "dataset",
                "vocab_size",
                "unique_tokens",
                "finished",
                "exit_code",
                "row",
                " loss",
                "",
            ),
        )
    ),
    st.text(max_size=5),
)
CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(0, 3),
    st.floats(),
    st.sampled_from(
        (
            *("", "nan", "inf", "1.4B", "300e9", "1,400,000", "1.400", "1,4", "12 %", "8xH100"),
            *("finished", "crashed", "FAILED", "PRUNED", "true", "no", "-", "n/a", "1e400"),
        )
    ),
    st.text(max_size=4),
)
# Magnitudes that people mix up.
FACTORS = st.sampled_from((1.0, 1.0, 1.0, 1e-6, 1e-9, 1e3, 1e9, 0.0, -1.0, 1e-300, 1e300))
OPTIONS = st.lists(
    st.sampled_from(
        (
            *(("--pool",), ("--anyway",), ("--best-of", "lr"), ("--by", "dataset")),
            *(("--include-status", "crashed"), ("--where", "N > 2e7"), ("--form", "gamma")),
            *(("--map", "n_params=N*1e6"), ("--map", "val_loss=ln(perplexity)"), ("--map", "x=N")),
        )
    ),
    max_size=2,
    unique_by=lambda option: option[0],
)


@st.composite
def columns(draw: st.DrawFn) -> list[tuple[str, list[Any]]]:
    """The base table with other names, magnitudes and cells, beside columns of anything."""
    rows = draw(st.integers(0, len(BASE)))
    table = []
    for name, values in zip(("N", "D", "loss"), zip(*BASE[:rows], strict=True), strict=rows > 0):
        factor = draw(FACTORS)
        table.append((name, [value * factor for value in values]))
    for _ in range(draw(st.integers(0, 3))):
        few = draw(st.lists(CELLS, min_size=1, max_size=3))
        table.append((draw(NAMES), [draw(st.sampled_from(few)) for _ in range(rows)]))
    for _ in range(draw(st.integers(0, 2)) if table and rows else 0):
        place = draw(st.integers(0, len(table) - 1))
        name, cells = table[place]
        cells = list(cells)
        cells[draw(st.integers(0, rows - 1))] = draw(CELLS)
        table[place] = (draw(st.one_of(st.just(name), NAMES)), cells)
    return table


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Such a table as a file, sometimes cut or with a byte changed."""
    table = draw(columns())
    header = [name for name, _ in table]
    rows = list(zip(*(cells for _, cells in table), strict=True))
    kind = draw(st.sampled_from(("csv", ";", "\t", "lines", "json", "pandas", "parquet", "utf-16")))
    if kind == "lines":
        content = "\n".join(
            json.dumps(dict(zip(header, row, strict=True))) for row in rows
        ).encode()
    elif kind == "json":
        content = json.dumps([dict(zip(header, row, strict=True)) for row in rows]).encode()
    elif kind == "pandas":
        content = json.dumps({name: dict(enumerate(cells)) for name, cells in table}).encode()
    elif kind == "parquet":
        buffer = io.BytesIO()
        frame = pl.DataFrame({name: list(map(str, cells)) for name, cells in table})
        frame.write_parquet(buffer)
        content = buffer.getvalue()
    else:
        text = io.StringIO()
        writer = csv.writer(text, delimiter=kind if len(kind) == 1 else ",")
        writer.writerows([header, *rows])
        content = text.getvalue().encode("utf-16" if kind == "utf-16" else "utf-8", "replace")
    if draw(st.integers(0, 4)) == 0 and content:
        place = draw(st.integers(0, len(content) - 1))
        content = draw(
            st.sampled_from(
                (content[:place], content[:place] + b"\xff" + content[place + 1 :], content + b"\0")
            )
        )
    return content


def check_read(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        path.write_bytes(content)
        refusal = ""
        try:
            assert read_table(path).frame.height > 0
        except TableError as error:
            refusal = str(error)
        assert "\n" not in refusal


def check_fit(content: bytes, options: list[tuple[str, ...]]) -> None:
    errors, status = io.StringIO(), 0
    before = os.environ.get("ISOFLOP_HOME")
    with tempfile.TemporaryDirectory() as folder:
        path, answer = Path(folder) / "table", Path(folder) / "answer.json"
        path.write_bytes(content)
        os.environ["ISOFLOP_HOME"] = str(Path(folder) / "home")
        words = [word for option in options for word in option]
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
                main(["fit", str(path), "--bootstrap", "0", "--json", str(answer), *words])
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 0
        finally:
            os.environ.pop("ISOFLOP_HOME")
            if before is not None:
                os.environ["ISOFLOP_HOME"] = before
        assert status in (0, 2), (status, errors.getvalue())
        if status:
            assert errors.getvalue().startswith("isoflop: ")
            assert not answer.exists()
        else:
            assert json.loads(answer.read_text())["groups"]


FEW = settings(max_examples=500, suppress_health_check=list(HealthCheck), derandomize=True)
MANY = settings(max_examples=20_000, suppress_health_check=list(HealthCheck))


@FEW
@given(content=files())
def test_any_table_is_read_or_refused_in_a_line(content: bytes) -> None:
    check_read(content)


@settings(FEW, max_examples=60)
@given(content=files(), options=OPTIONS)
def test_any_table_is_fitted_or_refused_in_a_line(
    content: bytes, options: list[tuple[str, ...]]
) -> None:
    check_fit(content, options)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
@MANY
@given(content=files())
def test_twenty_thousand_tables_are_read_or_refused_in_a_line(content: bytes) -> None:
    check_read(content)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(MANY, max_examples=1_000)
@given(content=files(), options=OPTIONS)
def test_a_thousand_tables_are_fitted_or_refused_in_a_line(
    content: bytes, options: list[tuple[str, ...]]
) -> None:
    check_fit(content, options)
