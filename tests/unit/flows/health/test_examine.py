"""Checks without a server: database files, and the disk space that runs need."""

import os
import shlex
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from flows.health import local_checks
from flows.health.databases import databases, inspect, users
from flows.health.local_checks import check_leftovers, check_versions, space_needed
from flows.settings import Home, Settings, open_home
from flows.stack.temporary_server import process_tag
from llama_core.config import Placement
from llama_core.counting import count_params
from tests.fakes import planned_run


@pytest.fixture
def home(tmp_path):
    return open_home(Settings(home=tmp_path))


@pytest.fixture(params=["Prefect", "MLflow"])
def database(request, home):
    return next(one for one in databases(Settings(), home) if one.name == request.param)


def stamp(path, *revisions, tables=("runs",)):
    connection = sqlite3.connect(path)
    for table in tables:
        connection.execute(f"CREATE TABLE {table} (id TEXT)")
    if revisions:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.executemany("INSERT INTO alembic_version VALUES (?)", [(r,) for r in revisions])
    connection.commit()
    connection.close()


def test_a_database_that_is_not_made_yet_is_no_fault(database):
    assert inspect(database, database.path)[0] == "absent"
    database.path.touch()
    assert inspect(database, database.path)[0] == "absent"


def test_a_file_that_is_no_database_is_broken(database):
    database.path.write_bytes(os.urandom(20_000))
    assert inspect(database, database.path)[0] == "broken"


def test_a_page_overwritten_in_the_middle_is_broken(database):
    stamp(database.path, tables=[f"t{number}" for number in range(60)])
    with database.path.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(4096))
    assert inspect(database, database.path)[0] == "broken"


def test_tables_without_the_newest_revision_are_old_and_an_unknown_one_is_newer(database):
    stamp(database.path)
    assert inspect(database, database.path)[0] == "old"
    database.path.unlink()
    stamp(database.path, "no-such-revision")
    state, said = inspect(database, database.path)
    assert state == "newer"
    assert "no-such-revision" in said


def test_processes_with_a_database_open_are_found(database):
    stamp(database.path)
    connection = sqlite3.connect(database.path)
    connection.execute("SELECT * FROM runs").fetchall()
    assert [user.pid for user in users(database.path)] == [os.getpid()]
    connection.close()


def test_a_database_elsewhere_has_no_file_to_repair(home):
    settings = Settings(prefect_db="postgresql://u:p@h/prefect", mlflow_db="postgresql://h/mlflow")
    assert [one.path for one in databases(settings, home)] == [None, None]


def test_space_is_counted_for_all_weights_and_the_checkpoints_at_once(home):
    run = planned_run(width=64)
    total = count_params(run.run.model).total
    one = space_needed([run], home, at_once=1)
    kept = Placement().keep_checkpoints + 1
    # Two horizons: both final weights, and in a branch the trunk beside it.
    assert one == 4 * total * 2 + 12 * total * kept * 2
    assert space_needed([run, run], home, at_once=1) == one + 4 * total * 2
    assert space_needed([run, run], home, at_once=2) == 2 * one
    assert space_needed([], home, at_once=2) == 0


def test_only_drafts_of_dead_writers_go(home):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stale, fresh, elsewhere = (
        home.sweeps / f".plan.json.ab12.{writer}.part"
        for writer in (
            f"{gone.pid}@{socket.gethostname()}",
            f"{os.getpid()}@{socket.gethostname()}",
            f"{gone.pid}@not-{socket.gethostname()}",
        )
    )
    for path in (stale, fresh, elsewhere):
        path.touch()
    [looked] = check_leftovers(Settings(), home, False)
    assert looked.remedy
    assert stale.exists()
    [mended] = check_leftovers(Settings(), home, True)
    assert mended.done
    assert not mended.remedy
    assert not stale.exists()
    assert fresh.exists()
    assert elsewhere.exists()
    assert list(check_leftovers(Settings(), Home(home.root), True)) == []


def test_leftovers_of_killed_writers_of_any_version_are_removed(home):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    run = home.runs / "0123"
    run.mkdir(parents=True)
    scratch = run / f".scratch-ab12.{gone.pid}@{socket.gethostname()}.part"
    scratch.mkdir()
    (scratch / "spec.json").touch()
    # Older versions named no host or no writer; after two days without a change it is gone.
    old = [".arriving-x1y2", "lease.part", ".live.html.part", "000000001-000.safetensors.writing"]
    old.append(f".plan.json.{os.getpid()}.part")
    for name in old:
        (run / name).touch()
        os.utime(run / name, (time.time() - 2 * 86_400,) * 2)
    (run / "report.html.part").touch()
    (run / "curve.jsonl").touch()
    [finding] = check_leftovers(Settings(), home, True)
    assert finding.done
    assert sorted(path.name for path in run.iterdir()) == ["curve.jsonl", "report.html.part"]


def test_the_tag_of_a_process_names_machine_and_pid():
    assert process_tag(7).endswith(":7")
    assert os.uname().nodename in process_tag(7)


@pytest.mark.parametrize("root", [None, Path("/home/ada/isoflop")])
def test_constraints_are_named_only_where_their_file_is(home, monkeypatch, root):
    requirement = "no-such-package>=2"
    monkeypatch.setattr(local_checks, "checkout", lambda: root)
    monkeypatch.setattr(local_checks, "_requirements", lambda: [Requirement(requirement)])
    broken = "mlflow 3.0 has requirement pandas<3, but you have pandas 3.0."
    done = subprocess.CompletedProcess([], 1, stdout=broken, stderr="")
    monkeypatch.setattr(local_checks.subprocess, "run", lambda *_, **__: done)
    remedies = [shlex.split(found.remedy) for found in check_versions(Settings(), home, False)]
    tested = [] if root is None else ["-c", "/home/ada/isoflop/constraints.txt"]
    start = [sys.executable, "-m", "pip", "install", *tested]
    assert remedies == [[*start, requirement], [*start, "mlflow"]]
