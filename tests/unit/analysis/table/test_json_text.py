"""JSON in the forms that pandas, trackers and people write."""

import json
from typing import Any

import pandas as pd
import polars as pl
import pytest

from analysis.table.json_text import read_json
from analysis.table.observations import LINE, TableError

RUNS = [
    {"N": 100_000_000, "D": 2e9, "loss": 3.4},
    {"N": 200_000_000, "D": 4e9, "loss": 3.2},
    {"N": 400_000_000, "D": 8e9, "loss": 3.0},
]
FRAME = pd.DataFrame(RUNS)
NAMED = FRAME.set_index(pd.Index(["a", "b", "c"]))


def _table(text: str) -> list[dict[str, Any]]:
    return read_json(text).select("N", "D", "loss").to_dicts()


@pytest.mark.parametrize("orient", ["columns", "index", "records", "split", "table"])
@pytest.mark.parametrize("frame", [FRAME, NAMED], ids=["numbered", "named"])
def test_the_forms_of_pandas_are_read(orient: Any, frame: pd.DataFrame) -> None:
    assert _table(frame.to_json(orient=orient)) == RUNS


@pytest.mark.parametrize(
    "document",
    [
        {name: [run[name] for run in RUNS] for name in RUNS[0]},
        {"project": "x", "runs": RUNS},
        {"data": {"runs": RUNS}},
        [["N", "D", "loss"], *(list(run.values()) for run in RUNS)],
        [{"config": {"N": r["N"], "D": r["D"]}, "summary": {"loss": r["loss"]}} for r in RUNS],
    ],
    ids=["lists", "one list", "nested", "rows", "objects"],
)
def test_other_forms_are_read(document: object) -> None:
    assert _table(json.dumps(document)) == RUNS
    assert _table(json.dumps(document, indent=2)) == RUNS


@pytest.mark.parametrize("indent", [None, 2])
def test_json_lines_know_the_line_in_which_each_begins(indent: int | None) -> None:
    text = "\n\n".join(json.dumps(run, indent=indent) for run in RUNS)
    assert _table(text) == RUNS
    assert read_json(text)[LINE].to_list() == ([1, 3, 5] if indent is None else [1, 7, 13])
    header = "\n".join(json.dumps(row) for row in (["N", "D", "loss"], [1, 2, 3], [4, 5, 6]))
    assert read_json(header)[LINE].to_list() == [2, 3]


def test_integers_beyond_64_bits_are_floats() -> None:
    frame = read_json(json.dumps([{"C": 1}, {"C": 10**21}]))
    assert frame.schema["C"] == pl.Float64
    assert frame["C"].to_list() == [1.0, 1e21]


def test_equal_names_within_objects_keep_their_path() -> None:
    row = {"model": {"name": "a", "N": 1}, "data": {"name": "b"}, "tags": ["x"]}
    assert read_json(json.dumps([row])).row(0, named=True) == {
        "model.name": "a", "N": 1, "data.name": "b", "tags": '["x"]'
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"N": 1}\n{"N": 2', "line 2 is not JSON"),
        ('{"N": 1}\n3', "line 2 holds 3, not an object"),
        ('[{"N": 1}, "a"]', "item 2 is text"),
        ("[[1, 2], [3, 4]]", "columns have no names, the first is 1"),
        ('[["N", "D"], [1]]', "row 1 has 1 values for 2 columns"),
        ('{"N": [1, 2], "D": [1]}', "unequal numbers of values: N 2, D 1"),
        ('{"a": [{"N": 1}], "b": [{"N": 1}]}', "several tables: a, b"),
        ('[{"N": 1, "N ": 2}]', "'N' twice"),
        ("[]", "no rows"),
        ("{}", "no rows"),
    ],
)
def test_what_holds_no_table_is_refused(text: str, words: str) -> None:
    with pytest.raises(TableError, match=words):
        read_json(text)
