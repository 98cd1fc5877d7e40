import gzip
import json

import polars as pl
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_core.corpus import reading
from llama_core.corpus.documents import CorpusError, NoTextError
from llama_core.corpus.left_out import LeftOut
from llama_core.corpus.reading import read_documents
from llama_core.corpus.text_files import files_fingerprint, form_of, source_files
from tests.core_tools import story


def read(path, **counts):
    counted = LeftOut(source="files", **counts)
    return list(read_documents(path, counted)), counted


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.txt", "plain"),
        ("A.TXT", "plain"),
        ("a.md.gz", "plain"),
        ("a.jsonl.zst", "rows"),
        ("a.ndjson.xz", "rows"),
        ("c4.00000-of-01024.json.gz", "json"),
        ("a.parquet", "parquet"),
        ("a.parquet.gz", None),
        ("a.tar.gz", None),
        ("a.gz", None),
        ("txt", None),
    ],
)
def test_a_name_tells_the_form(tmp_path, name, form):
    assert form_of(tmp_path / name) == form


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("aaaa\n\nbbbb\n\ncccc", ["aaaa\n\n", "bbbb\n\n", "cccc"]),
        ("aaaa\n \nbbbb\n \ncccc", ["aaaa\n \n", "bbbb\n \n", "cccc"]),
        ("aaaa\nbbbb\ncccc", ["aaaa\n", "bbbb\n", "cccc"]),
        ("aaaa bbbb cccc", ["aaaa ", "bbbb ", "cccc"]),
        ("aaaabbbbcccc", ["aaaa", "bbbb", "cccc"]),
        # An empty line within a second section's length is worth waiting for.
        ("aaaa\nb\n\ncccc", ["aaaa\nb\n\n", "cccc"]),
    ],
)
def test_a_long_text_is_cut_at_the_best_place_near(tmp_path, monkeypatch, text, ends):
    monkeypatch.setattr(reading, "SECTION_CHARACTERS", 4)
    (tmp_path / "a.txt").write_text(text)
    sections, _ = read(tmp_path / "a.txt")
    # The last section may be as long as two.
    assert "".join(sections) == "".join(ends) == text
    assert sections[0] == ends[0]
    assert len(sections) > 1


def test_a_text_with_empty_lines_is_cut_as_it_always_was(tmp_path):
    paragraph = "word " * 300
    (tmp_path / "a.txt").write_text("\n\n".join([paragraph] * 300))
    _, counts = read(tmp_path / "a.txt")
    assert not counts.later_rule


@pytest.mark.parametrize(
    "content",
    [
        '{"text": "one"}\n{"text": "two"}\n',
        '[{"text": "one"}, {"text": "two"}]',
        '[\n  {"text": "one"},\n  {"text": "two"}\n]\n',
        '["one", "two"]',
        '{"text": {"0": "one", "1": "two"}}',
        '{"text": ["one", "two"]}',
        '{"version": 1, "data": [{"text": "one"}, {"text": "two"}]}',
        '\ufeff{"text": "one"}\n\n\ufeff{"text": "two"}',
        '"one"\n"two"\n',
    ],
)
def test_json_is_read_in_its_usual_forms(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    assert read(tmp_path / "a.json")[0] == ["one", "two"]


def test_json_without_text_is_skipped_beside_text_and_refused_alone(tmp_path):
    (tmp_path / "info.json").write_text('{"license": "none"}')
    (tmp_path / "broken.json").write_text("// no")
    (tmp_path / "a.txt").write_text("text")
    texts, counts = read(tmp_path)
    assert texts == ["text"]
    assert counts.files == ("broken.json", "info.json")
    assert counts.rows == 0
    with pytest.raises(NoTextError, match="text_field: license"):
        read(tmp_path / "info.json")


def test_rows_without_a_text_are_counted_and_the_longest_other_text_is_offered(tmp_path):
    rows = [{"text": "one"}, {"text": None}, {"id": 3}, 17, "two"]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    texts, counts = read(tmp_path / "a.jsonl")
    assert texts == ["one", "two"]
    assert (counts.rows, counts.rows_without_text) == (5, 3)
    (tmp_path / "a.jsonl").write_text('{"id": "7", "body": "much longer"}\n')
    with pytest.raises(NoTextError, match=r"'id', 'body'.*text_field: body"):
        read(tmp_path / "a.jsonl")


def test_a_file_of_unknown_ending_is_read_only_by_itself(tmp_path):
    (tmp_path / "enwik").write_text("text")
    assert read(tmp_path / "enwik")[0] == ["text"]
    with pytest.raises(CorpusError, match=r"has no readable file\. It holds enwik\."):
        read(tmp_path)
    (tmp_path / "zip").write_bytes(b"PK\0\0")
    with pytest.raises(CorpusError, match="zero bytes"):
        read(tmp_path / "zip")


def test_an_empty_file_is_a_document_that_is_counted(tmp_path):
    (tmp_path / "a.txt").touch()
    assert read(tmp_path / "a.txt")[0] == [""]


def test_a_link_to_a_folder_or_to_nothing_is_no_file_and_is_named(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.txt").write_text("text")
    (source / "away").symlink_to(tmp_path)
    (source / "gone.txt").symlink_to(tmp_path / "nothing")
    (source / ".hidden").write_text("x")
    files, others = source_files(source)
    assert [path.name for path in files] == ["a.txt"]
    assert [path.name for path in others] == ["away", "gone.txt"]


def test_a_request_does_not_depend_on_files_that_are_not_read(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    before = files_fingerprint(tmp_path)
    (tmp_path / "b.pdf").write_text("%PDF")
    assert files_fingerprint(tmp_path) == before


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_mark_at_the_head_tells_the_encoding(tmp_path, encoding):
    text = "Ein Baum – 木"
    marked = text if encoding == "utf-16" else "\ufeff" + text
    (tmp_path / "a.txt").write_bytes(marked.encode(encoding))
    assert read(tmp_path / "a.txt")[0] == [text]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.bz2", "a.jsonl.xz", "a.jsonl.zst"])
def test_a_file_that_is_not_what_its_ending_says_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"plain")
    with pytest.raises(CorpusError, match=rf"{name} cannot be read"):
        read(tmp_path)


@given(parts=st.lists(st.sampled_from(["word ", "\n", "\n\n", " \n", "x" * 37]), max_size=120))
def test_a_plain_text_read_in_blocks_is_cut_as_in_one(parts):
    text = "".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "SECTION_CHARACTERS", 50)
        whole, blocks = LeftOut(source="made"), LeftOut(source="made")
        expected = list(reading.sections([text], whole))
        in_blocks = [text[i : i + 7] for i in range(0, len(text), 7)]
        assert list(reading.sections(in_blocks, blocks)) == expected
    assert "".join(expected) == text
    assert blocks == whole


def test_the_byte_that_is_no_text_is_counted_from_the_start_of_the_file(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "x"}\n' * 2_000 + b"\xff\n")
    with pytest.raises(CorpusError, match=r"byte 28,000 cannot be decoded"):
        read(tmp_path)


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
        assert read(tmp_path / name)[0] == texts
    assert len(read(tmp_path)[0]) == 8


def test_a_long_text_is_cut_at_blank_lines_without_losing_any(tmp_path):
    text = story(3, 2_000)
    (tmp_path / "book.txt").write_text(text)
    sections, _ = read(tmp_path / "book.txt")
    assert len(sections) > 1
    assert "".join(sections) == text
    assert all(section.endswith("\n\n") for section in sections[:-1])


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
        read(tmp_path)
    assert "\n" not in str(refusal.value)
