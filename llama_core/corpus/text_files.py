"""Files of text on disk: which are read, and how each is opened."""

import bz2
import codecs
import gzip
import hashlib
import io
import lzma
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal

from llama_core.corpus.config import FileText, TextSource
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.left_out import LeftOut

Form = Literal["plain", "rows", "json", "parquet"]
_FORMS: dict[str, Form] = {
    ".txt": "plain",
    ".md": "plain",
    ".jsonl": "rows",
    ".ndjson": "rows",
    ".json": "json",
    ".parquet": "parquet",
}
# What the first version of preparation read; it was strict about case, too.
_FIRST_ENDINGS = (".txt", ".md", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)


def form_of(path: Path) -> Form | None:
    """How a file's content is read, by the ending of its name; None where it is not known."""
    stem, ending = os.path.splitext(path.name.lower())  # noqa: PTH122 (of a bare name)
    if ending not in _OPENERS:
        return _FORMS.get(ending)
    form = _FORMS.get(Path(stem).suffix)
    return None if form == "parquet" else form


def is_read_since_the_first_version(path: Path) -> bool:
    """Whether a file of this name was always read."""
    return path.name.endswith(_FIRST_ENDINGS)


def source_files(source: Path) -> tuple[list[Path], list[Path]]:
    """The files of a source that are read and those that are not, each sorted.

    A file given by itself is read as plain text where its ending is not known. Hidden files are
    nobody's text: they are not among those not read.

    Raises:
        CorpusError: there is no readable file.
    """
    if not source.exists():
        raise CorpusError(
            f"{source} does not exist. Give a file or folder of text: --corpus, or path in "
            "corpus.sources."
        )
    if source.is_file():
        return [source], []
    # A link to a folder is no folder to search, and a link to nothing is no file.
    entries = sorted(p for p in source.rglob("*") if not p.is_dir() or p.is_symlink())
    readable = [path for path in entries if path.is_file() and form_of(path) is not None]
    taken = set(readable)
    others = [
        path
        for path in entries
        if path not in taken
        and not any(part.startswith(".") for part in path.relative_to(source).parts)
    ]
    if not readable:
        names = ", ".join(str(path.relative_to(source)) for path in others[:3])
        holds = f" It holds {names}{' and others' if others[3:] else ''}." if others else ""
        raise CorpusError(
            f"{source} has no readable file.{holds} Readable are {', '.join(_FORMS)}, packed or "
            "not; a file given by itself is read as text."
        )
    return readable, others


def files_size(source: Path) -> int:
    """Bytes of a source's files."""
    return sum(path.stat().st_size for path in source_files(source)[0])


def with_unread_files(counts: LeftOut, source: TextSource) -> LeftOut:
    """Counts with the files that are not read now: they are not part of the request."""
    if not isinstance(source, FileText):
        return counts
    folder = Path(source.path)
    _, others = source_files(folder)
    names = sorted({*counts.files, *(str(path.relative_to(folder)) for path in others)})
    size = sum(path.stat().st_size for path in others if path.is_file())
    return counts.model_copy(
        update={"files": tuple(names), "files_bytes": counts.files_bytes + size}
    )


def files_fingerprint(source: Path) -> str:
    """Digest of the names, sizes and modification times of a source's files."""
    lines = []
    for path in source_files(source)[0]:
        stat = path.stat()
        lines.append(f"{path.relative_to(source.parent)} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def open_text(path: Path) -> io.TextIOWrapper:
    """A file's text, decompressed; UTF-8, or what the mark at its head says."""
    opener = _OPENERS.get(path.suffix.lower())
    stream = io.BufferedReader(opener(path) if opener is not None else path.open("rb", buffering=0))
    head = stream.peek(4)
    encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "utf-8")
    return io.TextIOWrapper(stream, encoding=encoding)


def _zstandard(path: Path) -> IO[bytes]:
    try:
        import pyarrow
    except ImportError as error:
        raise CorpusError(f"{path} needs the package pyarrow: pip install pyarrow") from error
    stream: IO[bytes] = pyarrow.input_stream(str(path), compression="zstd")
    return stream


_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".lzma": lzma.open,
    ".zst": _zstandard,
    ".zstd": _zstandard,
}
