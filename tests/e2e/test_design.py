"""A sweep designed in rounds, killed in the middle, ends as one that was left alone."""

import json
import os
import signal
import subprocess
import time

import polars as pl
import pytest

from tests.conftest import COMMAND, bare_environment

SWEEP = (
    *("sweep", "smoke", "--design", "next", "--target-flops", "1e15"),
    *("--set", "name=designed", "--set", "ladder.widths=[16,24,32,48]"),
    *("--set", "grid={kind: isoflop, budgets: [2e9,4e9,8e9,1.6e10], tokens_per_param: [0.1,100]}"),
)


@pytest.mark.slow
def test_a_design_killed_in_a_later_round_resumes_to_the_same_table(isoflop, home, tmp_path):
    alone = isoflop(*SWEEP)
    assert alone.returncode == 0, alone.stderr
    assert "Designed in " in alone.stdout
    undisturbed = home / "sweeps" / "designed"
    other = tmp_path / "home"
    other.mkdir()
    (other / "corpora").symlink_to(home / "corpora")
    killed_when(other, lambda: len(list(other.glob("runs/*/result.json"))) == 1)
    killed_when(other, lambda: rounds(other) == 2)
    results = {path: path.stat().st_mtime_ns for path in other.glob("runs/*/result.json")}
    assert results
    resumed = isoflop(*SWEEP, home=other)
    assert resumed.returncode == 0, resumed.stderr
    assert all(path.stat().st_mtime_ns == at for path, at in results.items())
    folder = other / "sweeps" / "designed"
    assert (folder / "rounds.json").read_text() == (undisturbed / "rounds.json").read_text()
    tables = [pl.read_parquet(path / "observations.parquet") for path in (folder, undisturbed)]
    assert tables[0].equals(tables[1])
    assert len(json.loads((folder / "rounds.json").read_text())["rounds"]) > 1
    # Every command that reads a sweep reads this one.
    for command in (("report",), ("watch",), ("export", "--to", str(tmp_path)), ("runs",)):
        name, *options = command
        done = isoflop(name, "designed", *options, home=other)
        assert done.returncode == 0, done.stderr
    assert "nothing of designed was running" in isoflop("cancel", "designed", home=other).stdout


def killed_when(home, ready):
    environment = {**bare_environment(), "ISOFLOP_HOME": str(home)}
    process = subprocess.Popen([COMMAND, *SWEEP], env=environment)
    while process.poll() is None and not ready():
        time.sleep(0.02)
    assert process.poll() is None, "it ended before it was to be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def rounds(home):
    path = home / "sweeps" / "designed" / "rounds.json"
    return len(json.loads(path.read_text())["rounds"]) if path.exists() else 0
