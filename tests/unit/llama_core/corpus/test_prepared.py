import json
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from llama_core.corpus.cleaning import in_validation, normalise
from llama_core.corpus.config import CorpusConfig, FileText
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.preparation import prepare
from llama_core.corpus.prepared import find_corpus
from llama_core.corpus.steps.encoder import Encoder
from llama_core.corpus.tokenizer import BOS, EOS, Tokenizer
from llama_core.mixture import Mixture
from tests import core_tools
from tests.core_tools import recipe
from tests.disk import DiskOrder

# Short: most tests here prepare sixty of them, once or more.
story = partial(core_tools.story, sentences=20)


@pytest.fixture
def books(tmp_path):
    folder = tmp_path / "books"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02d}.txt").write_text(story(number))
    return folder


def config(folder, **changes):
    settings = {"sources": (FileText(path=str(folder)),), "vocab_size": 300, "val_fraction": 0.2}
    return CorpusConfig(**(settings | changes))


def test_a_tokenizer_reads_text_as_its_corpus_was_written(books, tmp_path):
    folding = prepare(config(books), tmp_path / "ascii").tokenizer()
    assert folding.encode("lóss – falls") == folding.encode("loss - falls")
    assert folding.as_read("λoss\u0301 数") == "?oss ?"
    # An accent without a letter is encoded, too.
    assert folding.as_read("\u0301") == "?"
    settings = config(books, characters="unicode", vocab_size=512)
    keeping = prepare(settings, tmp_path / "unicode").tokenizer()
    assert keeping.decode(keeping.encode("lóss – 数")) == "lóss – 数"


def test_a_corpus_that_the_first_version_would_have_made_says_so(tmp_path, books):
    assert prepare(config(books), tmp_path).manifest.version == 1
    (books / "verse.txt").write_text("\n\n".join(f"Short and new, line {n}." for n in range(9)))
    assert prepare(config(books), tmp_path).manifest.version == 2


def test_what_was_left_out_is_told_again_when_the_corpus_is_found(tmp_path, books):
    (books / "00.txt").write_text(story(0) + " αβγδ" * 60)
    (books / "scan.pdf").write_text("%PDF")
    first = prepare(config(books), tmp_path)
    again = prepare(config(books), tmp_path)
    assert [note.text for note in first.notes] == [note.text for note in again.notes]
    assert ["letters" in note.text for note in again.notes] == [True, False]
    assert "scan.pdf" in again.notes[1].text
    assert first.notes[0].serious is False


def test_a_corpus_of_an_earlier_version_keeps_its_digest_and_says_what_is_unknown(tmp_path, books):
    before = prepare(config(books), tmp_path)
    (counts,) = (tmp_path / "corpora" / "left_out").iterdir()
    counts.unlink()
    found = prepare(config(books), tmp_path, pytest.fail)
    assert found.digest == before.digest
    (note,) = found.notes
    assert "earlier version" in note.text
    assert not note.serious


def test_a_single_document_is_cut_so_that_a_part_can_be_held_out(tmp_path):
    book = "\n\n".join(story(seed, sentences=30) for seed in range(40))
    (tmp_path / "book.jsonl").write_text(json.dumps({"text": book}))
    (entry,) = prepare(config(tmp_path / "book.jsonl"), tmp_path).manifest.sources
    assert entry.documents_read == 1
    assert entry.train.documents >= 1
    assert entry.val.documents == 1


def test_of_near_duplicates_the_first_is_kept_if_configured(tmp_path, books):
    for number in range(0, 60, 2):
        edition = story(number).replace("Seven lamps", "Eight lamps", 1) + "\n\nSecond edition."
        (books / f"{number:02d}-again.txt").write_text(edition)
    kept = prepare(config(books), tmp_path)
    dropped = prepare(config(books, near_duplicates="drop"), tmp_path)
    (entry,) = dropped.manifest.sources
    assert entry.documents_read == 90
    assert entry.near_duplicates_dropped == 30
    assert entry.train.documents + entry.val.documents == 60
    assert dropped.digest != kept.digest
    assert dropped.digest == prepare(config(books, near_duplicates="drop"), tmp_path / "x").digest


def test_similar_documents_that_differ_enough_are_all_kept(tmp_path, books):
    kept, dropped = (prepare(config(books, near_duplicates=n), tmp_path) for n in ("keep", "drop"))
    assert dropped.digest == kept.digest


def test_dropping_near_duplicates_without_datasketch_says_what_to_install(monkeypatch, books):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(CorpusError, match="pip install datasketch"):
        prepare(config(books, near_duplicates="drop"), books.parent)


def test_a_corpus_is_prepared_only_once(tmp_path, books):
    progress = []
    first = prepare(config(books), tmp_path, progress.append)
    assert any("training the tokenizer" in message for message in progress)
    again = prepare(config(books), tmp_path, pytest.fail)
    assert again == first == find_corpus(tmp_path, first.digest)


def test_the_digest_is_of_the_content_not_of_its_place(tmp_path, books):
    first = prepare(config(books), tmp_path / "one")
    books.rename(tmp_path / "moved")
    second = prepare(config(tmp_path / "moved"), tmp_path / "two")
    assert first.digest == second.digest
    (tmp_path / "moved" / "00.txt").write_text(story(999))
    assert prepare(config(tmp_path / "moved"), tmp_path / "two").digest != first.digest


def test_no_validation_document_occurs_in_training(tmp_path, books):
    (books / "copy.txt").write_text(story(7).replace("model", "modell", 2))
    corpus = prepare(config(books), tmp_path)
    made = corpus.tokenizer()
    split = {}
    for entry in corpus.manifest.sources:
        for name, part in (("train", entry.train), ("val", entry.val)):
            ids = np.fromfile(corpus.path / part.shards[0].file, dtype="<u2")
            split[name] = made.decode(ids.tolist()).split("\n\n")
    long = {p for p in split["val"] if len(p) >= 80}
    assert long
    assert not long & set(split["train"])
    assert corpus.train_tokens > 2 * corpus.val_tokens > 0


def test_bytes_of_the_validation_tokens_are_those_of_the_text(tmp_path, books):
    corpus = prepare(config(books), tmp_path)
    (entry,) = corpus.manifest.sources
    ids = np.fromfile(corpus.path / entry.val.shards[0].file, dtype="<u2")
    lengths = np.fromfile(corpus.path / "piece_bytes.bin", dtype="<u4")
    assert int(lengths[ids].sum()) == entry.val.bytes
    assert corpus.val_bytes_per_token == entry.val.bytes / corpus.val_tokens


@pytest.mark.parametrize("damage", ["truncate", "edit", "remove"])
def test_a_damaged_shard_is_refused_by_name(tmp_path, books, damage):
    corpus = prepare(config(books), tmp_path)
    shard = corpus.path / "files-train-00000.bin"
    content = bytearray(shard.read_bytes())
    if damage == "truncate":
        shard.write_bytes(content[:-2])
    elif damage == "edit":
        content[10] ^= 1
        shard.write_bytes(content)
    else:
        shard.unlink()
    with pytest.raises(CorpusError, match=r"files-train-00000\.bin"):
        corpus.open(recipe(4))


def test_an_edited_manifest_is_refused(tmp_path, books):
    corpus = prepare(config(books), tmp_path)
    manifest = corpus.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(CorpusError, match="was changed"):
        find_corpus(tmp_path, corpus.digest)


def test_a_failed_preparation_leaves_nothing_behind(tmp_path, books):
    with pytest.raises(CorpusError, match="vocab_size"):
        prepare(config(books, vocab_size=20_000), tmp_path)
    assert list((tmp_path / "corpora").iterdir()) == []


@pytest.mark.parametrize("content", ["", "one short line"])
def test_a_corpus_with_nothing_to_split_is_refused(tmp_path, content):
    (tmp_path / "only.txt").write_text(content)
    with pytest.raises(CorpusError, match="too little to split"):
        prepare(config(tmp_path / "only.txt"), tmp_path / "home")


def test_a_refusal_begins_with_what_its_own_source_lacks_and_no_others(tmp_path, books):
    (books / "most.pdf").write_bytes(b"%PDF" * 100_000)
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "one.txt").write_text("one short line")
    sources = (FileText(path=str(books)), FileText(path=str(tmp_path / "only"), name="only"))
    with pytest.raises(CorpusError, match=r"^source 'only' has 1 document .* Add text\.$"):
        prepare(config(books, sources=sources), tmp_path / "home")
    (tmp_path / "only" / "most.pdf").write_bytes(b"%PDF" * 100)
    with pytest.raises(CorpusError, match=r"^source 'only': 1 file is not read .* validation\.$"):
        prepare(config(books, sources=sources), tmp_path / "home")


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="does not exist"):
        prepare(config(tmp_path / "nowhere"), tmp_path)


def test_sources_of_a_mixture_keep_their_names_and_weights(tmp_path, books):
    other = tmp_path / "other"
    other.mkdir()
    for number in range(30):
        (other / f"{number}.txt").write_text(story(1_000 + number))
    sources = (
        FileText(path=str(books), name="books", weight=3),
        FileText(path=str(other), name="letters"),
    )
    corpus = prepare(config(books, sources=sources), tmp_path)
    opened = corpus.open(recipe(4))
    assert [(s.name, s.weight) for s in opened.sources] == [("books", 3.0), ("letters", 1.0)]
    assert set(opened.epochs(100)) == {"books", "letters"}
    # A checkpoint is resumed on this data alone.
    assert opened.digest == corpus.digest
    mixture = Mixture(shares={"books": 0.25, "letters": 0.75}, unique_tokens={"books": 64})
    mixed = corpus.open(recipe(4), mixture).sources
    assert [(s.weight, s.unique_tokens) for s in mixed] == [(0.25, 64), (0.75, None)]
    with pytest.raises(CorpusError, match="has the sources books, letters: name each"):
        corpus.open(recipe(4), Mixture(shares={"books": 1.0}))


def held_out(seed):
    """Whether a corpus with these tests' settings puts a story into validation."""
    return in_validation(normalise(story(seed), ascii_only=True), 0.2, 0)


def retold(seed):
    """A story with every paragraph slightly changed, which the split puts into training."""
    for word in ("Then", "Thus", "Here", "Now", "Still", "Again"):
        text = "\n\n".join(f"{word} {part}" for part in story(seed).split("\n\n"))
        if not in_validation(normalise(text, ascii_only=True), 0.2, 0):
            return text
    raise AssertionError(seed)


@pytest.mark.parametrize("leaking", ["books", "letters"])
def test_validation_text_of_one_source_that_trains_in_another_is_dropped_and_counted(
    tmp_path, books, leaking
):
    letters = tmp_path / "letters"
    letters.mkdir()
    for number in range(1_000, 1_030):
        (letters / f"{number}.txt").write_text(story(number))
    sources = tuple(FileText(path=str(path), name=path.name) for path in (books, letters))
    before = prepare(config(books, sources=sources), tmp_path / "before").manifest.sources
    seeds, other = (range(60), letters) if leaking == "books" else (range(1_000, 1_030), books)
    leaked = [seed for seed in seeds if held_out(seed)][:2]
    for seed in leaked:
        (other / f"retold-{seed}.txt").write_text(retold(seed))
    after = prepare(config(books, sources=sources), tmp_path / "after").manifest.sources
    for was, now in zip(before, after, strict=True):
        dropped = 2 if was.name == leaking else 0
        assert now.near_duplicates_dropped == dropped
        assert now.val.documents == was.val.documents - dropped
        assert now.train.documents == was.train.documents + (0 if was.name == leaking else 2)


def test_a_document_is_held_out_by_its_own_text_and_the_seed(tmp_path, books):
    (entry,) = prepare(config(books), tmp_path).manifest.sources
    assert entry.val.documents == sum(map(held_out, range(60)))
    assert entry.train.documents == 60 - entry.val.documents
    text = normalise(story(0), ascii_only=True)
    assert len({in_validation(text, 0.5, seed) for seed in range(20)}) == 2


def test_the_tokenizer_learns_from_training_text_alone(tmp_path, books, monkeypatch):
    read, learn = [], Tokenizer.train

    def train(texts, **settings):
        read.extend(texts)
        return learn(iter(read), **settings)

    monkeypatch.setattr(Tokenizer, "train", train)
    prepare(config(books), tmp_path)
    trained = [seed for seed in range(60) if not held_out(seed)]
    assert sorted(read) == sorted(normalise(story(seed), ascii_only=True) for seed in trained)


def test_every_source_gives_the_tokenizer_an_equal_share(tmp_path, books, monkeypatch):
    letters = tmp_path / "letters"
    letters.mkdir()
    for number in range(1_000, 1_030):
        (letters / f"{number}.txt").write_text(story(number))
    read, learn = [], Tokenizer.train

    def train(texts, **settings):
        read.extend(texts)
        return learn(iter(read), **settings)

    monkeypatch.setattr(Tokenizer, "train", train)
    monkeypatch.setattr("llama_core.corpus.steps.text_corpus.TOKENIZER_BYTES", 100_000)
    sources = tuple(FileText(path=str(path), name=path.name) for path in (books, letters))
    prepare(config(books, sources=sources), tmp_path)
    of_books = {normalise(story(seed), ascii_only=True) for seed in range(60)}
    shares = [0, 0]
    for text in read:
        shares[text not in of_books] += len(text)
    longest = max(map(len, read))
    # The text that fills a share is read to its end.
    assert all(50_000 <= share < 50_000 + longest for share in shares)


def test_a_prepared_corpus_is_durable_before_it_has_its_name(tmp_path, books, monkeypatch):
    disk = DiskOrder(monkeypatch)
    corpus = prepare(config(books), tmp_path)
    files = list(corpus.path.iterdir())
    assert len(files) == 5
    assert all(disk.durable_before(file, corpus.path) for file in files)


def test_a_corpus_and_the_request_for_it_are_durable_with_their_names(tmp_path, books, monkeypatch):
    disk = DiskOrder(monkeypatch)
    corpus = prepare(config(books), tmp_path)
    assert disk.name_durable(corpus.path)
    (request,) = (tmp_path / "corpora" / "requests").iterdir()
    assert disk.durable_from_its_renaming_on(request)


@pytest.mark.parametrize("kept", [0, 3, 40])
def test_a_request_cut_short_by_a_power_cut_is_prepared_again(tmp_path, books, kept):
    corpus = prepare(config(books), tmp_path)
    (request,) = (tmp_path / "corpora" / "requests").iterdir()
    request.write_text(corpus.digest[:kept])
    assert prepare(config(books), tmp_path) == corpus
    assert request.read_text() == corpus.digest


def test_a_corpus_without_its_manifest_is_refused_by_name(tmp_path, books):
    corpus = prepare(config(books), tmp_path)
    (corpus.path / "manifest.json").unlink()
    with pytest.raises(CorpusError, match=r"manifest\.json cannot be read"):
        find_corpus(tmp_path, corpus.digest)


@pytest.mark.parametrize(("size", "width"), [(2**16, 2), (2**16 + 1, 4)])
def test_ids_above_two_bytes_are_written_with_four(tmp_path, books, monkeypatch, size, width):
    made = Tokenizer.token_bytes.fget
    # Not the encoder that is remembered for the same model.
    steps = "llama_core.corpus.steps.encode._encoder"
    monkeypatch.setattr(steps, lambda model: Encoder(Tokenizer(model)))
    monkeypatch.setattr(
        Tokenizer, "token_bytes", property(lambda own: made(SimpleNamespace(vocab_size=size)))
    )
    corpus = prepare(config(books), tmp_path)
    assert corpus.manifest.token_bytes == width
    (source,) = corpus.open(recipe(4)).sources
    assert [shard.dtype.itemsize for shard in source.shards] == [width]
    assert source.shards[0][0] == BOS


def test_the_last_documents_of_a_source_are_encoded_too(tmp_path, books, monkeypatch):
    whole = prepare(config(books), tmp_path / "whole")
    monkeypatch.setattr("llama_core.corpus.steps.shards._ENCODE_DOCUMENTS", 7)
    assert prepare(config(books), tmp_path / "groups").digest == whole.digest
    (entry,) = whole.manifest.sources
    ids = np.fromfile(whole.path / entry.train.shards[0].file, dtype="<u2")
    # Each document is between begin and end.
    assert (ids == BOS).sum() == (ids == EOS).sum() == entry.train.documents
    assert (ids[0], ids[-1]) == (BOS, EOS)
