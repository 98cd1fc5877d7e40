"""The tokenizer that ids come with: their bytes, and the end of a document."""

import json
import re
import sys

import numpy as np
import pytest

from llama_core.corpus.cleaning import in_validation
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.tokenizer import BOS, EOS, Tokenizer
from llama_core.records import EvalRecord
from llama_core.train import train
from tests.core_tools import recipe, story, tiny
from tests.token_corpora import DOCUMENTS, VOCAB, byte_level, nanogpt, prepared, split_of


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "tokens"
    made.mkdir()
    return made


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
