"""Prefect, MLflow and Optuna on a real PostgreSQL."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import optuna
import psutil
import psycopg
import pytest

from flows.runs.directory import RunDir
from sweeps.plan import Plan
from tests.conftest import ROOT, bare_environment, free_ports
from tests.postgres import private_cluster


@pytest.fixture
def cluster():
    with private_cluster() as running:
        running.create("prefect", "mlflow", "optuna")
        yield running


@pytest.fixture
def stack(cluster, isoflop, home, workers):
    environment = {
        **free_ports(),
        "ISOFLOP_PREFECT_DB": cluster.address("prefect"),
        "ISOFLOP_MLFLOW_DB": cluster.address("mlflow"),
    }
    done = isoflop("up", "--workers", str(workers), **environment)
    assert done.returncode == 0, done.stderr
    yield environment
    assert isoflop("down", **environment).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("workers", "count"), [(4, 12), pytest.param(8, 100, marks=pytest.mark.long)]
)
def test_workers_train_every_run_once_with_0_errors(stack, cluster, home, isoflop, count):
    said = run_sweep(stack, home, count)
    assert said.returncode == 0, said.stdout + said.stderr
    runs = [RunDir(home / "runs" / run_id) for run_id in planned_ids(home, count)]
    assert len(runs) == count
    assert all(run.finished() for run in runs)
    for run in runs:
        steps = [row["step"] for row in run.curve.rows() if row["kind"] == "step"]
        assert steps == list(range(1, len(steps) + 1))
    states = query(cluster, "prefect", "SELECT name, state_type FROM flow_run")
    assert Counter(state for _, state in states) == {"COMPLETED": count + 1}
    mirrored = query(
        cluster,
        "mlflow",
        "SELECT value FROM tags WHERE key = 'isoflop.run_id' AND value <> 'report'",
    )
    # Observations and budgets have entries too.
    entries = Counter(entry for (entry,) in mirrored)
    assert set(entries) >= {run.id for run in runs}
    assert set(entries.values()) == {1}
    # The curve of an isoflop has a loss of each seed at one N; a training has each step once.
    [(rows, distinct)] = query(
        cluster,
        "mlflow",
        "SELECT count(*), count(DISTINCT (run_uuid, metrics.key, step)) "
        "FROM metrics JOIN tags USING (run_uuid) "
        "WHERE tags.key = 'isoflop.kind' AND tags.value = 'training'",
    )
    assert rows == distinct > count
    check_password_is_hidden(cluster, home, isoflop("status", **stack), count)


def test_an_optuna_study_lives_in_postgres(cluster):
    for told in (3, 6):
        storage = optuna.storages.RDBStorage(cluster.address("optuna"))
        study = optuna.create_study(study_name="lr", storage=storage, load_if_exists=True)
        study.optimize(lambda trial: trial.suggest_float("lr", 0, 1), n_trials=3)
        assert [trial.number for trial in study.trials] == list(range(told))
        storage.engine.dispose()


def run_sweep(stack, home, count):
    """Trainings of a few steps, the more seeds the more: what is tested is all around them."""
    overrides = [
        f"name=postgres-{count}",
        # Not those of the other number of runs, whose trainings would be taken.
        f"seeds={list(range(count, count + count // 2))}",
        "ladder.widths=[16, 32]",
        "grid.budgets=[2e9]",
        "grid.tokens_per_param=[0.1, 1e4]",
        "eval_tokens=4096",
    ]
    return subprocess.run(
        [
            *(Path(sys.executable).with_name("prefect"), "deployment", "run", "sweep/chinchilla"),
            *("--watch", "-p", "spec=smoke", "-p", f"overrides={json.dumps(overrides)}"),
        ],
        cwd=ROOT,
        env={
            **bare_environment(),
            "PREFECT_API_URL": f"http://127.0.0.1:{stack['ISOFLOP_PREFECT_PORT']}/api",
            "PREFECT_HOME": str(home / "prefect-client"),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def planned_ids(home, count):
    path = home / "sweeps" / f"postgres-{count}" / "plan.json"
    plan = Plan.model_validate_json(path.read_text())
    return [run.id for run in plan.runs]


def query(cluster, database, statement):
    with psycopg.connect(cluster.address(database)) as connection:
        return connection.execute(statement).fetchall()


def check_password_is_hidden(cluster, home, status, count):
    """Refuse the password in anything that isoflop printed, wrote down or put on a command line."""
    assert cluster.password not in status.stdout + status.stderr
    noted = [home / "stack.json", *home.glob("logs/*"), *home.glob("runs/*/*.json")]
    assert len(noted) > count
    assert not [path for path in noted if cluster.password in path.read_text(errors="replace")]
    commands = [" ".join(found.info["cmdline"] or []) for found in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if cluster.password in command]
