"""Every fault the doctor knows, injected into real servers, real databases and a real disk."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from flows.health.databases import databases, inspect
from flows.runs.directory import RunDir
from flows.settings import Settings, open_home
from flows.stack.processes import registered
from flows.stack.servers import free_port, healthy
from tests.conftest import ROOT, bare_environment

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1800)]

SMALL = ["name=doctored", "ladder.widths=[16, 32]", "grid.budgets=[1e10]"]
LONG = [
    "name=long",
    "ladder.widths=[32]",
    "grid.budgets=[4e12]",
    "grid.tokens_per_param=[0.2, 1000]",
    "placement.threads=1",
]


def settings_of(args):
    return [part for one in args for part in ("--set", one)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A home of its own with the ports of its stack, as the environment of every command."""
    return {
        **bare_environment(),
        "ISOFLOP_HOME": str(tmp_path_factory.mktemp("doctor")),
    }


@pytest.fixture(scope="module")
def ours(place):
    names = ("home", "prefect_port", "mlflow_port", "dashboard_port")
    settings = Settings(**{name: place[f"ISOFLOP_{name.upper()}"] for name in names})
    return settings, open_home(settings)


@pytest.fixture(scope="module")
def command(place):
    def run(*arguments, **more):
        return subprocess.run(
            [Path(sys.executable).with_name("isoflop"), *arguments],
            cwd=ROOT,
            env={**place, **more},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def doctor(command):
    """Findings by check, and the exit status."""

    def run(*arguments, **more):
        done = command("doctor", "--json", "-", *arguments, **more)
        assert done.stdout, done.stderr
        answer = json.loads(done.stdout)
        found = {name: findings for name, findings in answer["checks"].items() if findings}
        assert done.returncode == (1 if answer["left"] else 0)
        return found, done.returncode

    return run


@pytest.fixture(scope="module")
def swept(command, home, place):
    """A finished sweep, so that there is something to lose."""
    (Path(place["ISOFLOP_HOME"]) / "corpora").symlink_to(prepared(home))
    done = command("sweep", "smoke", *settings_of(SMALL))
    # Two losses give no law.
    assert done.returncode == 1, done.stderr
    assert done.stderr.endswith("isoflop: no law; see the report\n")


@pytest.fixture(scope="module")
def stack(command, swept):
    done = command("up", "--workers", "1")
    assert done.returncode == 0, done.stderr
    yield
    command("down")


def prepared(home):
    from flows.plans.plan import make_plan
    from sweeps.load import load_spec

    make_plan(load_spec("smoke", ()), open_home(Settings(home=home)))
    return home / "corpora"


def database(ours, name):
    return next(one for one in databases(*ours) if one.name == name)


def execute(path, statement):
    """Run a statement and close the file: an open database is not repaired."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


def metrics(path):
    return execute(path, "SELECT key, step, value FROM metrics ORDER BY 1, 2")


def named(ours, name):
    return next(process for process in registered(ours[1]) if process.name == name)


def test_a_home_without_faults_is_not_changed(swept, doctor):
    assert doctor() == ({}, 0)


def test_tables_of_a_killed_migration_are_completed_or_remade_with_every_point(swept, ours, doctor):
    kept = database(ours, "MLflow").path
    whole = metrics(kept)
    assert whole
    kept.rename(kept.with_suffix(".kept"))
    kill_in_the_middle_of_migrating(kept, database(ours, "MLflow"))
    found, status = doctor("--dry-run")
    assert (list(found), status) == (["databases"], 1)
    found, status = doctor()
    assert status == 0, found
    assert inspect(database(ours, "MLflow"), kept)[0] == "whole"
    # What a race of several processes leaves: tables, and no revision.
    execute(kept, "DELETE FROM alembic_version")
    found, status = doctor()
    assert status == 0, found
    assert "set aside" in found["databases"][0]["done"]
    assert metrics(kept) == whole
    assert list(kept.parent.glob("mlflow.db.set-aside-*"))


def kill_in_the_middle_of_migrating(path, ours):
    """SIGKILL a process that makes MLflow's tables when it has done some and not all."""
    code = f"from mlflow import MlflowClient; MlflowClient('sqlite:///{path}').search_experiments()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while inspect(ours, path)[0] != "old":
        assert time.monotonic() < deadline
        assert process.poll() is None
    process.kill()
    process.wait()
    assert inspect(ours, path)[0] == "old"


def test_a_damaged_database_of_prefect_is_set_aside_under_its_server(stack, ours, doctor):
    """The server is up and has the file open: it is stopped, and started on a new one."""
    path = database(ours, "Prefect").path
    execute(path, "UPDATE alembic_version SET version_num = 'a9f1d3c2b0e4'")
    found, _ = doctor()
    assert "newer Prefect" in found["databases"][0]["what"]
    execute(path, "DELETE FROM alembic_version")
    found, status = doctor()
    assert status == 0, found
    assert "set aside" in found["databases"][0]["done"]
    assert healthy(f"{ours[0].prefect_api}/health")
    assert inspect(database(ours, "Prefect"), path)[0] == "whole"
    deployed = prefect(ours, "deployment", "ls")
    assert "train/run" in deployed
    assert "sweep/chinchilla" in deployed


def test_a_stack_of_another_version_is_reported_and_up_restarts_it(stack, ours, doctor, command):
    (ours[1].root / "deployed.json").write_text('{"root": "/elsewhere", "sha256": "older"}')
    before = {process.name: process.pid for process in registered(ours[1])}
    found, status = doctor()
    assert (list(found), status) == (["deployments"], 1)
    done = command("up", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "another version" in done.stderr
    after = {process.name: process.pid for process in registered(ours[1])}
    assert set(after) == set(before)
    assert not set(after.values()) & set(before.values())
    assert doctor() == ({}, 0)


def test_a_dead_and_a_hanging_server_are_started_again(stack, ours, doctor):
    os.kill(named(ours, "prefect-server").pid, signal.SIGKILL)
    for process in family(named(ours, "mlflow-server").pid):
        process.suspend()
    looked, status = doctor("--dry-run")
    assert status == 1
    assert {finding["what"].split()[-1] for finding in looked["servers"]} == {"died", "hangs"}
    found, status = doctor()
    assert status == 0, found
    assert len(found["servers"]) == 2
    assert healthy(f"{ours[0].prefect_api}/health")
    assert healthy(f"{ours[0].mlflow_address}/health")


def test_runs_of_a_worker_that_died_are_ended_and_the_worker_comes_back(stack, ours, doctor):
    home = ours[1]
    prefect(ours, "deployment", "run", "sweep/chinchilla", *parameters(LONG))
    [running] = wait_for(lambda: [path for path in home.runs.iterdir() if RunDir(path).busy()], 200)
    worker = named(ours, "train-worker-0")
    for process in family(worker.pid):
        process.kill()
    found, status = doctor()
    assert status == 0, found
    assert [finding["what"].split()[0] for finding in found["workers"]] == ["train-worker-0"]
    # Unless the sweep, which watches the lease itself, was quicker.
    assert all(finding["done"] for finding in found.get("runs in Prefect", []))
    assert named(ours, "train-worker-0").pid != worker.pid
    # The sweep that waited for it starts it again, and the worker goes on with it.
    wait_for(lambda: RunDir(running).busy(), 200)
    found, status = doctor()
    assert "runs in Prefect" not in found


def test_a_run_that_was_picked_up_and_never_started_is_ended(stack, ours, place):
    code = """
import json, os, sys
from flows.stack.servers import prefect_environment
from flows.settings import Settings, open_home
settings = Settings(); home = open_home(settings)
os.environ.update(prefect_environment(settings, home))
from prefect.client.orchestration import get_client
from prefect.states import Pending, Scheduled
from datetime import UTC, datetime, timedelta
import time, flows.health.stack_checks as doctor
with get_client(sync_client=True) as client:
    deployment = client.read_deployment_by_name("train/run")
    later = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=1))
    planned = json.loads(next(home.runs.glob("*/spec.json")).read_text())
    run = client.create_flow_run_from_deployment(
        deployment.id, state=later, parameters={"planned": planned}
    )
    # What a worker does on picking it up, before it dies.
    client.set_flow_run_state(run.id, Pending(), force=True)
    doctor._PENDING_S = 1
    time.sleep(2)
    [looked] = doctor.check_flow_runs(settings, home, False)
    assert client.read_flow_run(run.id).state.is_pending()
    [found] = [f for f in doctor.check_flow_runs(settings, home, True) if "never started" in f.what]
    assert found.done and not found.remedy, found
    assert client.read_flow_run(run.id).state.is_crashed()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=place,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr


def test_runs_that_mlflow_shows_as_running_are_ended(swept, ours, doctor):
    path = database(ours, "MLflow").path
    # A mirror that died before it closed its runs; one of them has lost its result, too.
    execute(path, "UPDATE runs SET status = 'RUNNING', end_time = NULL")
    found, status = doctor()
    assert status == 0, found
    assert found["runs in MLflow"]
    assert "runs in MLflow" not in doctor()[0]


def test_a_disk_too_full_for_the_checkpoints_is_reported(home, doctor, tmp_path):
    """A file system of 4 MiB."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small file system")
    try:
        found, status = doctor(ISOFLOP_HOME=str(small), ISOFLOP_PREFECT_PORT="1")
        assert status == 1
        assert "are free" in found["disk"][0]["what"]
        assert "ISOFLOP_HOME" in found["disk"][0]["remedy"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_fastapi_that_prefect_cannot_start_with_is_reported(doctor, tmp_path):
    noted_by_pip = tmp_path / "fastapi-0.165.0.dist-info"
    noted_by_pip.mkdir()
    (noted_by_pip / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: fastapi\nVersion: 0.165.0\n"
    )
    found, status = doctor(PYTHONPATH=str(tmp_path))
    assert status == 1
    assert "does not start with 0.155" in found["versions"][0]["what"]
    assert "fastapi<0.151,>=0.139" in found["versions"][0]["remedy"]


def test_drafts_of_killed_writers_are_removed_and_of_living_ones_kept(swept, ours, doctor):
    folder = ours[1].sweeps / "doctored"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stale, fresh = (
        folder / f".plan.json.ab12.{pid}@{socket.gethostname()}.part"
        for pid in (gone.pid, os.getpid())
    )
    for draft in (stale, fresh):
        draft.write_text("{")
    found, _ = doctor("--dry-run")
    assert stale.exists()
    found, _ = doctor()
    assert found["leftovers"][0]["done"]
    assert not stale.exists()
    assert fresh.exists()
    fresh.unlink()


@pytest.mark.parametrize("arguments", [("sync",), ("status",), ("down",), ("doctor",)])
def test_a_missing_server_is_one_line_with_the_remedy(command, arguments, tmp_path):
    nowhere = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    done = command(*arguments, ISOFLOP_MLFLOW_URI=nowhere, ISOFLOP_HOME=str(tmp_path))
    told = done.stdout + done.stderr
    assert "Traceback" not in told
    if arguments == ("sync",):
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1
        assert "isoflop doctor" in done.stderr
    if arguments == ("status",):
        assert "isoflop up" in told


def prefect(ours, *arguments):
    settings, home = ours
    done = subprocess.run(
        [Path(sys.executable).with_name("prefect"), *arguments],
        cwd=ROOT,
        env={
            **bare_environment(),
            "PREFECT_API_URL": settings.prefect_api,
            "PREFECT_HOME": str(home.root / "client"),
            "COLUMNS": "200",
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def parameters(overrides):
    return ["-p", "spec=smoke", "-p", f"overrides={json.dumps(overrides)}"]


def family(pid):
    parent = psutil.Process(pid)
    return [*parent.children(recursive=True), parent]


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not (met := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return met
