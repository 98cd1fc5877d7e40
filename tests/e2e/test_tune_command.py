"""The real commands: laws from a file, and a study that is killed."""

import json
import os
import signal
import subprocess
import time

import polars as pl
import pytest

from tests.conftest import COMMAND, bare_environment
from tests.unit.analysis.tuning.test_answer import table

TINY = (
    *("tune", "lr-batch", "--trials", "9", "--set", "ladder.widths=[16]"),
    *("--set", "tokens=[20480,40960]", "--set", "eval_tokens=4096"),
)


def test_fit_lr_answers_with_exactly_one_document(in_process, tmp_path):
    path = tmp_path / "theirs.csv"
    names = {"n_params": "N", "tokens": "D", "batch_tokens": "bs", "val_loss": "loss"}
    table().rename({**names, "lr": "eta_max"}).write_csv(path)
    page = tmp_path / "lr.html"
    done = in_process(
        *("fit-lr", str(path), "--map", "lr=eta_max", "--map", "batch_tokens=bs"),
        *("--json", "-", "--report", str(page)),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["lr"]["exponent_N"] == pytest.approx(-0.4, abs=1e-6)
    assert found["batch"]["exponent_D"] == pytest.approx(0.5, abs=1e-6)
    low, high = found["lr"]["intervals"]["exponent_N"]
    assert low <= found["lr"]["exponent_N"] <= high
    assert 'id="law"' in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fit-lr", "nowhere.csv"), "nowhere.csv is not a file"),
        (("fit-lr", "pyproject.toml", "--level", "2"), "--level 2.0 must lie between 0 and 1"),
        (("tune", "lr-bach"), "there is no preset or file 'lr-bach'. Did you mean lr-batch?"),
        (("tune", "lr-batch", "--set", "serch.lr=1"), "did you mean search?"),
        (
            ("plan", "smoke", "--set", "recipe={kind: law, study: none}"),
            "no fitted study of that name",
        ),
    ],
)
def test_unusable_input_is_refused_in_one_line(in_process, arguments, said):
    done = in_process(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.long
def test_a_study_killed_twice_ends_with_the_same_trials_as_one_left_alone(
    home, isoflop, tmp_path_factory
):
    alone = isoflop(*TINY)
    assert alone.returncode == 0, alone.stderr
    other = tmp_path_factory.mktemp("killed")
    (other / "corpora").symlink_to(home / "corpora")
    for finished in (2, 6):
        kill_when(other, finished)
    before = results(other)
    assert len(before) < 9
    last = isoflop(*TINY, home=other)
    assert last.returncode == 0, last.stderr
    # What was finished before a kill was not trained again, and the law is the same to the bit.
    assert {path: results(other)[path] for path in before} == before
    for name in ("trials.csv", "law.json"):
        paths = [root / "tunes" / "lr-batch" / name for root in (home, other)]
        assert paths[0].read_text() == paths[1].read_text()
    assert pl.read_csv(paths[0].with_name("trials.csv")).height == 18


def kill_when(home, finished):
    """Start the study and kill it, with SIGKILL, as soon as this many runs are finished."""
    environment = {**bare_environment(), "ISOFLOP_HOME": str(home)}
    with (home / "output.log").open("ab") as log:
        study = subprocess.Popen([COMMAND, *TINY], env=environment, stdout=log, stderr=log)
    while study.poll() is None and len(results(home)) < finished:
        time.sleep(0.05)
    assert study.poll() is None, (home / "output.log").read_text()
    os.kill(study.pid, signal.SIGKILL)
    study.wait()


def results(home):
    return {path: path.stat().st_mtime_ns for path in home.glob("runs/*/result.json")}
