"""Token ids in every format in which they are kept."""

import struct

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from llama_core.corpus.cleaning import in_validation
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.preparation import prepare
from llama_core.corpus.prepared import find_corpus
from tests.token_corpora import (
    DOCUMENTS,
    END,
    STREAM,
    byte_level,
    config,
    nanogpt,
    prepared,
    split_of,
)


def nanogpt_wide(folder):
    STREAM.astype("<u4").tofile(folder / "train.bin")


def llmc(folder, magic=20240520, dtype="<u2", tokens=None):
    header = np.zeros(256, "<i4")
    header[:3] = magic, {20240520: 1, 20240801: 7}[magic], len(STREAM) if tokens is None else tokens
    (folder / "fineweb_train_000001.bin").write_bytes(
        header.tobytes() + STREAM.astype(dtype).tobytes()
    )


def llmc_wide(folder):
    llmc(folder, 20240801, "<u4")


def megatron(folder, code=8, dtype="<u2", version=1, mark=b"MMIDIDX\0\0", drop=0):
    """Two sequences a document, as where sentences are kept apart."""
    halves = [half for document in DOCUMENTS for half in np.array_split(document, 2)]
    lengths = np.array([len(half) for half in halves], "<i4")
    pointers = (np.cumsum(lengths) - lengths) * np.dtype(dtype).itemsize
    STREAM[: len(STREAM) - drop].astype(dtype).tofile(folder / "text_document.bin")
    (folder / "text_document.idx").write_bytes(
        mark
        + struct.pack("<QBQQ", version, code, len(halves), len(DOCUMENTS) + 1)
        + lengths.tobytes()
        + pointers.astype("<i8").tobytes()
        + np.arange(0, len(halves) + 1, 2, dtype="<i8").tobytes()
    )


def megatron_wide(folder):
    megatron(folder, 4, "<i4")


def npy(folder):
    np.save(folder / "tokens.npy", STREAM.astype(np.int32))


def parquet(folder):
    pl.DataFrame({"input_ids": [d.tolist() for d in DOCUMENTS], "n": 1}).write_parquet(
        folder / "train-00000-of-00001.parquet", row_group_size=64
    )


def arrow(folder, ids=None, kind=None):
    """As `datasets` saves to disk: a stream of record batches, beside files of other kinds."""
    rows = pa.table({
        "input_ids": pa.array(ids or [d.tolist() for d in DOCUMENTS], kind or pa.list_(pa.int32())),
        "text": ["x"] * len(ids or DOCUMENTS),
    })  # fmt: skip
    file = folder / "data-00000-of-00001.arrow"
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=64)
    (folder / "state.json").write_text("{}")
    (folder / "cache-0123.arrow").write_text("not read")


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "tokens"
    made.mkdir()
    return made


@pytest.fixture(scope="module")
def as_array(tmp_path_factory):
    """The digest of the tokens as a `.npy`."""
    made = tmp_path_factory.mktemp("array") / "tokens"
    made.mkdir()
    npy(made)
    return prepared(made).digest


@pytest.mark.parametrize(
    ("write", "settings"),
    [
        (nanogpt, {}),
        (nanogpt_wide, {"dtype": "uint32"}),
        (llmc, {}),
        (llmc_wide, {}),
        (megatron, {"end": None}),
        (megatron_wide, {"end": None}),
        (parquet, {"end": None}),
        (arrow, {"end": None}),
    ],
)
def test_every_format_gives_the_same_corpus(folder, as_array, write, settings):
    write(folder)
    corpus = prepared(folder, **settings)
    train, val = split_of(corpus)
    held_out = [d for d in DOCUMENTS if in_validation(d.astype("<u4").tobytes(), 0.2, 0)]
    first, *others = [d for d in DOCUMENTS if not any(d is each for each in held_out)]
    assert (val == np.concatenate(held_out)).all()
    # As with text, the first document comes last.
    assert (train == np.concatenate([*others, first])).all()
    (entry,) = corpus.manifest.sources
    assert entry.documents_read == entry.train.documents + entry.val.documents == 200
    assert find_corpus(folder.parent / "home", corpus.digest) == corpus
    corpus.check()
    assert corpus.digest == as_array


def test_a_dataset_that_was_saved_to_disk_is_read(folder, tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"input_ids": [d.tolist() for d in DOCUMENTS]})
    rows.save_to_disk(tmp_path / "saved", num_shards=2)
    saved = prepare(config(tmp_path / "saved"), tmp_path / "home", lambda doing: None)
    parquet(folder)
    assert prepared(folder).digest == saved.digest


def test_the_digest_is_of_the_tokens_not_of_their_place(folder, tmp_path):
    nanogpt(folder)
    first = prepared(folder)
    folder.rename(tmp_path / "moved")
    again = prepare(config(tmp_path / "moved"), tmp_path / "other", lambda doing: None)
    assert again.digest == first.digest


def test_a_stream_in_blocks_is_split_as_in_one(folder, monkeypatch):
    nanogpt(folder)
    whole = prepared(folder)
    monkeypatch.setattr("llama_core.corpus.token_files._BLOCK", 37)
    monkeypatch.setattr("llama_core.corpus.steps.token_corpus._PENDING_TOKENS", 50)
    blocks = prepare(config(folder), folder.parent / "blocks", lambda doing: None)
    assert blocks.digest == whole.digest


def test_a_stream_without_ends_is_cut_so_that_a_part_is_held_out(folder, monkeypatch):
    monkeypatch.setattr("llama_core.corpus.token_files.LONGEST_DOCUMENT", 100)
    nanogpt(folder)
    corpus = prepared(folder, end=None)
    (entry,) = corpus.manifest.sources
    assert entry.documents_read == -(-len(STREAM) // 100)
    assert sorted(np.concatenate(split_of(corpus))) == sorted(STREAM)


def write_bytes(content, name="train.bin"):
    return lambda folder: (folder / name).write_bytes(content)


def even(folder):
    STREAM[: len(STREAM) // 2 * 2].astype("<u2").tofile(folder / "train.bin")


def mismatch(folder):
    megatron(folder, drop=3)


def no_index(folder):
    megatron(folder, mark=b"MMAPIDX\0\0")


def future_index(folder):
    megatron(folder, version=2)


def cut_index(folder):
    megatron(folder)
    index = folder / "text_document.idx"
    index.write_bytes(index.read_bytes()[:200])


def llmc_cut(folder):
    llmc(folder, tokens=len(STREAM) + 5)


def floats(folder):
    np.save(folder / "tokens.npy", STREAM.astype(np.float32))


def strings(folder):
    arrow(folder, [["a"], ["b"]], pa.list_(pa.string()))


def hole(folder):
    arrow(folder, [[1, 2], [3, None]])


@pytest.mark.parametrize(
    ("write", "settings", "message"),
    [
        (write_bytes(b""), {}, "is empty"),
        (write_bytes(b"\1\2\3"), {}, r"3 bytes, no whole number of uint16 tokens: it was cut"),
        (nanogpt_wide, {}, "it holds uint32, not uint16. Set dtype"),
        (even, {"dtype": "uint32"}, "holds uint16, not uint32. Leave out dtype"),
        (llmc_cut, {}, r"cut short.*says [\d,]+ tokens, and [\d,]+ follow"),
        (mismatch, {}, r"text_document\.idx does not match text_document\.bin"),
        (no_index, {}, "does not begin with MMIDIDX"),
        (future_index, {}, "version 2"),
        (cut_index, {}, "was cut short"),
        (floats, {}, "holds float32"),
        (write_bytes(b"not numpy", "a.npy"), {}, "no array that can be read"),
        (write_bytes(b"not parquet", "a.parquet"), {}, "cannot be read"),
        (write_bytes(b"not arrow", "a.arrow"), {}, "cannot be read"),
        (parquet, {"column": "ids"}, r"no column 'ids'. Set column .* input_ids, n"),
        (arrow, {"column": "text"}, "holds string, not lists of token ids"),
        (strings, {}, "not lists of token ids"),
        (hole, {}, "ids that are missing"),
        (write_bytes(b"x", "a.txt"), {}, "has no token file"),
        (write_bytes(b"\3\0" * 40), {}, "too little to split"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(folder, write, settings, message):
    write(folder)
    with pytest.raises(CorpusError, match=message) as refusal:
        prepared(folder, **settings)
    assert "\n" not in str(refusal.value)
    assert list((folder.parent / "home" / "corpora").glob(".preparing-*")) == []


def test_an_id_beyond_the_vocabulary_is_named_with_its_place(folder):
    ids = STREAM.copy()
    ids[777] = 50_256
    ids.astype("<u2").tofile(folder / "train.bin")
    message = r"train\.bin has the id 50,256 at token 777, .*vocab_size=300 has ids 0 to 299"
    with pytest.raises(CorpusError, match=message):
        prepared(folder)


def test_files_beside_the_tokens_that_are_not_read_are_named(folder, tmp_path):
    tokenizer = byte_level(folder / "own.model.json")
    nanogpt(folder)
    megatron(folder)
    for name in ("shard.bin.gz", "orphan.idx", ".hidden.gz", "README.md", "dataset_info.json"):
        (folder / name).write_bytes(bytes(5_000))
    (folder / "deep").mkdir()
    (folder / "deep" / "more.npz").write_bytes(b"x")
    corpus = prepared(folder, tokenizer=tokenizer)
    (note,) = corpus.notes
    assert "3 files are not read (deep/more.npz, orphan.idx, shard.bin.gz)" in note.text
    assert "Give tokens as .bin, .npy, .arrow or .parquet, not packed." in note.text
    assert note.serious
    # The corpus is the same without them, and what is there now is what is named.
    (folder / "shard.bin.gz").unlink()
    again = prepared(folder, tokenizer=tokenizer)
    assert again.digest == corpus.digest
    assert "2 files are not read" in again.notes[0].text


def test_a_folder_named_like_a_file_is_searched_for_its_files(folder):
    (folder / "part.parquet").mkdir()
    parquet(folder / "part.parquet")
    (entry,) = prepared(folder).manifest.sources
    assert entry.documents_read == 200


def test_wide_ids_of_a_large_vocabulary_are_not_read_as_narrow_ones(folder):
    (STREAM * 400).astype("<u4").tofile(folder / "train.bin")
    with pytest.raises(CorpusError, match=r"at most 1: it holds uint32, not uint16\. Set dtype"):
        prepared(folder, vocab_size=128_256)
    corpus = prepared(folder, vocab_size=128_256, dtype="uint32", end=400 * END)
    assert sorted(np.concatenate(split_of(corpus))) == sorted(STREAM * 400)


def test_an_end_that_no_document_can_have_is_refused(folder):
    nanogpt(folder)
    with pytest.raises(CorpusError, match=r"end=50,256 is no id of corpus\.vocab_size=300"):
        prepared(folder, end=50_256)


def test_progress_of_a_large_file_is_shown_within_it(folder, monkeypatch):
    nanogpt(folder)
    monkeypatch.setattr("llama_core.corpus.steps.progress._EVERY_S", 0.0)
    monkeypatch.setattr("llama_core.corpus.steps.progress._LEAST_S", 0.0)
    messages = []
    prepare(config(folder), folder.parent / "home", messages.append)
    shares = [message.split(": ")[1].split("%")[0] for message in messages if "%" in message]
    assert len(set(shares)) > 50
    assert shares[-1] == "100"
