"""What the doctor takes for a fault, from which limits on, and what it then does."""

import os
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.states import Pending, Running

from flows.files import write_whole
from flows.health import databases as database_module
from flows.health import local_checks, stack_checks
from flows.health.databases import Database, _revisions, _sqlite_path, inspect, upgrade_or_set_aside
from flows.health.local_checks import _at_once, _is_leaving, check_disk
from flows.health.stack_checks import _why_dead, check_mirror, check_workers
from flows.plans.plan import sweep_folder
from flows.runs.directory import RunDir
from flows.settings import Settings, open_home
from flows.stack.processes import Process
from flows.stack.temporary_server import process_tag
from sweeps.load import load_spec
from sweeps.plan import Plan
from sweeps.spec import DataRef
from tests.fakes import finished_run, planned_run

GONE = 2**22 + 1


@pytest.fixture
def home(tmp_path):
    return open_home(Settings(home=tmp_path))


def keep_plan(home, *runs):
    plan = Plan(spec=load_spec("smoke"), data=DataRef(digest="x"), runs=runs, warnings=())
    write_whole(sweep_folder(plan, home) / "plan.json", plan.model_dump_json())


@pytest.fixture
def database(tmp_path):
    """A database whose migrations are two scripts, and whose upgrade a test gives."""
    scripts = tmp_path / "migrations"
    scripts.mkdir()
    (scripts / "1.py").write_text('revision = "first"\ndown_revision = None\n')
    (scripts / "2.py").write_text("revision: str = 'second'\ndown_revision: str = 'first'\n")
    return Database("Prefect", "prefect-server", tmp_path / "prefect.db", scripts)


def write(path, *revisions, rows=0):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE runs (id TEXT)")
    connection.executemany("INSERT INTO runs VALUES (?)", [(str(row),) for row in range(rows)])
    connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
    connection.executemany("INSERT INTO alembic_version VALUES (?)", [(r,) for r in revisions])
    connection.commit()
    connection.close()


def test_the_newest_revision_is_the_one_that_none_follows(database):
    assert _revisions(database.migrations) == ({"first", "second"}, "second")


@pytest.mark.parametrize(
    ("revisions", "state", "words"),
    [
        (["second"], "whole", "at revision second"),
        (["first"], "old", "is at revision first of second, with 2 tables"),
        ([], "old", "is at 0 revisions of second, with 2 tables"),
        (["first", "second"], "old", "is at 2 revisions of second, with 2 tables"),
        (["third"], "newer", "was made by a newer Prefect (revision third)"),
    ],
)
def test_a_database_is_judged_by_its_revision(database, revisions, state, words):
    write(database.path, *revisions)
    assert inspect(database, database.path) == (state, words)


def test_a_database_without_tables_is_not_made_yet(database):
    connection = sqlite3.connect(database.path)
    connection.execute("PRAGMA user_version = 3")
    connection.commit()
    connection.close()
    assert database.path.stat().st_size
    assert inspect(database, database.path) == ("absent", "not made yet")


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("sqlite:////a/b.db", "/a/b.db"),
        ("sqlite+aiosqlite:////a/b.db", "/a/b.db"),
        ("postgresql://u:p@h/prefect", None),
    ],
)
def test_only_sqlite_has_a_file(address, path):
    found = _sqlite_path(address)
    assert found == path or str(found) == path


def rows_of(path):
    connection = sqlite3.connect(path)
    count = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
    connection.close()
    return count


def test_an_old_database_is_completed_on_a_copy_and_kept_as_it_was(database, home, monkeypatch):
    write(database.path, "first", rows=3)
    upgraded = []

    def upgrade(self, path, home):
        upgraded.append((path, rows_of(path)))
        return ""

    monkeypatch.setattr(Database, "upgrade", upgrade)
    done, lost = upgrade_or_set_aside(database, home)
    assert (lost, done[:27]) == (False, "its tables were completed; ")
    [(copy, rows)] = upgraded
    assert copy != database.path
    assert rows == rows_of(database.path) == 3
    [aside] = database.path.parent.glob("prefect.db.set-aside-*")
    assert rows_of(aside) == 3
    assert aside.name in done
    assert not copy.exists()


@pytest.mark.parametrize("revision", ["first", "third"])
def test_a_database_that_cannot_be_completed_is_set_aside(database, home, monkeypatch, revision):
    write(database.path, revision, rows=3)
    database.path.with_name("prefect.db-wal").touch()
    monkeypatch.setattr(Database, "upgrade", lambda *_: "no such column")
    done, lost = upgrade_or_set_aside(database, home)
    assert lost
    assert not database.path.exists()
    names = {path.name for path in database.path.parent.iterdir() if "set-aside" in path.name}
    [aside] = [name for name in names if not name.endswith("-wal")]
    assert done.startswith(f"set aside as {aside} (")
    assert ("no such column" in done) is (revision == "first")
    assert not list(database.path.parent.glob(".*repairing*"))


@pytest.mark.parametrize(
    ("status", "stderr", "stdout", "state", "error"),
    [
        (0, "", "", "whole", ""),
        (0, "", "", "old", "is old"),
        (1, "Error: a\nKeyError: b\nBackground", "", "old", "KeyError: b"),
        (1, "  (Background on this error at x)", "", "old", "is old"),
        (1, "", "an error " + "x" * 300, "old", ("an error " + "x" * 300)[:200]),
    ],
)
def test_an_upgrade_has_failed_by_its_last_error_or_by_the_tables(
    database, home, monkeypatch, status, stderr, stdout, state, error
):
    calls = []

    def run(command, **options):
        calls.append((command[1:], options["env"]))
        return SimpleNamespace(returncode=status, stderr=stderr, stdout=stdout)

    monkeypatch.setattr(database_module.subprocess, "run", run)
    monkeypatch.setattr(database_module, "inspect", lambda *_: (state, f"is {state}"))
    assert database.upgrade(database.path, home) == error
    [(command, environment)] = calls
    assert command == ["-m", "prefect", "server", "database", "upgrade", "--yes"]
    address = environment["PREFECT_API_DATABASE_CONNECTION_URL"]
    assert address == f"sqlite+aiosqlite:///{database.path}"


@pytest.fixture
def disk(monkeypatch):
    def has(free):
        monkeypatch.setattr(
            local_checks.shutil, "disk_usage", lambda root: SimpleNamespace(free=free)
        )

    return has


def test_a_disk_needs_a_fifth_of_a_gib_and_room_for_the_missing_runs(home, disk, monkeypatch):
    monkeypatch.setattr(local_checks, "space_needed", lambda runs, home, at_once: 2.0**30)
    done, left = planned_run(width=16), planned_run(width=32)
    finished_run(home.root, done)
    keep_plan(home, done, left)
    needed = int(1.2 * 2**30)
    disk(needed)
    assert list(check_disk(Settings(), home, False)) == []
    (home.root / "large").mkdir()
    (home.root / "large" / "file").write_bytes(b"x" * 2**20)
    disk(needed - 1)
    [finding] = check_disk(Settings(), home, False)
    assert finding.what.startswith("1.20 GiB are free, and training 1 run needs 1.20 GiB; ")
    # The largest folder comes first.
    assert f"largest in {home.root}: large 0.00 GiB, " in finding.what


def test_as_many_runs_train_at_once_as_there_are_workers_or_cpus(home, monkeypatch):
    monkeypatch.setattr(local_checks, "usable_cores", lambda: 7)
    assert _at_once(home) == 7
    names = ["prefect-server", "train-worker-0", "train-worker-1", "sweep-worker"]
    processes = [Process(name=name, pid=1, started_at=1.0) for name in names]
    monkeypatch.setattr(local_checks, "registered", lambda home: processes)
    assert _at_once(home) == 2


@pytest.mark.parametrize(("hours", "leaving"), [(23.9, False), (24.1, True)])
def test_a_draft_without_a_writers_name_is_left_over_after_a_day(tmp_path, hours, leaving):
    for name in ("lease.part", ".arriving-x", ".preparing-y", "a.writing", "report.html"):
        path = tmp_path / name
        path.touch()
        at = datetime.now().timestamp() - hours * 3600
        os.utime(path, (at, at))
        assert _is_leaving(path) is (leaving and name != "report.html")


class Client:
    """A Prefect client that knows whether a flow run sent a heartbeat of late."""

    def __init__(self, *, heartbeat=False):
        self.heartbeat = heartbeat

    def read_events(self, which, limit):
        window = which.occurred.until - which.occurred.since
        assert window == timedelta(seconds=90)
        return SimpleNamespace(events=[1] if self.heartbeat else [])


def flow_run(state, *, age_s, pid=None, tags=()):
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    timed = state.model_copy(update={"timestamp": at})
    return SimpleNamespace(id=uuid4(), infrastructure_pid=pid, state=timed, tags=list(tags))


# A name, since each of the processes that run tests has a pid of its own.
HERE, ELSEWHERE = "here", str(GONE)


@pytest.mark.parametrize(
    ("state", "age_s", "pid", "only_ours", "why"),
    [
        # Picked up and never started: when its process is gone, or it has none after a minute.
        (Pending(), 10, None, True, ""),
        (Pending(), 70, None, True, "was picked up 7"),
        (Pending(), 70, HERE, True, ""),
        (Pending(), 70, ELSEWHERE, True, "was picked up 7"),
        (Pending(), 70, ELSEWHERE, False, ""),
        # Running: by its process where all workers are ours, else by its heartbeats.
        (Running(), 10, ELSEWHERE, True, f"its process {GONE} is gone"),
        (Running(), 10, ELSEWHERE, False, ""),
        (Running(), 80, HERE, True, ""),
        (Running(), 100, HERE, True, "sent no heartbeat for 10"),
        (Running(), 10, "host:1", True, ""),
    ],
)
def test_a_flow_run_is_dead_when_no_process_can_be_executing_it(state, age_s, pid, only_ours, why):
    pid = str(os.getpid()) if pid == HERE else pid
    found = _why_dead(Client(), flow_run(state, age_s=age_s, pid=pid), only_ours=only_ours)
    assert found.startswith(why)
    assert bool(found) is bool(why)


def test_a_flow_run_that_sent_a_heartbeat_of_late_is_alive():
    run = flow_run(Running(), age_s=100, pid=HERE)
    assert _why_dead(Client(heartbeat=True), run, only_ours=True) == ""


def test_a_process_of_this_machine_is_known_by_its_tag_whatever_else_is_known():
    gone = flow_run(Running(), age_s=999, tags=["x", process_tag(GONE)])
    assert _why_dead(Client(), gone, only_ours=True) == f"process {GONE} is gone"
    here = flow_run(Running(), age_s=999, tags=[process_tag(os.getpid())])
    assert _why_dead(Client(), here, only_ours=True) == ""


@pytest.fixture
def workers(monkeypatch):
    """Two workers of the stack with given heartbeats, of which some processes live."""

    def of(ages, living):
        processes = [
            Process(name=name, pid=number, started_at=1.0)
            for number, name in enumerate(("prefect-server", "sweep-worker", "train-worker-0"))
        ]
        beats = {name: datetime.now(UTC) - timedelta(seconds=age) for name, age in ages.items()}
        started = []

        def start(settings, home, name, gpus):
            started.append(name)
            return replace(processes[1], name=name, pid=99)

        monkeypatch.setattr(stack_checks, "registered", lambda home: processes)
        monkeypatch.setattr(stack_checks, "server_answers", lambda settings: True)
        monkeypatch.setattr(stack_checks, "prefect_environment", lambda settings, home: {})
        monkeypatch.setattr(stack_checks, "worker_heartbeats", lambda settings: beats)
        monkeypatch.setattr(stack_checks, "alive", lambda process: process.name in living)
        monkeypatch.setattr(stack_checks, "stop", lambda processes: None)
        monkeypatch.setattr(stack_checks, "start_worker", start)
        monkeypatch.setattr(stack_checks, "wait_for_workers", lambda *_, **__: None)
        return started

    return of


def test_a_worker_is_started_again_when_it_died_or_was_silent_for_three_minutes(home, workers):
    both = {"sweep-worker", "train-worker-0"}
    started = workers({"sweep-worker": 170.0}, both)
    assert list(check_workers(Settings(), home, True)) == []
    started = workers({"sweep-worker": 190.0}, both)
    [finding] = check_workers(Settings(), home, False)
    assert finding.what == "sweep-worker (pid 1) has sent no heartbeat for 190 s"
    assert started == []
    started = workers({"sweep-worker": 10.0, "train-worker-0": 10.0}, {"sweep-worker"})
    [finding] = check_workers(Settings(), home, True)
    assert (finding.what, finding.done) == ("train-worker-0 (pid 2) died", "started again")
    assert started == ["train-worker-0"]


def test_a_run_that_only_mlflow_trains_is_brought_up_or_ended(home, monkeypatch):
    done, killed, busy = (planned_run(width=width) for width in (16, 32, 48))
    finished_run(home.root, done)
    for planned in (killed, busy):
        RunDir(home.runs / planned.id).create(planned)
    keep_plan(home, done, killed, busy)
    told = []
    tracker = SimpleNamespace(
        open_runs=lambda: [("smoke", run.id, f"ml-{run.name}") for run in (done, killed, busy)],
        publish=lambda run, planned: told.append(("publish", planned.name)),
        end=lambda mlflow_run: told.append(("end", mlflow_run)),
    )
    monkeypatch.setattr(stack_checks, "open_tracker", lambda settings, home: tracker)
    with RunDir(home.runs / busy.id).locked():
        looked = list(check_mirror(Settings(), home, False))
        assert [finding.what.split()[1] for finding in looked] == [done.id, killed.id]
        assert told == []
        mended = list(check_mirror(Settings(), home, True))
    assert told == [("publish", "d16"), ("end", "ml-d32")]
    assert [finding.done.split()[0] for finding in mended] == ["brought", "ended"]
