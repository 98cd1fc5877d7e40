"""A curve read at once is the curve read line by line, damaged or not."""

import json

import pytest

from flows.runs.curve import Curve
from tests.fakes import finished_run, planned_run


@pytest.fixture
def curve(tmp_path):
    return finished_run(tmp_path, planned_run()).curve


def line_by_line(curve, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Curve, "_read_at_once", lambda self: None)
        return curve.steps()


def test_a_whole_curve_is_read_at_once_to_the_digit(curve, monkeypatch):
    slow = line_by_line(curve, monkeypatch)
    monkeypatch.setattr(Curve, "rows", lambda self: pytest.fail("read line by line"))
    assert curve.steps().equals(slow)
    assert slow.height == 46


def test_a_last_line_without_its_end_is_skipped_at_once(curve, monkeypatch):
    curve.path.write_bytes(curve.path.read_bytes()[:-20])
    slow = line_by_line(curve, monkeypatch)
    monkeypatch.setattr(Curve, "rows", lambda self: pytest.fail("read line by line"))
    assert curve.steps().equals(slow)


def without(name):
    return lambda row: {key: value for key, value in row.items() if key != name}


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (without("lr"), 45),
        (without("mfu"), 45),
        (without("horizon"), 45),
        (without("memory_gib"), 46),
        (without("kind"), 45),
        (lambda row: row | {"loss": float("nan")}, 46),
        (lambda row: row | {"of a later version": [1, {}]}, 46),
        (lambda row: row | {"kind": "of a later version"}, 45),
        (lambda row: [row], 45),
    ],
)
def test_a_changed_line_counts_as_it_does_line_by_line(curve, monkeypatch, change, kept):
    lines = curve.path.read_text().splitlines()
    lines[5] = json.dumps(change(json.loads(lines[5])))
    curve.path.write_text("".join(f"{line}\n" for line in lines))
    steps = curve.steps()
    assert steps.height == kept
    assert steps.equals(line_by_line(curve, monkeypatch))


@pytest.mark.parametrize("damage", ['{"kind":"st', "\0" * 200, "", "null"])
def test_a_damaged_line_is_left_out_and_reported(curve, damage, caplog):
    lines = curve.path.read_text().splitlines()
    lines[5] = damage
    curve.path.write_text("".join(f"{line}\n" for line in lines))
    assert curve.steps().height == 45
    assert "is damaged" in caplog.text


def test_a_run_without_a_curve_has_no_steps(tmp_path):
    assert Curve(tmp_path / "curve.jsonl").steps().is_empty()
