"""Documents: read from files or a dataset hub, one at a time."""

import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_core.config import HubText

# A longer plain text is cut at blank lines, so that a single book still has a validation part.
SECTION_CHARACTERS = 65_536
_PLAIN = (".txt", ".md")
_LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
_ROWS = (".parquet",)
_READABLE = (*_PLAIN, *_LINES, *_ROWS)


class CorpusError(ValueError):
    """Text or token shards cannot be used; the message is one line."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text that belongs wholly to training or wholly to validation."""

    name: str
    text: str


def read_documents(source: Path, *, text_field: str = "text") -> Iterator[Document]:
    """Documents of a file, or of every readable file in a folder by sorted path.

    Plain text is one document a file (cut at blank lines where longer than
    `SECTION_CHARACTERS`); JSONL one a line, Parquet one a row, both in `text_field`.

    Raises:
        CorpusError: there is no readable file, or the content of one does not fit its name.
    """
    for path in source_files(source):
        name = path.name if path == source else str(path.relative_to(source))
        try:
            if path.name.endswith(_PLAIN):
                yield from _sections(name, path.read_text(encoding="utf-8"))
            elif path.name.endswith(_LINES):
                yield from _json_lines(name, path, text_field)
            else:
                yield from _parquet_rows(name, path, text_field)
        except UnicodeDecodeError as error:
            raise CorpusError(f"{path} is not UTF-8 text: {error}") from error
        except (OSError, EOFError) as error:
            raise CorpusError(f"{path} cannot be read: {error}") from error


def source_files(source: Path) -> list[Path]:
    """The files `read_documents` reads, sorted.

    Raises:
        CorpusError: there is no readable file.
    """
    if not source.exists():
        raise CorpusError(f"{source} does not exist.")
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    readable = [path for path in files if path.name.endswith(_READABLE)]
    if not readable:
        raise CorpusError(f"{source} has no readable file. Readable are {', '.join(_READABLE)}.")
    return readable


def files_fingerprint(source: Path) -> str:
    """Digest of the names, sizes and modification times of a source's files."""
    lines = []
    for path in source_files(source):
        stat = path.stat()
        lines.append(f"{path.relative_to(source.parent)} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def hub_documents(source: HubText) -> Iterator[Document]:
    """Rows of a Hugging Face dataset, streamed.

    Raises:
        CorpusError: the package `datasets` is missing, the dataset cannot be read, or a row has no
            such text field.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise CorpusError(
            f"dataset {source.dataset!r} needs the package datasets: pip install datasets"
        ) from error
    try:
        rows = load_dataset(source.dataset, source.subset, split=source.split, streaming=True)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CorpusError(f"dataset {source.dataset!r} cannot be read: {reason}") from error
    for number, row in enumerate(rows):
        where = f"{source.dataset}:{source.split}:{number}"
        yield Document(where, _text_of(row, source.text_field, where))


def _sections(name: str, text: str) -> Iterator[Document]:
    if len(text) <= SECTION_CHARACTERS:
        yield Document(name, text)
        return
    start = number = 0
    while start < len(text):
        end = text.find("\n\n", start + SECTION_CHARACTERS)
        end = len(text) if end < 0 else end + 2
        yield Document(f"{name}#{number}", text[start:end])
        start, number = end, number + 1


def _json_lines(name: str, path: Path, text_field: str) -> Iterator[Document]:
    with _open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{name}:{number}"
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise CorpusError(f"{path} line {number} is not JSON: {error}") from error
            yield Document(where, _text_of(row, text_field, where))


def _open_text(path: Path) -> io.TextIOBase:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8")
    if path.suffix == ".zst":
        try:
            import zstandard
        except ImportError as error:
            raise CorpusError(
                f"{path} needs the package zstandard: pip install zstandard"
            ) from error
        stream = zstandard.ZstdDecompressor().stream_reader(path.open("rb"), closefd=True)
        return io.TextIOWrapper(stream, encoding="utf-8")
    return path.open(encoding="utf-8")


def _parquet_rows(name: str, path: Path, text_field: str) -> Iterator[Document]:
    try:
        import polars as pl
    except ImportError as error:
        raise CorpusError(f"{path} needs the package polars: pip install polars") from error
    try:
        columns = pl.read_parquet_schema(path)
    except pl.exceptions.PolarsError as error:
        raise CorpusError(f"{path} is not Parquet: {error}") from error
    if text_field not in columns:
        raise CorpusError(
            f"{path} has no column {text_field!r}. Set text_field to one of {', '.join(columns)}."
        )
    for start in range(
        0, pl.scan_parquet(path, glob=False).select(pl.len()).collect().item(), 10_000
    ):
        rows = pl.scan_parquet(path, glob=False).select(text_field).slice(start, 10_000).collect()
        for offset, text in enumerate(rows[text_field]):
            where = f"{name}:{start + offset}"
            yield Document(where, _text_of({text_field: text}, text_field, where))


def _text_of(row: Any, text_field: str, where: str) -> str:
    text = row.get(text_field) if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise CorpusError(f"{where} has no text in {text_field!r}. Set text_field.")
    return text
