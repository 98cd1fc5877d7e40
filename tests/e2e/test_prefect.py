"""The canonical trigger on a real server, with real workers."""

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import polars as pl
import pytest

from flows.stack.servers import free_port, healthy
from tests.conftest import ROOT, bare_environment

SWEEP = ("sweep/chinchilla", "smoke")
STUDY = ("tune/lr-batch", "lr-batch")
OVERRIDES = ["name=by-workers", "seeds=[3]", "ladder.widths=[16, 32]", "grid.budgets=[2e10]"]


@pytest.fixture
def stack(isoflop, home):
    ports = {
        "ISOFLOP_PREFECT_PORT": str(free_port("127.0.0.1")),
        "ISOFLOP_MLFLOW_PORT": str(free_port("127.0.0.1")),
        "ISOFLOP_DASHBOARD_PORT": str(free_port("127.0.0.1")),
    }
    done = isoflop("up", "--workers", "2", **ports)
    assert done.returncode == 0, done.stderr
    yield ports
    down = isoflop("down", **ports)
    assert down.returncode == 0, down.stderr
    assert "stopped 6 processes" in down.stdout
    assert not healthy(f"http://127.0.0.1:{ports['ISOFLOP_PREFECT_PORT']}/api/health")


@pytest.mark.timeout(600)
def test_prefect_deployment_run_trains_a_sweep_on_the_workers(stack, home, isoflop):
    assert "running" in isoflop("status", **stack).stdout
    with started(stack, home, OVERRIDES, *SWEEP) as sweep:
        said = sweep.communicate(timeout=400)[0]
    assert sweep.returncode == 0, said
    table = pl.read_parquet(home / "sweeps" / "by-workers" / "observations.parquet")
    assert table["status"].unique().to_list() == ["finished"]
    assert table.height == 2
    assert (home / "sweeps" / "by-workers" / "report.html").exists()
    shown = httpx.post(f"{api_of(stack)}/flow_runs/filter", json={}).json()
    assert "by-workers" in [run["name"] for run in shown]
    # What a worker trained is what a child process would have: found, not trained again.
    command = ["sweep", "smoke", *(part for one in OVERRIDES for part in ("--set", one))]
    again = isoflop(*command, **stack)
    # Two losses give no law.
    assert again.returncode == 1, again.stderr
    assert "every run of this sweep is finished" in again.stderr


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("asked", "overrides"),
    [
        (SWEEP, ["seeds=[4]", "ladder.widths=[16, 32]", "grid.budgets=[2e11]"]),
        (
            STUDY,
            [
                *("train_seed=4", "ladder.widths=[16]", "tokens=[20480, 409600]"),
                *("eval_tokens=4096", "trials=9"),
            ],
        ),
    ],
    ids=["sweep", "study"],
)
def test_a_cancelled_sweep_or_study_leaves_nothing_running_and_resumes(
    stack, home, isoflop, asked, overrides
):
    """Cancelled while it trains; the run that another sweep finished is not what is trained."""
    # Cancelled as soon as it is started, before it has a plan.
    early, late = (f"{word}-{asked[1]}" for word in ("called-off", "cancelled"))
    with started(stack, home, [f"name={early}", *overrides], *asked) as flow:
        deadline = time.monotonic() + 120
        while (done := isoflop("cancel", early, **stack)).returncode == 2:
            assert time.monotonic() < deadline
            assert f"no sweep '{early}'" in done.stderr
        assert done.returncode == 0, done.stderr
        assert f"stopped {early}" in done.stdout
        flow.communicate(timeout=120)
    with started(stack, home, [f"name={late}", *overrides], *asked) as flow:
        deadline = time.monotonic() + 400
        while not list(home.glob("runs/*/lease.json")):
            assert time.monotonic() < deadline
            assert flow.poll() is None, flow.communicate()[0]
            time.sleep(0.1)
        cancelled = isoflop("cancel", late, **stack)
        assert cancelled.returncode == 0, cancelled.stderr
        assert f"stopped {late}" in cancelled.stdout
        flow.communicate(timeout=120)
    found = httpx.post(f"{api_of(stack)}/flow_runs/filter", json={}).json()
    assert {run["state"]["type"] for run in found} <= {"CANCELLED", "CRASHED", "COMPLETED"}
    assert not list(home.glob("runs/*/lease.json"))
    with started(stack, home, [f"name={late}", *overrides], *asked) as flow:
        said = flow.communicate(timeout=400)[0]
    assert flow.returncode == 0, said


def api_of(stack):
    return f"http://127.0.0.1:{stack['ISOFLOP_PREFECT_PORT']}/api"


@contextmanager
def started(stack, home, overrides, deployment, spec):
    """The canonical trigger, under way; it ends with the test, however that ends."""
    process = subprocess.Popen(
        [
            *(Path(sys.executable).with_name("prefect"), "deployment", "run", deployment),
            *("--watch", "-p", f"spec={spec}", "-p", f"overrides={json.dumps(overrides)}"),
        ],
        cwd=ROOT,
        env={
            **bare_environment(),
            "PREFECT_API_URL": api_of(stack),
            "PREFECT_HOME": str(home / "prefect-client"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_prefect_deployment_run_tunes_on_the_workers(stack, home):
    overrides = [
        *("name=tuned-by-workers", "ladder.widths=[16]", "tokens=[20480, 40960]"),
        *("eval_tokens=4096", "trials=9"),
    ]
    with started(stack, home, overrides, *STUDY) as study:
        said = study.communicate(timeout=600)[0]
    assert study.returncode == 0, said
    trials = pl.read_csv(home / "tunes" / "tuned-by-workers" / "trials.csv")
    assert trials["trial"].unique().sort().to_list() == list(range(9))
