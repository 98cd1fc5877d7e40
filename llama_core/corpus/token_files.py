"""Files of token ids that people have: their formats, and the documents in them."""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.corpus.config import TokenFiles
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.left_out import LeftOut

Ids = NDArray[np.integer[Any]]
# A longer document is cut, so that a single stream of tokens has a validation part.
LONGEST_DOCUMENT = 65_536
# llm.c: 256 int32 of header, which begin with one of these, a version and the number of tokens.
_LLMC_HEADER = 256
_LLMC = {20240520: "<u2", 20240801: "<u4"}
# Megatron: a mark, then version, code of the dtype, and the numbers of sequences and documents.
_MEGATRON_MARK = b"MMIDIDX\0\0"
_MEGATRON_HEAD = struct.Struct("<QBQQ")
_MEGATRON = {1: "<u1", 2: "<i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
_ENDINGS = (".bin", ".npy", ".arrow", ".parquet")
# Descriptions that tools write beside the tokens.
_BESIDE_TOKENS = (".json", ".md", ".pkl")
_BLOCK = 2**22


def token_files(source: TokenFiles) -> list[Path]:
    """The files of a source that hold tokens, sorted.

    Raises:
        CorpusError: there is none.
    """
    path = Path(source.path)
    if path.is_file():
        return [path]
    files = [file for file in _files(path) if file.suffix in _ENDINGS]
    if not files:
        missing = "does not exist" if not path.exists() else "has no token file"
        raise CorpusError(
            f"{path} {missing}. Token files are {', '.join(_ENDINGS)}; Megatron's .bin has its "
            ".idx beside it."
        )
    return files


def unread_files(source: TokenFiles) -> LeftOut:
    """Names and bytes of the files beside a source's that could hold tokens and are not read."""
    path, files = Path(source.path), token_files(source)
    indices = {file.with_suffix(".idx") for file in files}
    others = [
        file
        for file in (_files(path) if path.is_dir() else [])
        if file.suffix not in (*_ENDINGS, *_BESIDE_TOKENS)
        and file not in indices
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
        and (source.tokenizer is None or file.absolute() != Path(source.tokenizer).absolute())
    ]
    return LeftOut(
        source=source.name,
        bytes=sum(file.stat().st_size for file in files),
        files=tuple(str(file.relative_to(path)) for file in others),
        files_bytes=sum(file.stat().st_size for file in others if file.exists()),
        came_as_tokens=True,
    )


def _files(folder: Path) -> list[Path]:
    """All files of a folder, but for those in which `datasets` keeps what it has computed."""
    return [
        file
        for file in sorted(folder.rglob("*"))
        if not file.is_dir()
        and not (file.suffix == ".arrow" and file.name.startswith(("cache-", "tmp")))
    ]


def tokens_fingerprint(source: TokenFiles) -> str:
    """Digest of the names, sizes and modification times of a source's files."""
    files = token_files(source)
    files += [f.with_suffix(".idx") for f in files if f.with_suffix(".idx").exists()]
    files += [Path(source.tokenizer)] if source.tokenizer is not None else []
    lines = []
    for file in files:
        try:
            stat = file.stat()
        except OSError as error:
            raise CorpusError(f"{file} cannot be read: {error.strerror}.") from error
        lines.append(f"{file.name} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def token_documents(
    path: Path, source: TokenFiles, vocab_size: int, end: int | None
) -> Iterator[Ids]:
    """The documents of a file, each id checked; long ones are cut.

    Args:
        end: the id after which a document ends, where the file does not say.

    Raises:
        CorpusError: the file is damaged, or has an id that the vocabulary lacks.
    """
    if path.stat().st_size == 0:
        raise CorpusError(f"{path} is empty.")
    if path.suffix == ".npy":
        stream = _npy(path)
        documents = _checked(path, stream if stream.ndim == 2 else [stream], vocab_size)
        yield from _cut(documents if stream.ndim == 2 else _split(documents, end))
    elif path.suffix in (".arrow", ".parquet"):
        yield from _cut(_checked(path, _rows(path, source.column), vocab_size))
    elif path.with_suffix(".idx").exists():
        yield from _cut(_checked(path, _megatron(path), vocab_size))
    else:
        blocks = _checked(path, [_bin(path, source, vocab_size)], vocab_size)
        yield from _cut(_split(blocks, end))


def _checked(path: Path, arrays: Iterable[Ids], vocab_size: int) -> Iterator[Ids]:
    """Arrays in blocks, each id of which the vocabulary has."""
    place = 0
    for array in arrays:
        for start in range(0, len(array), _BLOCK):
            block = np.asarray(array[start : start + _BLOCK])
            if wrong := np.flatnonzero((block < 0) | (block >= vocab_size)).tolist():
                raise CorpusError(
                    f"{path} has the id {block[wrong[0]]:,} at token {place + wrong[0]:,}, and "
                    f"corpus.vocab_size={vocab_size:,} has ids 0 to {vocab_size - 1:,}. Set "
                    "corpus.vocab_size to that of the tokenizer; if it is, the file holds numbers "
                    "of another width."
                )
            place += len(block)
            yield block


def _split(blocks: Iterable[Ids], end: int | None) -> Iterator[Ids]:
    """Documents of a stream, each up to its end token."""
    open_: list[Ids] = []
    for block in blocks:
        cuts = np.flatnonzero(block == end) + 1 if end is not None else np.empty(0, np.int64)
        *whole, rest = np.split(block, cuts)
        for part in whole:
            yield np.concatenate([*open_, part])
            open_ = []
        open_.append(rest)
        if sum(map(len, open_)) >= LONGEST_DOCUMENT:
            joined = np.concatenate(open_)
            most = len(joined) // LONGEST_DOCUMENT * LONGEST_DOCUMENT
            yield joined[:most]
            open_ = [joined[most:]]
    yield np.concatenate(open_)


def _cut(documents: Iterable[Ids]) -> Iterator[Ids]:
    for document in documents:
        for start in range(0, len(document), LONGEST_DOCUMENT):
            yield document[start : start + LONGEST_DOCUMENT]


def _bin(path: Path, source: TokenFiles, vocab_size: int) -> Ids:
    """The tokens of nanoGPT's file, which has nothing else, or of llm.c's."""
    size = path.stat().st_size
    head = np.fromfile(path, "<i4", 3)
    if len(head) == 3 and int(head[0]) in _LLMC:
        dtype = np.dtype(_LLMC[int(head[0])])
        tokens = (size - 4 * _LLMC_HEADER) // dtype.itemsize
        if size != 4 * _LLMC_HEADER + int(head[2]) * dtype.itemsize:
            raise CorpusError(
                f"{path} was cut short or joined: llm.c's header says {head[2]:,} tokens, and "
                f"{max(0, tokens):,} follow."
            )
        return _mapped(path, dtype, 4 * _LLMC_HEADER)
    dtype = np.dtype(source.dtype).newbyteorder("<")
    if size % dtype.itemsize:
        raise CorpusError(
            f"{path} has {size:,} bytes, no whole number of {source.dtype} tokens: it was cut "
            "short, or holds numbers of another width (dtype of the source: uint16, uint32)."
        )
    tokens_read = _mapped(path, dtype, 0)
    first = np.asarray(tokens_read[:4_096])
    # The upper halves of ids as uint32: zeros, or nearly so where the vocabulary is larger.
    upper, highest = first[1::2], (vocab_size - 1) >> 16
    if source.dtype == "uint16" and len(first) >= 64 and upper.max() <= highest and first.any():
        raise CorpusError(
            f"every second number of {path} is {'zero' if not highest else f'at most {highest}'}: "
            "it holds uint32, not uint16. Set dtype: uint32 of the source."
        )
    if source.dtype == "uint32" and int(first.min()) >= 2**16 > vocab_size:
        raise CorpusError(
            f"all numbers of {path} are above 65,535: it holds uint16, not uint32. Leave out "
            "dtype of the source."
        )
    return tokens_read


def _mapped(path: Path, dtype: "np.dtype[Any]", offset: int) -> Ids:
    if path.stat().st_size <= offset:
        raise CorpusError(f"{path} has no tokens after its header.")
    return np.memmap(path, dtype, "r", offset)


def _npy(path: Path) -> Ids:
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise CorpusError(f"{path} is no array that can be read: {reason}") from error
    if stored.dtype.kind not in "iu" or stored.ndim not in (1, 2):
        raise CorpusError(
            f"{path} holds {stored.dtype} of shape {stored.shape}; token ids are integers, in a "
            "row, or a document a row."
        )
    if not stored.size:
        raise CorpusError(f"{path} has no tokens.")
    return stored  # type: ignore[no-any-return]


def _megatron(path: Path) -> Iterator[Ids]:
    """Documents by the index beside the file."""
    index = path.with_suffix(".idx")
    content = index.read_bytes()
    head = len(_MEGATRON_MARK) + _MEGATRON_HEAD.size
    if not content.startswith(_MEGATRON_MARK) or len(content) < head:
        raise CorpusError(f"{index} is no index of Megatron's: it does not begin with MMIDIDX.")
    version, code, sequences, documents = _MEGATRON_HEAD.unpack(content[len(_MEGATRON_MARK) : head])
    if version != 1 or code not in _MEGATRON:
        raise CorpusError(
            f"{index} has version {version} and dtype code {code}; expected version 1 and a code "
            f"of an integer: {', '.join(map(str, _MEGATRON))}."
        )
    if len(content) < head + 12 * sequences + 8 * documents:
        raise CorpusError(f"{index} was cut short: it says {sequences:,} sequences.")
    lengths = np.frombuffer(content, "<i4", sequences, head).astype(np.int64)
    pointers = np.frombuffer(content, "<i8", sequences, head + 4 * sequences)
    bounds = np.frombuffer(content, "<i8", documents, head + 12 * sequences)
    dtype = np.dtype(_MEGATRON[code])
    starts = np.concatenate(([0], np.cumsum(lengths)))
    size = path.stat().st_size
    if int(starts[-1]) * dtype.itemsize != size or (pointers != starts[:-1] * dtype.itemsize).any():
        raise CorpusError(
            f"{index} does not match {path.name}: its sequences have "
            f"{int(starts[-1]) * dtype.itemsize:,} bytes, the file {size:,}. Take the two that "
            "were written together."
        )
    if not documents or bounds[0] != 0 or bounds[-1] != sequences or (np.diff(bounds) < 0).any():
        raise CorpusError(
            f"{index} is damaged: its documents are no ranges of {sequences:,} sequences."
        )
    tokens = np.memmap(path, dtype, "r")
    for begin, end in zip(starts[bounds[:-1]], starts[bounds[1:]], strict=True):
        yield tokens[begin:end]


def _rows(path: Path, column: str) -> Iterator[Ids]:
    """Rows of a Hugging Face dataset, each a document."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".parquet":
            table = pq.ParquetFile(path)
            schema, batches = table.schema_arrow, table.iter_batches
        else:
            stream = pa.ipc.open_stream(pa.memory_map(str(path)))
            schema, batches = stream.schema, lambda columns: iter(stream)
        if column not in schema.names:
            raise CorpusError(
                f"{path} has no column {column!r}. Set column of the source to one of "
                f"{', '.join(schema.names)}."
            )
        kind = schema.field(column).type
        if not hasattr(kind, "value_type") or not pa.types.is_integer(kind.value_type):
            raise CorpusError(f"column {column!r} of {path} holds {kind}, not lists of token ids.")
        for batch in batches(columns=[column]):
            rows = batch.column(column)
            if rows.null_count or rows.flatten().null_count:
                raise CorpusError(f"column {column!r} of {path} has rows or ids that are missing.")
            values = rows.flatten().to_numpy()
            ends = np.cumsum(pc.list_value_length(rows).to_numpy())
            yield from np.split(values, ends[:-1])
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CorpusError(f"{path} cannot be read: {reason}") from error
