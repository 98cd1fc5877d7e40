import gzip
import json
import sys
from types import SimpleNamespace

import numpy as np
import polars as pl
import pyarrow
import pytest

from llama_core.corpus.config import CorpusConfig, FileText, HubText
from llama_core.corpus.cleaning import in_validation, normalise
from llama_core.corpus.docstrings import prose
from llama_core.corpus.documents import CorpusError, hub_documents
from llama_core.corpus.left_out import LeftOut
from llama_core.corpus.preparation import prepare
from llama_core.corpus.prepared import find_corpus
from llama_core.corpus.reading import read_documents
from llama_core.corpus.shards import ShardWriter, SplitEntry, open_shards
from llama_core.corpus.steps.encoder import Encoder
from llama_core.corpus.tokenizer import BOS, EOS, Tokenizer
from tests.core_tools import leaked, recipe, story, without_repeats
from tests.disk import DiskOrder


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


def test_every_readable_format_gives_the_same_documents(tmp_path):
    texts = [story(0, 3), story(1, 3)]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "a.jsonl.zst").write_bytes(
        pyarrow.Codec("zstd").compress(lines.encode(), asbytes=True)
    )
    pl.DataFrame({"text": texts, "id": [1, 2]}).write_parquet(tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"):
        assert [
            doc.text for doc in read_documents(tmp_path / name, LeftOut(source="files"))
        ] == texts
    assert len(list(read_documents(tmp_path, LeftOut(source="files")))) == 8


def test_a_long_text_is_cut_at_blank_lines_without_losing_any(tmp_path):
    text = story(3, 2_000)
    (tmp_path / "book.txt").write_text(text)
    sections = list(read_documents(tmp_path / "book.txt", LeftOut(source="files")))
    assert len(sections) > 1
    assert "".join(section.text for section in sections) == text
    assert all(section.text.endswith("\n\n") for section in sections[:-1])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\nnot json\n', "line 2 is not JSON"),
        ("a.jsonl", b'{"body": "x"}\n', "text_field"),
        ("a.txt", b"\xff\xfe\x00", "not UTF-8"),
        ("a.jsonl.gz", b"not gzip", "cannot be read"),
        ("a.parquet", b"not parquet", "not Parquet"),
        ("a.pdf", b"%PDF", "has no readable file"),
    ],
)
def test_an_unreadable_file_is_refused_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message) as refusal:
        list(read_documents(tmp_path, LeftOut(source="files")))
    assert "\n" not in str(refusal.value)


def test_a_tokenizer_reads_text_as_its_corpus_was_written(books, tmp_path):
    folding = prepare(config(books), tmp_path / "ascii").tokenizer()
    assert folding.encode("lóss – falls") == folding.encode("loss - falls")
    assert folding.as_read("λoss\u0301 数") == "?oss ?"
    # An accent without a letter is encoded, too.
    assert folding.as_read("\u0301") == "?"
    settings = config(books, characters="unicode", vocab_size=512)
    keeping = prepare(settings, tmp_path / "unicode").tokenizer()
    assert keeping.decode(keeping.encode("lóss – 数")) == "lóss – 数"


def test_normalising_folds_to_ascii_only_where_asked():
    text = "café “quoted” — naïve\r\n\r\n\r\n\r\nend  \n数"
    assert normalise(text, ascii_only=True) == 'cafe "quoted" - naive\n\nend\n?'
    assert normalise(text, ascii_only=False) == "café “quoted” — naïve\n\nend\n数"


def test_a_document_or_a_long_paragraph_seen_before_is_dropped():
    new, seen = story(0, 4), story(1, 4)
    kept, counts = without_repeats([seen, seen, seen + "\n\n" + new])
    assert kept == [seen, new]
    assert counts.repeats == 1
    assert counts.characters_repeated == len(seen) + len(seen) - 2 * 3


def test_a_document_of_short_paragraphs_is_kept_while_one_of_them_is_new():
    verses = [f"A line of verse, the number {number}." for number in range(6)]
    first, second = "\n\n".join(verses[:4]), "\n\n".join(verses[1:5])
    # In another order they are nothing new.
    kept, counts = without_repeats([first, second, "\n\n".join(reversed(verses[:5]))])
    assert kept == [first, second]
    assert counts.later_rule
    assert counts.repeats == 1
    # The default corpus is cleaned by the first version's rule.
    assert without_repeats([first], short_is_new=False)[0] == []


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
    book = "\n\n".join(story(seed, 30) for seed in range(40))
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


def test_a_near_duplicate_is_found_and_a_different_text_is_not():
    original = story(0, 40)
    edited = original.replace("model", "modell", 3)
    training = original + "\n\n" + story(2, 40)
    assert leaked(edited, training)
    assert not leaked(story(9, 40), training)


def test_only_prose_of_docstrings_is_taken():
    source = (
        b'"""Too short."""\n'
        b"def f():\n"
        b'    """This paragraph is long enough to be taken and holds nothing but prose.\n\n'
        b"    x = [1, 2, 3]; y = {4: 5, 6: 7}; z = (8, 9); print(x[0] + y[4] * z[1] - 10 ** 11)\n"
        b'    """\n'
    )
    assert list(prose(source)) == [
        "This paragraph is long enough to be taken and holds nothing but prose."
    ]
    assert list(prose(b'"""unfinished')) == []


@pytest.mark.parametrize("characters", ["ascii", "unicode"])
def test_tokens_decode_to_the_same_text(characters):
    train = [story(seed) for seed in range(30)]
    byte_fallback = characters == "unicode"
    size = 600 if byte_fallback else 350
    made = Tokenizer.train(iter(train), vocab_size=size, byte_fallback=byte_fallback)
    text = "  Loss 1234\n\n\tfalls  twice" + (" — 数字 é" if byte_fallback else "")
    ids = made.encode(text)
    known = [piece for piece in ids if piece]
    if byte_fallback:
        assert made.decode(ids) == text
        assert int(made.piece_bytes()[ids].sum()) == len(text.encode())
    else:
        # Tabs never occurred in training and there are no byte pieces to fall back on.
        assert made.decode(known).replace("\t", "") == text.replace("\t", "")


def test_digits_are_split():
    made = Tokenizer.train((story(seed) for seed in range(30)), vocab_size=300, byte_fallback=False)
    assert len(made.encode("9876")) >= 4


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


def test_a_hub_dataset_is_streamed_row_by_row(tmp_path, monkeypatch):
    # `datasets` reads a local folder of this name instead of the dataset on the Hub.
    folder = tmp_path / "some" / "text"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: en\n  data_files: [{split: train, path: en.jsonl}]\n---\n"
    )
    (folder / "en.jsonl").write_text('{"body": "one"}\n{"body": "two"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    source = HubText(dataset="some/text", subset="en", text_field="body")
    assert [
        doc.text for doc in hub_documents(source, LeftOut(source="hub", text_field="body"))
    ] == ["one", "two"]
    with pytest.raises(CorpusError, match="words"):
        list(hub_documents(source, LeftOut(source="hub", text_field="words")))
    limited = source.model_copy(update={"max_bytes": 3})
    [first] = hub_documents(limited, LeftOut(source="hub", text_field="body"))
    assert first.text == "one"


def test_a_hub_dataset_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    with pytest.raises(CorpusError, match=r"dataset 'some/text' cannot be read"):
        list(hub_documents(HubText(dataset="some/text"), LeftOut(source="hub")))


def test_a_hub_dataset_without_the_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CorpusError, match="pip install datasets"):
        list(hub_documents(HubText(dataset="some/text"), LeftOut(source="hub")))


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


def test_a_fifth_of_many_documents_is_held_out():
    held = sum(in_validation(str(number), 0.2, 0) for number in range(5_000))
    # Three standard deviations of a count of 5,000 draws at 0.2 are 85.
    assert held == pytest.approx(1_000, abs=85)


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


def test_a_text_with_a_third_in_training_is_a_near_duplicate_and_with_a_tenth_is_not():
    whole, other = story(0, 60).split("\n\n"), story(9, 60).split("\n\n")
    for copied, is_duplicate in ((6, False), (20, True)):
        mixed = "\n\n".join([*whole[:copied], *other[copied:]])
        assert leaked(mixed, story(0, 60)) is is_duplicate


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


def test_a_documents_end_is_kept_when_tokens_fill_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr("llama_core.corpus.shards.SHARD_TOKENS", 10)
    writer = ShardWriter(tmp_path, "s", 2)
    documents = [np.arange(count) + 100 * count for count in (4, 6, 1, 12, 3)]
    for document in documents:
        writer.append(document)
    shards = writer.close()
    assert [shard.tokens for shard in shards] == [10, 1, 12, 3]
    split = SplitEntry(documents=5, bytes=1, tokens=26, shards=shards)
    read = np.concatenate(open_shards(tmp_path, split, 2))
    assert read.tolist() == np.concatenate(documents).tolist()


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
