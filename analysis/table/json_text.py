"""JSON in its usual forms: documents of a table, and JSON lines."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from analysis.table.observations import LINE, TableError

# Between the names of a path, so that a name may hold a dot.
WITHIN = "\x1f"
_FORMS = (
    "It should be a list of objects, one a run; an object of columns; or JSON lines "
    "(pandas: orient='records')."
)


def read_json(text: str) -> pl.DataFrame:
    """The frame of a JSON document or of JSON lines; `LINE` says where each of those begins.

    Raises:
        TableError: the text is not JSON, or has no form that holds a table.
    """
    lines, values = zip(*_values(text), strict=True)
    if len(values) == 1:
        return _frame(_records(values[0]))
    if all(isinstance(value, list) for value in values):
        records = _under_header(values)
        return _frame(records).with_columns(pl.Series(LINE, lines[1:], dtype=pl.Int64))
    for line, value in zip(lines, values, strict=True):
        if not isinstance(value, dict):
            raise TableError(f"line {line} holds {_kind(value)}, not an object. {_FORMS}")
    return _frame(values).with_columns(pl.Series(LINE, lines, dtype=pl.Int64))


def _values(text: str) -> Iterator[tuple[int, Any]]:
    """The values one after another, each with the line in which it begins."""
    decoder = json.JSONDecoder(parse_int=_integer, object_pairs_hook=_object)
    line, place = 1, 0
    while True:
        begin = place
        while begin < len(text) and text[begin].isspace():
            begin += 1
        if begin == len(text):
            return
        line += text.count("\n", place, begin)
        try:
            value, place = decoder.raw_decode(text, begin)
        except json.JSONDecodeError as error:
            raise TableError(f"line {error.lineno} is not JSON: {error.msg}.") from error
        yield line, value
        line += text.count("\n", begin, place)


def _integer(digits: str) -> int | float:
    """An integer, or a float where 64 bits do not hold it."""
    value = int(digits)
    return value if abs(value) < 2**63 else float(value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name.strip() for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise TableError(f"an object names {twice!r} twice. Rename one.")
    return dict(zip(names, (value for _, value in pairs), strict=True))


def _records(document: Any) -> Sequence[Mapping[str, Any]]:
    """The rows of a document as objects.

    Raises:
        TableError: the document has no form that holds a table.
    """
    if isinstance(document, list):
        if document and all(isinstance(row, list) for row in document):
            return _under_header(document)
        for place, row in enumerate(document):
            if not isinstance(row, dict):
                raise TableError(f"item {place + 1} is {_kind(row)}, not an object. {_FORMS}")
        return document
    if not isinstance(document, dict):
        raise TableError(f"it is {_kind(document)}. {_FORMS}")
    names, data = document.get("columns"), document.get("data")
    if isinstance(names, list) and isinstance(data, list):
        return _under_header([names, *data])
    tables = {
        name: value
        for name, value in document.items()
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value)
    }
    if "schema" in document and "data" in tables:
        return _records(data)
    if len(tables) == 1:
        return _records(*tables.values())
    if tables:
        raise TableError(f"it holds several tables: {', '.join(tables)}. Keep one.")
    return _columns(document)


def _columns(document: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The rows of an object of columns: lists, or objects of rows as pandas writes by default."""
    values = list(document.values())
    if len(values) == 1 and isinstance(values[0], dict):
        return _records(values[0])
    if values and all(isinstance(value, list) for value in values):
        lengths = {name: len(value) for name, value in document.items()}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise TableError(f"its columns hold unequal numbers of values: {counts}.")
        return [dict(zip(document, row, strict=True)) for row in zip(*values, strict=True)]
    if values and all(isinstance(value, dict) for value in values):
        labels = list(dict.fromkeys(key for value in values for key in value))
        by_label = [{name: document[name].get(label) for name in document} for label in labels]
        numbered = all(label.isdigit() for label in labels)
        # A row holds values of all magnitudes, N and the loss; a column of one.
        if not numbered and _spread(values) > _spread(by_label):
            return [{"index": name, **value} for name, value in document.items()]
        return by_label
    if any(isinstance(value, list) for value in values):
        raise TableError(f"it is an object of {', '.join(document)}. {_FORMS}")
    return [document]


def _spread(objects: Sequence[Mapping[str, Any]]) -> float:
    """The mean orders of magnitude that the numbers of an object span."""
    spans = []
    for values in objects:
        numbers = [v for v in values.values() if isinstance(v, int | float) and v > 0]
        spans.append(math.log10(max(numbers) / min(numbers)) if numbers else 0.0)
    return sum(spans) / len(spans)


def _under_header(rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Lists as objects, named by the first."""
    header, *data = rows
    if not all(isinstance(name, str) for name in header):
        raise TableError(f"its columns have no names, the first is {header[0]!r}. {_FORMS}")
    names = _object([(name, None) for name in header])
    for place, row in enumerate(data):
        if len(row) != len(names):
            raise TableError(f"row {place + 1} has {len(row)} values for {len(names)} columns.")
    return [dict(zip(names, row, strict=True)) for row in data]


def _frame(records: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    if not any(records):
        raise TableError("it has no rows.")
    rows = [dict(_cells("", record)) for record in records]
    frame = pl.from_dicts(rows, infer_schema_length=None, strict=False)
    return frame.rename(short_names(frame.columns))


def _cells(path: str, record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The values of an object and of those within it; lists as text."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _cells(f"{path}{name}{WITHIN}", value)
        else:
            yield path + name, json.dumps(value) if isinstance(value, list) else value


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Names for values within values: their own where that is the only one, else the path."""
    own = [path.rpartition(WITHIN)[2] for path in paths]
    return {
        path: name if own.count(name) == 1 else path.replace(WITHIN, ".")
        for path, name in zip(paths, own, strict=True)
    }


def _kind(value: Any) -> str:
    for kind, name in ((dict, "an object"), (list, "a list"), (str, "text")):
        if isinstance(value, kind):
            return name
    return f"{json.dumps(value)}"
