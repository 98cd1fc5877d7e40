"""Files are replaced whole, and append-only files survive a torn line."""

import json
import logging

import pytest

from flows.cost import calibrate
from flows.files import LineWriter, append_line, read_lines, set_aside, write_whole
from flows.mirror import tracker
from flows.plans.rounds import read_rounds
from flows.runs import evaluations
from flows.runs.attempts import read_provenance
from flows.runs.directory import RunDir
from llama_core.files import replacing, scratch_folder
from tests.disk import DiskOrder


def rows(path):
    return [row for row, _ in read_lines(path)]


def test_a_written_file_is_complete_and_leaves_no_draft(tmp_path):
    path = tmp_path / "file.json"
    write_whole(path, "one")
    write_whole(path, "zwei – ü")
    assert path.read_text(encoding="utf-8") == "zwei – ü"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_that_could_not_be_written_keeps_its_old_content(tmp_path, durable):
    path = tmp_path / "file"
    path.write_text("old")

    def write():
        with replacing(path, durable=durable) as file:
            file.write(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_writers_with_equal_process_numbers_do_not_share_a_draft(tmp_path):
    # As those of two containers on one home may be.
    path = tmp_path / "file"
    with replacing(path) as first, replacing(path) as second:
        first.write(b"first")
        second.write(b"second, and longer")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_scratch_folder_is_gone_after_its_block(tmp_path):
    with scratch_folder(tmp_path) as folder:
        (folder / "file").write_text("x")
        assert list(tmp_path.iterdir()) == [folder]
    assert not list(tmp_path.iterdir())


def test_a_file_that_does_not_exist_has_no_rows(tmp_path):
    assert rows(tmp_path / "none.jsonl") == []


def test_a_torn_last_line_is_skipped_in_silence_and_cut_off_by_the_next(tmp_path, caplog):
    path = tmp_path / "rows.jsonl"
    append_line(path, {"n": 1})
    with path.open("ab") as file:
        file.write(b'{"n": 2')
    assert rows(path) == [{"n": 1}]
    append_line(path, {"n": 3})
    assert rows(path) == [{"n": 1}, {"n": 3}]
    assert path.read_bytes().count(b"\n") == 2
    assert not caplog.records


def test_a_damaged_line_in_the_middle_is_reported_and_skipped_or_ends_the_reading(tmp_path, caplog):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"n":1}\n{"n":\n{"n":3}\n')
    with caplog.at_level(logging.WARNING):
        assert rows(path) == [{"n": 1}, {"n": 3}]
    assert f"{path}: the line that ends at byte 14 is damaged" in caplog.text
    assert [row for row, _ in read_lines(path, stop_at_damage=True)] == [{"n": 1}]
    # An append keeps what follows the damage.
    append_line(path, {"n": 4})
    assert rows(path) == [{"n": 1}, {"n": 3}, {"n": 4}]


def test_reading_continues_from_the_offset_of_the_last_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    for n in range(3):
        append_line(path, [n])
    _, end = next(read_lines(path))
    assert [row for row, _ in read_lines(path, end)] == [[1], [2]]


def test_others_can_read_rows_before_the_writer_is_closed(tmp_path):
    path = tmp_path / "rows.jsonl"
    writer = LineWriter(path, 0)
    writer.append({"text": "x" * 100_000})
    assert len(rows(path)[0]["text"]) == 100_000
    writer.close()
    assert json.loads(path.read_text())


def test_a_file_is_on_the_disk_before_it_has_its_name_and_so_is_the_name(tmp_path, monkeypatch):
    disk, path = DiskOrder(monkeypatch), tmp_path / "result.json"
    for text in ("first", "second, which is longer"):
        write_whole(path, text)
        assert disk.durable_from_its_renaming_on(path)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("provenance.json", lambda folder: read_provenance(RunDir(folder))),
        ("rounds.json", read_rounds),
        ("note.json", lambda folder: tracker._read_note(folder / "note.json", "uri").run),
        ("score.json", lambda folder: evaluations.read(folder / "score.json")),
        ("timing.json", lambda folder: calibrate._read(folder / "timing.json")),
    ],
)
def test_a_file_with_a_byte_that_is_no_text_counts_as_damaged(name, read, tmp_path):
    (tmp_path / name).write_bytes(b'{"name": "\xb5"}')
    assert read(tmp_path) is None


def test_what_is_set_aside_takes_no_name_that_is_taken_whatever_was_removed(tmp_path):
    path = tmp_path / "curve.jsonl"
    for content in ("first", "second"):
        path.write_text(content)
        set_aside(path)
    (tmp_path / "curve-set-aside-0.jsonl").unlink()
    for content in ("third", "fourth"):
        path.write_text(content)
        set_aside(path)
    kept = {each.read_text() for each in tmp_path.iterdir()}
    assert kept == {"second", "third", "fourth"}
