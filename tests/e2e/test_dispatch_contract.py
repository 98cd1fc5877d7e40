"""The same runs by child processes and by a work pool, on one rank and on two."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.runs.directory import RunDir
from flows.settings import Settings, open_home
from tests.conftest import ROOT, bare_environment

ALONE = ["name=alone", "seeds=[5]", "ladder.widths=[16, 32]", "grid.budgets=[1e10, 2e10]"]
SHARED = ["name=shared", "seeds=[6]", "ladder.widths=[32]", "grid.budgets=[1e10, 2e10]"]
TWO_RANKS = [*SHARED, "placement.ranks=2"]
# From a clock or the machine; everything else in a run's folder must be the same.
MEASURED = {"at", "tokens_per_s", "mfu", "memory_gib", "train_s", "finished_at"}
# Gradients summed in another order in fp32, see test_core_ranks.
TOLERANCE = 1e-5


def settings_of(overrides):
    return [part for one in overrides for part in ("--set", one)]


@pytest.fixture(scope="module")
def corpora(home):
    from flows.plans.plan import make_plan
    from sweeps.load import load_spec

    make_plan(load_spec("smoke", ()), open_home(Settings(home=home)))
    return home / "corpora"


def new_home(folder, corpora):
    folder.mkdir()
    (folder / "corpora").symlink_to(corpora)
    return folder


def here(folder, overrides):
    """A sweep by child processes."""
    done = subprocess.run(
        [Path(sys.executable).with_name("isoflop"), "sweep", "smoke", *settings_of(overrides)],
        cwd=ROOT,
        env={**bare_environment(), "ISOFLOP_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    # So few losses give no law.
    assert done.returncode == 1, done.stderr
    assert done.stderr.endswith("isoflop: no law; see the report\n")
    return folder


@pytest.fixture(scope="module")
def by_workers(tmp_path_factory, corpora):
    """Both sweeps by a real server and a real worker."""
    folder = new_home(tmp_path_factory.mktemp("contract") / "pool", corpora)
    place = {**bare_environment(), "ISOFLOP_HOME": str(folder)}
    api = f"http://127.0.0.1:{place['ISOFLOP_PREFECT_PORT']}/api"
    isoflop, prefect = (Path(sys.executable).with_name(name) for name in ("isoflop", "prefect"))

    def run(*command, **more):
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**place, **more},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        run(isoflop, "up", "--workers", "1")
        for overrides in (ALONE, TWO_RANKS):
            run(
                *(prefect, "deployment", "run", "sweep/chinchilla", "--watch", "-p", "spec=smoke"),
                *("-p", f"overrides={json.dumps(overrides)}"),
                PREFECT_API_URL=api,
                PREFECT_HOME=str(folder / "client"),
            )
    finally:
        run(isoflop, "down")
    return folder


def contents(folder):
    """Files of the runs of a home, by id, without locks, logs and records of the mirror."""
    return {path.name: run_contents(path) for path in sorted((folder / "runs").iterdir())}


def run_contents(path):
    run = RunDir(path)
    files = {"spec.json": run.spec_path.read_text(), "placement.json": run.placement().model_dump()}
    files |= {file.name: file.read_bytes() for file in path.glob("final_*.safetensors")}
    files["curve"] = [without(row) for row in run.curve.rows()]
    files["result"] = without(json.loads(run.result_path.read_text()))
    files["checkpoints"] = sorted(file.name for file in run.checkpoints.iterdir())
    return files


def without(row):
    return {name: value for name, value in row.items() if name not in MEASURED}


def of_sweep(folder, name):
    return {
        run: files for run, files in contents(folder).items() if f'"{name}"' in files["spec.json"]
    }


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_run_is_the_same_by_either_dispatch_to_the_bit(by_workers, corpora, tmp_path):
    local = here(new_home(tmp_path / "local", corpora), ALONE)
    assert len(contents(local)) == 2
    assert of_sweep(by_workers, "alone") == contents(local)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_two_ranks_by_either_dispatch_give_the_run_of_one_process(by_workers, corpora, tmp_path):
    two = here(new_home(tmp_path / "two", corpora), TWO_RANKS)
    one = here(new_home(tmp_path / "one", corpora), SHARED)
    [(run_id, alone)] = contents(one).items()
    for found in (of_sweep(by_workers, "shared"), contents(two)):
        assert list(found) == [run_id]
        together = found[run_id]
        assert together["placement.json"]["ranks"] == 2
        assert set(together) == set(alone)
        assert together["spec.json"] == alone["spec.json"]
        assert_alike(together["curve"], alone["curve"])
    output = (two / "runs" / run_id / "output.log").read_text()
    assert {f"rank {number} of 2" in output for number in (0, 1)} == {True}


def assert_alike(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert set(one) == set(other)
        for name, value in other.items():
            if name == "weights_sha256":
                continue
            close = isinstance(value, float)
            assert one[name] == (pytest.approx(value, abs=TOLERANCE) if close else value), name
