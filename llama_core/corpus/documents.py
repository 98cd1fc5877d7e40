"""Documents: texts of rows, from files or a dataset hub, one at a time.

A document belongs wholly to training or wholly to validation.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Any

from llama_core.corpus.config import HubText
from llama_core.corpus.left_out import LeftOut

# A hub dataset may be endless: it is refused once this many rows have no text.
_HUB_ROWS = 1_000


class CorpusError(ValueError):
    """Text or token shards cannot be used; the message is one line."""


class NoTextError(CorpusError):
    """No row has a text."""


def row_documents(
    name: str, rows: Iterable[Any], counts: LeftOut, *, most: int | None = None
) -> Generator[str]:
    """The text of each row that has one; the other rows are counted.

    Args:
        name: of the file or dataset, for the message.
        rows: mappings with `counts.text_field`, or the texts themselves.
        most: rows after which no text is expected any more; None reads to the end.

    Raises:
        NoTextError: there are rows, and none has a text.
    """
    without: list[Any] = []
    number = texts = 0
    try:
        for row in rows:
            number += 1
            text = row.get(counts.text_field) if isinstance(row, dict) else row
            if isinstance(text, str):
                texts += 1
                yield text
                continue
            without = without or [row]
            if not texts and number == most:
                break
    finally:
        # Also where the caller has enough and asks for no more.
        if texts:
            counts.rows += number
            counts.rows_without_text += number - texts
    if number and not texts:
        raise NoTextError(
            f"{name} has no text in {counts.text_field!r}, in {number:,} rows. "
            f"{_remedy(without[0])}"
        )


def _remedy(row: Any) -> str:
    """The text field to set, judged by a row: the key of its longest text."""
    texts = {k: v for k, v in row.items() if isinstance(v, str)} if isinstance(row, dict) else {}
    if not texts:
        return "Set text_field of the source to the key that has it."
    longest = max(texts, key=lambda key: len(texts[key]))
    return (
        f"They have {', '.join(map(repr, list(row)[:8]))}: set text_field, for example "
        f"--set 'corpus.sources=[{{kind: files, path: PATH, text_field: {longest}}}]'"
    )


def hub_documents(source: HubText, counts: LeftOut) -> Iterator[str]:
    """Rows of a Hugging Face dataset, streamed, up to `source.max_bytes` of text.

    Raises:
        CorpusError: the package `datasets` is missing, the dataset cannot be read, or no row has
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
    size = 0
    name = f"{source.dataset}:{source.split}"
    with closing(row_documents(name, rows, counts, most=_HUB_ROWS)) as documents:
        for document in documents:
            yield document
            size += len(document.encode(errors="surrogatepass"))
            if source.max_bytes is not None and size >= source.max_bytes:
                return
