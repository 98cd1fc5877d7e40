"""Documents of files: plain text, JSON lines, JSON and Parquet."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from llama_core.corpus.documents import CorpusError, NoTextError, row_documents
from llama_core.corpus.left_out import LeftOut
from llama_core.corpus.text_files import (
    UNREADABLE,
    form_of,
    is_read_since_the_first_version,
    open_text,
    source_files,
)

# A longer plain text is cut at blank lines, so that a single book still has a validation part.
SECTION_CHARACTERS = 65_536
# Where no blank line is near: at one with blanks in it, the end of a line, or a space.
_OTHER_CUTS = tuple(map(re.compile, (r"\n[^\S\n]+\n", r"\n", r"\s")))
_PARQUET_ROWS = 10_000
_BLOCK_CHARACTERS = 2**22


def read_documents(source: Path, counts: LeftOut) -> Iterator[str]:
    """Documents of a file, or of every readable file in a folder by sorted path.

    Plain text is one document a file (cut at blank lines where longer than
    `SECTION_CHARACTERS`); JSON one a row or line, Parquet one a row, both in `counts.text_field`.

    Raises:
        CorpusError: there is no readable file, or the content of one does not fit its name.
    """
    for path in source_files(source)[0]:
        counts.later_rule |= not is_read_since_the_first_version(path)
        try:
            yield from _documents(path, counts)
        except NoTextError:
            # Beside the text lies many a JSON file with settings.
            if form_of(path) != "json" or path == source:
                raise
            counts.files = (*counts.files, str(path.relative_to(source)))
            counts.files_bytes += path.stat().st_size
        except UnicodeDecodeError as error:
            place = _undecodable(path, error)
            raise CorpusError(
                f"{path} is not UTF-8 text: byte {place:,} cannot be decoded. Convert it, "
                f"for example: iconv -f latin1 -t utf-8"
            ) from error
        except UNREADABLE as error:
            raise CorpusError(f"{path} cannot be read: {error}") from error


def sections(blocks: Iterable[str], counts: LeftOut, *, least: int | None = None) -> Iterator[str]:
    """A plain text, given in blocks, cut into sections of `least` characters or more.

    Args:
        least: None: `SECTION_CHARACTERS`.
    """
    least = SECTION_CHARACTERS if least is None else least
    text, start = "", 0
    for block in blocks:
        text, start = text[start:] + block, 0
        # A cut depends on no more than two sections ahead of it.
        while len(text) - start > 2 * least + 1:
            end = _section_end(text, start, least, counts)
            yield text[start:end]
            start = end
    if not text:
        # An empty file is a document too, and is counted.
        yield text
    while start < len(text):
        end = _section_end(text, start, least, counts)
        yield text[start:end]
        start = end


def _documents(path: Path, counts: LeftOut) -> Iterator[str]:
    match form_of(path):
        case "rows":
            return row_documents(str(path), _line_rows(path), counts)
        case "json":
            return row_documents(str(path), _json_rows(path, counts.text_field), counts)
        case "parquet":
            return row_documents(str(path), _parquet_rows(path, counts.text_field), counts)
        case form:
            return sections(_blocks(path, is_text=form is not None), counts)


def _blocks(path: Path, *, is_text: bool) -> Iterator[str]:
    with open_text(path) as file:
        while block := file.read(_BLOCK_CHARACTERS):
            if not is_text and "\0" in block:
                raise CorpusError(f"{path} is no text: it has zero bytes.")
            yield block


def _undecodable(path: Path, error: UnicodeDecodeError) -> int:
    """The first byte of a file that cannot be decoded; the error counts from some block on."""
    decoder, before = codecs.getincrementaldecoder(error.encoding)(), 0
    with open_text(path) as text:
        while block := bytes(text.buffer.read(_BLOCK_CHARACTERS)):
            kept = len(decoder.getstate()[0])
            try:
                decoder.decode(block)
            except UnicodeDecodeError as again:
                return before - kept + again.start
            before += len(block)
    return before - len(decoder.getstate()[0])


def _section_end(text: str, start: int, characters: int, counts: LeftOut) -> int:
    least, most = start + characters, start + 2 * characters
    blank_line = text.find("\n\n", least, most)
    if blank_line >= 0:
        return blank_line + 2
    if len(text) <= most:
        return len(text)
    counts.later_rule = True
    cuts = (pattern.search(text, least, most) for pattern in _OTHER_CUTS)
    return next((cut.end() for cut in cuts if cut is not None), least)


def _line_rows(path: Path) -> Iterator[Any]:
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            # A mark is at the head of every file of which this one was joined.
            content = line.strip().lstrip("\ufeff")
            if not content:
                continue
            try:
                yield json.loads(content)
            except (ValueError, RecursionError) as error:
                raise CorpusError(f"{path} line {number} is not JSON: {error}") from error


def _json_rows(path: Path, text_field: str) -> Iterator[Any]:
    """Rows of JSON lines, of a list, of columns, or of a list within an object."""
    with open_text(path) as file:
        first, second = (next(filter(str.strip, file), "") for _ in range(2))
        if second and _is_json(first):
            yield from _line_rows(path)
            return
        rest = file.read()
    try:
        content = json.loads((first + second + rest).lstrip("\ufeff") or "[]")
    except (ValueError, RecursionError) as error:
        raise NoTextError(f"{path} is neither JSON nor JSON lines: {error}") from error
    yield from _rows_of(content, text_field)


def _is_json(line: str) -> bool:
    try:
        json.loads(line.lstrip("\ufeff"))
    except (ValueError, RecursionError):
        return False
    return True


def _rows_of(content: Any, text_field: str) -> list[Any]:
    if isinstance(content, list):
        return content
    if not isinstance(content, dict):
        return [content]
    match content.get(text_field):
        case dict() as column:
            return list(column.values())
        case list() as column:
            return column
        case str():
            return [content]
    tables = (v for v in content.values() if isinstance(v, list) and v and isinstance(v[0], dict))
    return next(tables, [content])


def _parquet_rows(path: Path, text_field: str) -> Iterator[Any]:
    try:
        import polars as pl
    except ImportError as error:
        raise CorpusError(f"{path} needs the package polars: pip install polars") from error
    try:
        columns = pl.read_parquet_schema(path)
        if text_field not in columns:
            raise CorpusError(
                f"{path} has no column {text_field!r}. Set text_field to one of "
                f"{', '.join(columns)}."
            )
        table = pl.scan_parquet(path, glob=False).select(text_field)
        for start in range(0, table.select(pl.len()).collect().item(), _PARQUET_ROWS):
            yield from table.slice(start, _PARQUET_ROWS).collect()[text_field]
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise CorpusError(f"{path} is not Parquet that can be read: {reason}") from error
