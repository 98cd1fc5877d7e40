"""Prepare a corpus of text: the steps in order, each of them tasks on parts of the text."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import BaseModel, ValidationError

from llama_core.corpus.config import HubText
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.left_out import LeftOut, counted
from llama_core.corpus.reading import sections
from llama_core.corpus.steps.clean import Clean, Cleaned, Sign, raw_file
from llama_core.corpus.steps.encode import Trained, TrainTokenizer
from llama_core.corpus.steps.keep import Keep, Kept, split_file
from llama_core.corpus.steps.leaks import (
    DropLeaks,
    FindLeaks,
    SampleHeldOut,
    merge_held_out,
    merge_leaks,
)
from llama_core.corpus.steps.near_duplicates import NearDuplicates
from llama_core.corpus.steps.repeats import FindRepeats, save_starts
from llama_core.corpus.steps.shards import write_corpus
from llama_core.corpus.steps.sources import (
    Job,
    Source,
    documents_of,
    is_docstrings,
    size_of,
    text_field,
)
from llama_core.corpus.steps.texts import Segment, Texts, write_part
from llama_core.corpus.text_files import with_unread_files

# Text of a part: small enough that a kill costs little, large enough that files are few.
PART_BYTES = 8_000_000
# Enough to settle the merges of any vocabulary we train; more only takes longer.
TOKENIZER_BYTES = 32_000_000
# Keys of this much text are sorted at once; a bucket of it has some four million.
_BUCKET_BYTES = 1_000_000_000
_LEAST_BUCKETS = 16
# Of a stream from the Hub nobody knows the size: enough for some hundreds of gigabytes.
_STREAM_BUCKETS = 256


class _Read(BaseModel):
    """What reading a source gave: its counts, and the size of each part.

    Attributes:
        is_whole: whether all parts are cleaned, so that the source need not be read again.
    """

    counts: LeftOut
    sizes: list[int] = []
    is_whole: bool = False

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """The record of an earlier preparation; None where there is none."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None


class TextCorpus:
    """One preparation, in the folder `work`: every step's tasks are found there if it goes on."""

    def __init__(self, job: Job) -> None:
        self.job, self.config, self.work = job, job.config, job.work
        self.workers = job.workers
        self.counts = {
            source.name: LeftOut(source=source.name, text_field=text_field(source))
            for source in self.config.text_sources
        }
        self._sources = [
            Source(source, number, self.counts[source.name])
            for number, source in enumerate(self.config.text_sources)
        ]
        self._characters: set[str] = set()
        self._sizes: dict[str, int] = {}

    def write(self) -> str:
        """Fill the folder; return the digest of its manifest."""
        cleaned = self._clean()
        self._keep(cleaned)
        trained = self._drop_leaks_and_train()
        later_rule = trained.later_rule or any(c.later_rule for c in self.counts.values())
        return write_corpus(self.job, self._sources, later_rule=later_rule)

    def _refusal(self, reason: str, sources: Iterable[Source]) -> CorpusError:
        """A refusal of some sources' text: what is missing of it explains what the rest lacks."""
        for of in sources:
            if not is_docstrings(of.source):
                counts = with_unread_files(of.counts, of.source)
                for note in counts.notes(self.config.vocab_size):
                    if note.serious:
                        return CorpusError(f"{note.text} {reason.removesuffix(' Add text.')}")
        return CorpusError(reason)

    # Reading and cleaning

    def _clean(self) -> list[Cleaned]:
        """Read all sources into parts and clean these; what came of each."""
        filtering = NearDuplicates() if self.config.near_duplicates == "drop" else None
        cleaned: list[Cleaned] = []
        for of in self._sources:
            record = self.work / f"read-{of.number:03d}.json"
            read = _Read.load(record) or _Read(counts=of.counts.model_copy())
            tasks = self._clean_tasks(of, read, len(cleaned))
            if filtering is not None:
                # Near duplicates are dropped first: without repeated paragraphs they look
                # different.
                tasks = self._without_near_duplicates(of, list(tasks), filtering)
            meter = self.job.meter(f"reading {of.source.name}", size_of(of.source))
            try:
                made = list(self.workers.map(tasks, meter))
            finally:
                of.counts.add(read.counts)
            read.is_whole = True
            write_part(record, read.model_dump_json().encode())
            of.parts = range(len(cleaned), len(cleaned) + len(made))
            cleaned += made
            for part in made:
                of.counts.add(part.counts)
        return cleaned

    def _clean_tasks(self, of: Source, read: _Read, first: int) -> Iterator[Clean]:
        """Tasks of a source, each made once the text of its part was read."""
        if read.is_whole:
            for number, size in enumerate(read.sizes, start=first):
                yield self._clean_task(of, number, size)
            return
        for number, texts in enumerate(self._parts(of, read.counts), start=first):
            read.sizes.append(sum(map(len, texts)))
            task = self._clean_task(of, number, read.sizes[-1])
            # What is cleaned is not written again; reading on to the next part costs little.
            if task.done() is None:
                Texts(self.work / raw_file(number)).write(texts)
            yield task

    def _clean_task(self, of: Source, number: int, size: int) -> Clean:
        in_ascii = self.config.characters == "ascii"
        return Clean(
            work=self.work,
            size=size,
            part=number,
            source=of.source.name,
            ascii_only=in_ascii,
            folding=in_ascii and not is_docstrings(of.source),
            buckets=self._buckets,
        )

    def _parts(self, of: Source, counts: LeftOut) -> Iterator[list[str]]:
        """The documents of a source as they are, in parts of some size."""
        texts: list[str] = []
        size = 0
        for document in documents_of(self.job, of.source, counts):
            texts.append(document)
            size += len(document)
            if size >= PART_BYTES:
                yield texts
                texts, size = [], 0
        if texts:
            yield texts

    def _without_near_duplicates(
        self, of: Source, tasks: list[Clean], filtering: NearDuplicates
    ) -> Iterator[Clean]:
        meter = self.job.meter(
            f"looking for near duplicates in {of.source.name}", sum(task.size for task in tasks)
        )
        signing = [Sign(work=self.work, part=task.part, size=task.size) for task in tasks]
        for task, sign, _ in zip(tasks, signing, self.workers.map(signing, meter), strict=True):
            signatures = np.load(self.work / f"{sign.name}.npy")
            skipped = (i for i, each in enumerate(signatures) if not filtering.is_new(each))
            yield task.model_copy(update={"skipped": tuple(skipped)})

    @cached_property
    def _buckets(self) -> int:
        """The same for every task, whatever is written into a source's folder meanwhile."""
        known = sum(map(size_of, self.config.text_sources))
        streams = any(isinstance(source, HubText) for source in self.config.text_sources)
        return max(_STREAM_BUCKETS if streams else _LEAST_BUCKETS, known // _BUCKET_BYTES)

    # Repeats, and the split

    def _keep(self, cleaned: list[Cleaned]) -> None:
        """Drop repeats and split what is left."""
        if cleaned:
            save_starts(self.work, np.array([part.starts for part in cleaned]))
            finding = [FindRepeats(work=self.work, bucket=b) for b in range(self._buckets)]
            list(self.workers.map(finding, self.job.meter("looking for repeats")))
        for of in self._sources:
            parts = [(number, cleaned[number]) for number in of.parts]
            total = sum(part.bytes for _, part in parts)
            meter = self.job.meter(f"dropping repeats in {of.source.name}", total)
            tasks = [self._keep_task(of, number, part.bytes) for number, part in parts]
            self._lay_out(of, list(self.workers.map(tasks, meter)))

    def _keep_task(self, of: Source, number: int, size: int) -> Keep:
        return Keep(
            work=self.work,
            size=size,
            part=number,
            source=of.source.name,
            # The first version dropped documents of short paragraphs; the default corpus still
            # does, so that it stays the same.
            short_is_new=not is_docstrings(of.source),
            val_fraction=self.config.val_fraction,
            seed=self.config.seed,
        )

    def _lay_out(self, of: Source, kept: list[Kept]) -> None:
        """Note where a source's training and validation documents lie, in their order."""
        for number, part in zip(of.parts, kept, strict=True):
            of.counts.add(part.counts)
            self._characters.update(part.characters)
            of.train_bytes += part.train_bytes
            self._sizes[split_file("train", number)] = part.train_bytes
            for split, segments, count in (
                ("train", of.train, part.train),
                ("val", of.val, part.val),
            ):
                if count:
                    file = split_file(split, number)
                    segments.append(Segment(file=file, start=0, stop=count))
        if of.train:
            self._place_first(of)
        if not of.train:
            counts = of.counts
            left = counts.documents - counts.repeats - counts.empty - counts.near_duplicates
            cleaned = "" if left == counts.documents else f", {left} of them left after cleaning"
            documents = counted(counts.documents, "document", "documents")
            raise self._refusal(
                f"source {of.source.name!r} has {documents} ({counts.bytes:,} bytes){cleaned}: "
                "too little to split into training and validation. Add text.",
                [of],
            )

    def _place_first(self, of: Source) -> None:
        """Put the first training document last; hold it out where nothing else is."""
        segment = of.train[0]
        first = next(segment.read(self.work))
        rest = segment.model_copy(update={"start": 1})
        of.train[:1] = [rest] if rest.stop > 1 else []
        if of.val:
            of.train.append(self._write(of, "last", [first]))
            return
        # No document of a small source may hash into validation: hold out the first, or the
        # first part of the only one.
        parts = [first]
        if not of.train:
            parts = [part.strip() for part in sections([first], of.counts)]
        of.val.append(self._write(of, "first", parts[:1]))
        if parts[1:]:
            of.train.append(self._write(of, "last", parts[1:]))

    def _write(self, of: Source, name: str, texts: list[str]) -> Segment:
        file = f"{name}-{of.number:03d}.texts"
        Texts(self.work / file).write(texts)
        return Segment(file=file, start=0, stop=len(texts))

    # Leaks, and the tokenizer

    def _drop_leaks_and_train(self) -> Trained:
        """Drop validation text that occurs in training; train the tokenizer meanwhile."""
        held_out = [(of, segment) for of in self._sources for segment in of.val]
        sampling = [
            SampleHeldOut(work=self.work, number=number, segment=segment)
            for number, (_, segment) in enumerate(held_out)
        ]
        list(self.workers.map(sampling, self.job.meter("sampling validation text")))
        of_source = {
            of.number: [i for i, (other, _) in enumerate(held_out) if other is of]
            for of in self._sources
        }
        for source, numbers in of_source.items():
            merge_held_out(self.work, source, numbers)
        training = [segment for of in self._sources for segment in of.train]
        finding = [
            FindLeaks(
                work=self.work,
                size=self._sizes.get(segment.file, 0),
                number=number,
                segment=segment,
                sources=len(self._sources),
            )
            for number, segment in enumerate(training)
        ]
        doing = (
            f"training the tokenizer, {self.config.vocab_size} pieces, and looking for validation "
            "text in training"
        )
        meter = self.job.meter(doing, sum(self._sizes.values()))
        training_it = self.workers.start(self._tokenizer_task(), meter)
        list(self.workers.map(finding, meter))
        for source in of_source:
            merge_leaks(self.work, source, range(len(training)))
        dropping = [
            DropLeaks(work=self.work, number=number, segment=segment, source=of.number)
            for number, (of, segment) in enumerate(held_out)
        ]
        meter = self.job.meter("dropping validation text that is in training")
        dropped = list(self.workers.map(dropping, meter))
        for of in self._sources:
            mine = [(dropping[i], dropped[i]) for i in of_source[of.number]]
            of.counts.near_duplicates += sum(done.leaked for _, done in mine)
            of.val = [
                Segment(file=f"{task.name}.texts", start=0, stop=done.documents)
                for task, done in mine
                if done.documents
            ]
            if not of.val:
                raise self._refusal(
                    f"every validation document of source {of.source.name!r} occurs in training "
                    "too: the text repeats itself. Add other text.",
                    [of],
                )
        trained = training_it.result()
        if trained.refusal:
            raise self._refusal(trained.refusal, self._sources)
        return trained

    def _tokenizer_task(self) -> TrainTokenizer:
        return TrainTokenizer(
            work=self.work,
            vocab_size=self.config.vocab_size,
            byte_fallback=self.config.characters == "unicode",
            characters="".join(sorted(self._characters)),
            sample=TOKENIZER_BYTES,
            sources=tuple(tuple(of.train) for of in self._sources),
        )
