"""Train the tokenizer and encode the texts."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np

from llama_core.config import Frozen
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.steps.encoder import Encoder
from llama_core.corpus.steps.tasks import Task
from llama_core.corpus.steps.texts import Segment, Texts, write_part
from llama_core.corpus.tokenizer import RESERVED, Tokenizer

MODEL = "tokenizer.model"


class Trained(Frozen):
    """Whether the first version would have encoded text otherwise, or why there is no model."""

    later_rule: bool = False
    refusal: str = ""


class TrainTokenizer(Task[Trained]):
    """Train a tokenizer on the first training text of every source, in equal shares.

    Attributes:
        characters: all characters of the corpus.
        sample: characters of text to train on.
    """

    kind: Literal["train_tokenizer"] = "train_tokenizer"
    vocab_size: int
    byte_fallback: bool
    characters: str
    sample: int
    sources: tuple[tuple[Segment, ...], ...]

    @property
    def name(self) -> str:
        return "tokenizer"

    def run(self) -> Trained:
        train = partial(
            Tokenizer.train, vocab_size=self.vocab_size, byte_fallback=self.byte_fallback
        )
        later_rule = False
        try:
            tokenizer = train(self._sample())
            # Without byte pieces a character outside the sample would be lost and miscounted.
            if not self.byte_fallback and (missing := tokenizer.unknown(self.characters)):
                later_rule = True
                tokenizer = train(self._sample(), alphabet=missing)
        except CorpusError as error:
            return Trained(refusal=str(error))
        write_part(self.work / MODEL, tokenizer.model)
        # The first version encoded these as other characters, or left out text that had them.
        reserved = set(tokenizer.in_bytes + RESERVED)
        return Trained(later_rule=later_rule or not reserved.isdisjoint(self.characters))

    def _sample(self) -> Iterator[str]:
        for segments in self.sources:
            left = self.sample // len(self.sources)
            for segment in segments:
                for text in segment.read(self.work):
                    if left <= 0:
                        break
                    yield text
                    left -= len(text)
                if left <= 0:
                    break


class Encoded(Frozen):
    """Documents and bytes of some encoded text, and the tokens of each group of documents."""

    documents: int
    bytes: int
    groups: tuple[int, ...]


class Encode(Task[Encoded]):
    """Encode some groups of documents of a split.

    Attributes:
        split: the source and the split.
        group: documents that are not divided between shards.
    """

    kind: Literal["encode"] = "encode"
    split: str
    number: int
    segments: tuple[Segment, ...]
    group: int

    @property
    def name(self) -> str:
        return f"tokens-{self.split}-{self.number:06d}"

    @property
    def tokens(self) -> Path:
        """The file of its tokens."""
        return self.work / f"{self.name}.bin"

    def run(self) -> Encoded:
        encoder = _encoder((self.work / MODEL).read_bytes())
        groups: list[int] = []
        encoded: list[bytes] = []
        documents = size = 0
        for text in (text for segment in self.segments for text in segment.read(self.work)):
            if documents % self.group == 0:
                groups.append(0)
            ids = encoder.document(text)
            groups[-1] += len(ids) // encoder.token_bytes
            encoded.append(ids)
            documents += 1
            size += len(text.encode())
        write_part(self.tokens, *encoded)
        return Encoded(documents=documents, bytes=size, groups=tuple(groups))


@lru_cache(maxsize=1)
def _encoder(model: bytes) -> Encoder:
    """The encoder of a model, with the words that it remembers from task to task."""
    return Encoder(Tokenizer(model))


def encode_tasks(
    work: Path, split: str, segments: Iterable[Segment], *, group: int, size: int
) -> Iterator[Encode]:
    """Cut a split into tasks of whole groups of documents, each of at least `size` bytes.

    Only the last group of a split has fewer documents.
    """
    taken: list[Segment] = []
    documents = taken_bytes = number = 0
    for segment in segments:
        ends = [0, *Texts(work / segment.file).ends().tolist()]
        start = segment.start
        while start < segment.stop:
            stop = min(segment.stop, start + group - documents % group)
            taken.append(Segment(file=segment.file, start=start, stop=stop))
            documents += stop - start
            taken_bytes += ends[stop] - ends[start]
            start = stop
            if documents % group == 0 and taken_bytes >= size:
                yield _task(work, split, number, taken, taken_bytes, group)
                taken, taken_bytes, number = [], 0, number + 1
    if taken:
        yield _task(work, split, number, taken, taken_bytes, group)


def _task(
    work: Path, split: str, number: int, segments: Sequence[Segment], size: int, group: int
) -> Encode:
    return Encode(
        work=work, split=split, number=number, segments=tuple(segments), size=size, group=group
    )


def token_groups(task: Encode, encoded: Encoded, token_bytes: int) -> Iterator[np.ndarray]:
    """The tokens of each group, from the task's file."""
    with task.tokens.open("rb") as file:
        for count in encoded.groups:
            yield np.frombuffer(file.read(count * token_bytes), f"<u{token_bytes}")
