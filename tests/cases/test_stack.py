"""What a user of odd surroundings sees: proxies, letters, read-only homes, damage, full disks."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import main
from flows.results import export as export_module
from flows.settings import Home
from sweeps.load import load_spec
from sweeps.plan import Plan
from sweeps.spec import DataRef
from tests.cases.conftest import Run
from tests.conftest import ROOT
from tests.fakes import finished_run, planned_run


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with a sweep of two finished runs."""
    home = Home(tmp_path / "home")
    runs = tuple(planned_run(sweep="mine", width=width) for width in (16, 32))
    for planned in runs:
        finished_run(home.root, planned)
    spec = load_spec("smoke", ["name=mine"])
    plan = Plan(spec=spec, data=DataRef(digest="x"), runs=runs, warnings=())
    (home.sweeps / "mine").mkdir(parents=True)
    (home.sweeps / "mine" / "plan.json").write_text(plan.model_dump_json())
    return home


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%41b", "a b", "a'b", 'a"b', "aüb", "a[b]*"])
def test_a_home_is_read_whatever_letters_its_path_has(
    run: Run, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    odd = tmp_path / "odd" / name
    shutil.copytree(home.root, odd)
    monkeypatch.setenv("ISOFLOP_HOME", str(odd))
    done = run("runs", "mine", "--json", "-")
    assert done.status == 0
    assert len(json.loads(done.stdout)) == 4
    assert [path.name for path in (tmp_path / "odd").iterdir()] == [name]


READING = (
    ("runs",),
    ("show", "d16"),
    ("report", "mine"),
    ("report", "mine", "--json", "-"),
    ("status",),
    ("watch", "mine"),
    ("export", "mine", "--to", "out"),
    ("compare", "mine", "other", "--bootstrap", "1"),
)


@pytest.mark.parametrize("line", READING, ids=" ".join)
def test_a_home_that_cannot_be_written_is_read(
    run: Run, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...]
) -> None:
    shutil.copytree(home.sweeps / "mine", home.sweeps / "other")
    plan = home.sweeps / "other" / "plan.json"
    plan.write_text(plan.read_text().replace('"mine"', '"other"'))
    monkeypatch.chdir(tmp_path)
    before = contents(home)
    # Root may write to any folder, so the modes of files are not enough.
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    done = run(*line)
    assert done.status == 0, done.stderr
    assert contents(home) == before


def test_a_home_that_is_not_there_is_empty_and_not_made(run: Run, tmp_path: Path) -> None:
    for line in (("runs",), ("status",)):
        assert run(*line).status == 0
    assert "no run 'd16'" in run("show", "d16").stderr
    assert not (tmp_path / "home").exists()


def contents(home: Home) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in home.root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line(
    run: Run, home: Home, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(export_module, "write_durably", full)
    done = run("export", "mine", "--to", home.root)
    assert done.status == 1
    assert done.stderr.startswith("isoflop: the disk is full (")
    assert done.stderr.endswith("Make room, then repeat the command.\n")


def test_a_file_where_a_folder_is_to_be_written_is_one_line(run: Run, home: Home) -> None:
    taken = home.root / "taken"
    taken.write_text("mine")
    done = run("export", "mine", "--to", taken)
    assert (done.status, done.stderr) == (1, f"isoflop: {taken}: file exists.\n")
    assert taken.read_text() == "mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_output_to_a_full_disk_is_one_line(home: Home) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", "runs"],
            cwd=ROOT,
            env={**os.environ, "ISOFLOP_HOME": str(home.root)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "the disk is full" in done.stderr


def test_an_error_that_is_no_disk_s_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr("flows.cli.app", broken)
    with pytest.raises(OSError, match="input/output"):
        main(["runs"])


DAMAGE = {"empty": b"", "torn": None, "zeros": b"\0" * 50, "another's": b"[1]"}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    "name", ["spec.json", "placement.json", "result.json", "provenance.json", "curve.jsonl"]
)
def test_a_damaged_file_of_a_run_is_named_or_done_without(
    run: Run, home: Home, name: str, damage: str
) -> None:
    [folder, _] = sorted(home.runs.iterdir())
    path = folder / name
    content = path.read_bytes() if path.exists() else b'{"device":"auto"}'
    damaged = DAMAGE[damage]
    path.write_bytes(content[: len(content) // 2] if damaged is None else damaged)
    for line in (("runs",), ("show", folder.name), ("status",)):
        done = run(*line)
        assert done.status in (0, 2)
        assert "pydantic" not in done.stderr
        assert done.status == 0 or str(path) in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ISOFLOP_PREFECT_PORT", "abc", "whole number"),
        ("ISOFLOP_MLFLOW_PORT", "70000", "65535"),
    ],
)
def test_a_setting_out_of_range_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    done = run("runs")
    assert done.status == 2
    assert done.stderr.startswith(f"isoflop: {name}={value}: should be ")
    assert words in done.stderr


@pytest.mark.parametrize("option", ["bits", "batch", "context", "gpus", "days", "price"])
def test_a_serving_option_is_named_as_it_was_given(run: Run, option: str) -> None:
    line = ("frontier", "--flops", "1e20", "--generated-tokens", "1e9", "--gpu", "h100")
    done = run(*line, f"--{option}", 0)
    assert done.status == 2
    assert f"--{option} 0" in done.stderr


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("eval_tokens=1", "eval_tokens"),
        ("ladder.widths=16,32", "'16,32' should be a list, as in [16, 32]"),
        ("grid.budgets=[a]", "grid.isoflop.budgets.0: 'a' should be a number"),
        ("grid.kind=isoflops", "kind 'isoflops' is none of 'isoflop', 'tokens'"),
        ("lr=3", "unknown key lr (did you mean recipe.lr?)"),
    ],
)
def test_a_fault_of_a_spec_is_told_in_its_words(run: Run, setting: str, words: str) -> None:
    done = run("plan", "smoke", "--gpu", "h100", "--set", setting)
    assert done.status == 2
    assert words in done.stderr
    for raw in ("pydantic", "validation error", "type="):
        assert raw not in done.stderr
