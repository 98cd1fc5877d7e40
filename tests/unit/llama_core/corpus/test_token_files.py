import json
import re
import struct
import sys

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from llama_core.corpus.config import CorpusConfig, TokenFiles
from llama_core.corpus.cleaning import in_validation
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.preparation import prepare
from llama_core.corpus.prepared import find_corpus
from llama_core.corpus.tokenizer import BOS, EOS, Tokenizer
from llama_core.records import EvalRecord
from llama_core.train import train
from tests.core_tools import recipe, story, tiny

END, VOCAB = 2, 300
DRAW = np.random.default_rng(0)
DOCUMENTS = [
    np.append(DRAW.integers(3, VOCAB, DRAW.integers(5, 90)), END).astype(np.int64)
    for _ in range(200)
]
STREAM = np.concatenate(DOCUMENTS)


def nanogpt(folder):
    STREAM.astype("<u2").tofile(folder / "train.bin")


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


def config(folder, vocab_size=VOCAB, **source):
    return CorpusConfig(
        sources=(TokenFiles(path=str(folder), **({"end": END} | source)),),
        vocab_size=vocab_size,
        val_fraction=0.2,
    )


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "tokens"
    made.mkdir()
    return made


def prepared(folder, **settings):
    return prepare(config(folder, **settings), folder.parent / "home", lambda doing: None)


def split_of(corpus):
    width = f"<u{corpus.manifest.token_bytes}"
    (entry,) = corpus.manifest.sources
    return [
        np.concatenate([np.fromfile(corpus.path / shard.file, width) for shard in part.shards])
        for part in (entry.train, entry.val)
    ]


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


def byte_level(path, size=VOCAB, decoder="ByteLevel", end="<|endoftext|>"):
    """A tokenizer.json: ids 3 to 258 are bytes, the others two of them; 0 to 2 are special."""
    letters = [chr(0x100 + number) for number in range(256)]
    vocabulary = {letter: number + 3 for number, letter in enumerate(letters)}
    vocabulary |= {f"{letters[n]}{letters[n + 1]}": 259 + n for n in range(size - 259)}
    special = {"<unk>": 0, "<s>": 1, end: 2}
    path.write_text(
        json.dumps({
            "version": "1.0",
            "added_tokens": [
                {"id": number, "content": content, "special": True, "single_word": False,
                 "lstrip": False, "rstrip": False, "normalized": False}
                for content, number in special.items()
            ],
            "decoder": {"type": decoder},
            "model": {"type": "BPE", "vocab": vocabulary | special, "merges": []},
        })
    )  # fmt: skip
    return str(path)


def test_the_pieces_of_a_tokenizer_json_give_the_bytes_and_the_end(folder, tmp_path):
    nanogpt(folder)
    tokenizer = byte_level(tmp_path / "tokenizer.json")
    corpus = prepared(folder, tokenizer=tokenizer, end=None)
    _, val = split_of(corpus)
    expected = ((val >= 3) + (val >= 259).astype(int)).sum()
    assert corpus.manifest.sources[0].val.bytes == expected
    assert corpus.val_bytes_per_token == pytest.approx(expected / len(val))
    # The tokenizer's end token separates documents as if it had been named.
    assert corpus.manifest.sources[0].documents_read == 200
    assert corpus.notes == []
    corpus.check()
    with pytest.raises(CorpusError, match=r"with a tokenizer\.json: text can only"):
        corpus.tokenizer()


def test_a_tokenizer_smaller_than_the_ids_is_refused(folder, tmp_path):
    nanogpt(folder)
    tokenizer = byte_level(tmp_path / "tokenizer.json", size=280)
    with pytest.raises(CorpusError, match=r"has the id 2\d\d, and tokenizer .* only 280 pieces"):
        prepared(folder, tokenizer=tokenizer)


def test_a_tokenizer_larger_than_the_vocabulary_says_what_to_set(folder, tmp_path):
    nanogpt(folder)
    tokenizer = byte_level(tmp_path / "tokenizer.json", size=400)
    with pytest.raises(CorpusError, match=r"--set corpus\.vocab_size=400"):
        prepared(folder, tokenizer=tokenizer)


@pytest.mark.parametrize("content", [b"{}", b"not json", b'{"model": 3, "added_tokens": []}'])
def test_a_tokenizer_json_of_another_kind_is_refused(folder, tmp_path, content):
    nanogpt(folder)
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(CorpusError, match=r"is no tokenizer\.json"):
        prepared(folder, tokenizer=str(tmp_path / "tokenizer.json"))


@pytest.mark.parametrize(
    ("name", "message"), [("absent.model", "cannot be read"), ("a.model", "no SentencePiece model")]
)
def test_a_tokenizer_that_is_no_model_is_refused(folder, tmp_path, name, message):
    nanogpt(folder)
    (tmp_path / "a.model").write_bytes(b"not a model")
    with pytest.raises(CorpusError, match=message):
        prepared(folder, tokenizer=str(tmp_path / name))


def test_tokens_of_a_sentencepiece_model_decode_to_their_text_with_its_bytes(folder, tmp_path):
    texts = [story(seed, 8) for seed in range(60)]
    made = Tokenizer.train(iter(texts), vocab_size=VOCAB, byte_fallback=False)
    (tmp_path / "own.model").write_bytes(made.model)
    stream = [i for text in texts for i in [BOS, *made.encode(text), EOS]]
    np.array(stream, "<u2").tofile(folder / "train.bin")
    corpus = prepared(folder, tokenizer=str(tmp_path / "own.model"), end=None)
    train_ids, val_ids = split_of(corpus)
    decoded = corpus.tokenizer().decode(val_ids.tolist())
    (entry,) = corpus.manifest.sources
    assert entry.documents_read == 60
    assert entry.val.bytes == len(decoded.encode()) > 0
    assert entry.train.bytes + entry.val.bytes == sum(map(len, texts))
    assert len(train_ids) == entry.train.tokens


def test_bytes_are_measured_on_validation_text_where_pieces_do_not_tell(folder, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    words = ["[UNK]", *(f"w{number}" for number in range(VOCAB - 1))]
    own = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, "[UNK]")
    )
    own.save(str(tmp_path / "tokenizer.json"))
    nanogpt(folder)
    corpus = prepared(folder, tokenizer=str(tmp_path / "tokenizer.json"))
    held_out = [d for d in DOCUMENTS if in_validation(d.astype("<u4").tobytes(), 0.2, 0)]
    # Words are joined by spaces.
    expected = sum(len(" ".join(words[i] for i in document)) for document in held_out)
    assert corpus.manifest.sources[0].val.bytes == expected
    (_, record) = trained(corpus)
    assert record.val_bpb == pytest.approx(
        record.val_loss / np.log(2) / (expected / corpus.val_tokens)
    )


def trained(corpus):
    model, cfg = tiny(vocab_size=VOCAB), recipe(1)
    *_, step, record = (r for r in train(model, cfg, corpus.open(cfg)) if hasattr(r, "at"))
    assert isinstance(record, EvalRecord)
    return step, record


def test_without_a_tokenizer_bits_per_byte_are_absent_and_it_is_said(folder):
    nanogpt(folder)
    corpus = prepared(folder)
    assert corpus.val_bytes_per_token is None
    (note,) = corpus.notes
    assert re.search(r"no tokenizer is given, so there are no bits per byte", note.text)
    _, record = trained(corpus)
    assert record.val_loss > 0
    assert record.val_bpb is None
    with pytest.raises(CorpusError, match="without a tokenizer: text can only"):
        corpus.tokenizer()


def test_decoding_without_the_package_says_what_to_install(folder, tmp_path, monkeypatch):
    tokenizer = byte_level(tmp_path / "tokenizer.json", decoder="WordPiece")
    nanogpt(folder)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(CorpusError, match="pip install tokenizers"):
        prepared(folder, tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": ({"kind": "tokens", "path": "a"}, {"kind": "files", "path": "b"})}, "Use one"),
        (
            {"sources": ({"kind": "tokens", "path": "a"},
                         {"kind": "tokens", "path": "b", "name": "b", "tokenizer": "c"})},
            "different tokenizers",
        ),
        (
            {"sources": ({"kind": "tokens", "path": "a"},), "near_duplicates": "drop"},
            "compares texts",
        ),
    ],
)  # fmt: skip
def test_a_corpus_that_mixes_text_and_tokens_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        CorpusConfig.model_validate(changes)


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


def test_a_tokenizer_that_decodes_is_read_once(folder, tmp_path, monkeypatch):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = byte_level(tmp_path / "tokenizer.json", decoder="WordPiece")
    nanogpt(folder)
    read = []

    class Decoder:
        decode = staticmethod(lambda ids: "x")

    monkeypatch.setattr(
        tokenizers.Tokenizer, "from_file", lambda path: read.append(path) or Decoder(), raising=True
    )
    prepared(folder, tokenizer=tokenizer)
    assert read == [tokenizer]


def test_a_tokenizer_that_the_package_cannot_read_is_refused_in_one_line(folder, tmp_path):
    pytest.importorskip("tokenizers")
    # Its pieces are there, and its model is of no kind that the package has.
    tokenizer = byte_level(tmp_path / "tokenizer.json", decoder="WordPiece")
    stored = json.loads((tmp_path / "tokenizer.json").read_text())
    stored["model"]["type"] = "Unknown"
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored))
    nanogpt(folder)
    with pytest.raises(CorpusError, match=r"tokenizer .*tokenizer\.json cannot be read") as refusal:
        prepared(folder, tokenizer=tokenizer)
    assert "\n" not in str(refusal.value)


def test_progress_of_a_large_file_is_shown_within_it(folder, monkeypatch):
    nanogpt(folder)
    monkeypatch.setattr("llama_core.corpus.steps.progress._EVERY_S", 0.0)
    monkeypatch.setattr("llama_core.corpus.steps.progress._LEAST_S", 0.0)
    messages = []
    prepare(config(folder), folder.parent / "home", messages.append)
    shares = [message.split(": ")[1].split("%")[0] for message in messages if "%" in message]
    assert len(set(shares)) > 50
    assert shares[-1] == "100"
