"""Any text in any form: a corpus that decodes to exactly its text, or a refusal in one line."""

import bz2
import gzip
import json
import lzma
import tempfile
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llama_core.corpus.cleaning import normalise, well_formed
from llama_core.corpus.config import CorpusConfig, FileText
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.left_out import LeftOut
from llama_core.corpus.preparation import prepare
from llama_core.corpus.reading import read_documents
from llama_core.corpus.tokenizer import BOS, EOS, UNKNOWN
from tests.core_tools import story

ENDINGS = (".txt", ".md", ".jsonl", ".ndjson", ".json", ".parquet", ".csv", "", ".TXT")
PACKED = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pyarrow.Codec("zstd").compress(content, asbytes=True),
}
# What SentencePiece, JSON or Unicode treats specially, beside any other text.
PARTS = st.one_of(
    st.text(max_size=40),
    st.text(st.characters(categories=["Cs", "Cc", "Cf", "Mn", "Zs", "Co", "Cn"]), max_size=8),
    st.sampled_from(
        ["\u2581", "\u2585", "<unk>", "<s>", "<0x0A>", "\ufeff", "\n \n", "\r\n\r\n", "?"]
    ),
    st.text("ab \n", max_size=200),
)
TEXTS = st.lists(PARTS, max_size=6).map("".join)
ROWS = st.one_of(
    TEXTS,
    st.none(),
    st.floats(),
    st.fixed_dictionaries({"text": st.one_of(TEXTS, st.none(), st.integers())}),
    st.dictionaries(st.sampled_from(["text", "data", "rows"]), st.lists(TEXTS, max_size=3)),
)
CONTENTS = st.one_of(
    st.binary(max_size=200),
    TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")),
    TEXTS.map(lambda text: text.encode("utf-16", "surrogatepass")),
    st.lists(ROWS, max_size=5).map(lambda rows: json.dumps(rows).encode()),
    st.lists(ROWS, max_size=5).map(lambda rows: "\n".join(map(json.dumps, rows)).encode()),
)
FILES = st.dictionaries(
    st.tuples(st.sampled_from("ab"), st.sampled_from(ENDINGS), st.sampled_from(sorted(PACKED))),
    st.tuples(CONTENTS, st.booleans()),
    min_size=1,
    max_size=4,
)


def in_seconds_and_in_minutes(seconds, minutes):
    """The same property tried often in the normal suite, and very often under `long`."""
    return pytest.mark.parametrize(
        "tries", [seconds, pytest.param(minutes, marks=[pytest.mark.long, pytest.mark.slow])]
    )


def decoded(corpus):
    """The documents of every shard, as their tokens read; each byte count is checked."""
    tokenizer, lengths, texts = corpus.tokenizer(), corpus.tokenizer().piece_bytes(), []
    for source in corpus.manifest.sources:
        for split in (source.train, source.val):
            shards = [
                np.fromfile(corpus.path / shard.file, f"<u{corpus.manifest.token_bytes}")
                for shard in split.shards
            ]
            ids = np.concatenate(shards).astype(np.int64)
            assert UNKNOWN not in ids
            assert int(lengths[ids].sum()) == split.bytes
            ends = np.flatnonzero(ids == EOS)
            assert (ids == BOS).sum() == len(ends) == split.documents
            starts = [0, *(ends[:-1] + 1)]
            texts += [
                tokenizer.decode(ids[start : end + 1].tolist())
                for start, end in zip(starts, ends, strict=True)
            ]
    return texts


def read(source):
    """The documents of a source, and the reason where it is refused."""
    try:
        return list(read_documents(source, LeftOut(source="files"))), ""
    except CorpusError as refusal:
        return [], str(refusal)


def cleaned(text, characters):
    return normalise(well_formed(text), ascii_only=characters == "ascii")


@in_seconds_and_in_minutes(25, 1_500)
@pytest.mark.parametrize("characters", ["ascii", "unicode"])
def test_a_corpus_of_any_texts_decodes_to_exactly_these(tries, characters):
    # Enough plain text for a vocabulary, whatever is drawn.
    plain = [story(seed) for seed in range(8)]

    @given(drawn=st.lists(TEXTS, max_size=4))
    @settings(max_examples=tries, suppress_health_check=list(HealthCheck))
    @example(drawn=["a\u2581 b", "\u2585" * 3, "<unk><s>", "\ud800", "\u0301"])
    def check(drawn):
        texts = plain + drawn
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "text.jsonl"
            file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
            config = CorpusConfig(
                sources=(FileText(path=str(file)),),
                vocab_size=300 if characters == "ascii" else 560,
                characters=characters,
            )
            corpus = prepare(config, Path(folder) / "home", lambda doing: None)
            kept = decoded(corpus)
        expected = {text for each in texts if (text := cleaned(each, characters))}
        (counts,) = corpus.left_out
        repeats = counts.repeats + counts.near_duplicates
        assert counts.documents == len(texts)
        assert len(kept) + repeats + counts.empty == len(texts)
        # A document may have lost a paragraph that another has, and only then differs.
        paragraphs = {part for text in expected for part in text.split("\n\n")}
        assert all(set(text.split("\n\n")) <= paragraphs for text in kept)
        if not counts.characters_repeated and not counts.near_duplicates:
            assert set(kept) == expected

    check()


@in_seconds_and_in_minutes(150, 10_000)
def test_a_folder_of_any_files_is_read_or_refused_in_one_line(tries):
    @given(files=FILES, as_folder=st.booleans())
    @settings(max_examples=tries, suppress_health_check=list(HealthCheck))
    def check(files, as_folder):
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for (stem, ending, packing), (content, intact) in files.items():
                packed = PACKED[packing](content)
                path = Path(folder) / f"{stem}{ending}{packing}"
                path.write_bytes(packed if intact else packed[: len(packed) // 2] + b"\xff")
                paths.append(path)
            documents, refusal = read(Path(folder) if as_folder else paths[0])
        assert "\n" not in refusal
        assert all(isinstance(document, str) for document in documents)

    check()
