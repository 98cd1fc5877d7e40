"""Check and repair the SQLite files of Prefect and MLflow.

A server that is killed while it makes its tables leaves a database that it cannot open. No result
is in it: the file is set aside, never deleted, and `isoflop sync` fills a new one for MLflow.
"""

import os
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from analysis.words import counted
from flows.processes import SAFE_PATH
from flows.settings import Home, Settings, sqlite_url

_SIDECARS = ("", "-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Database:
    """Prefect's or MLflow's database.

    Attributes:
        server: the process of the stack that uses it.
        path: the SQLite file; None when the records are kept elsewhere.
        migrations: the folder of its migration scripts, one file a revision.
    """

    name: str
    server: str
    path: Path | None
    migrations: Path

    def upgrade(self, path: Path, home: Home) -> str:
        """Bring the tables to the newest revision; returns the error, empty without one."""
        command, environment = {
            "MLflow": (["mlflow", "db", "upgrade", sqlite_url(path)], {}),
            "Prefect": (
                ["prefect", "server", "database", "upgrade", "--yes"],
                {
                    "PREFECT_API_DATABASE_CONNECTION_URL": sqlite_url(path, "aiosqlite"),
                    "PREFECT_HOME": str(home.root / "prefect"),
                },
            ),
        }[self.name]
        done = subprocess.run(
            [sys.executable, "-m", *command],
            env={**os.environ, **SAFE_PATH, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        state, description = inspect(self, path)
        if done.returncode == 0 and state == "whole":
            return ""
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines()]
        errors = [line for line in lines if "rror" in line and not line.startswith("(Background")]
        return errors[-1][:200] if done.returncode and errors else description


# `closed`: SQLite cannot open it now, as on a full disk, and what it holds is unknown.
State = Literal["absent", "whole", "old", "newer", "broken", "closed"]
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def databases(settings: Settings, home: Home) -> list[Database]:
    """Prefect's and MLflow's databases by the settings."""
    prefect = Path(str(find_spec("prefect").submodule_search_locations[0]))  # type: ignore[union-attr, index]
    mlflow = Path(str(find_spec("mlflow").submodule_search_locations[0]))  # type: ignore[union-attr, index]
    return [
        Database(
            "Prefect",
            "prefect-server",
            _sqlite_path(settings.prefect_database(home)),
            prefect / "server/database/_migrations/versions/sqlite",
        ),
        Database(
            "MLflow",
            "mlflow-server",
            _sqlite_path(settings.mlflow_database(home)),
            mlflow / "store/db_migrations/versions",
        ),
    ]


def inspect(database: Database, path: Path) -> tuple[State, str]:
    """The state of the tables, and a description of it. Changes nothing in them."""
    if not path.exists() or not path.stat().st_size:
        return "absent", "not made yet"
    # SQLite first rolls back what a killed writer had begun, as for every reader.
    try:
        with closing(
            sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=10)
        ) as connection:
            [verdict] = connection.execute("PRAGMA quick_check(1)").fetchone()
            named = "SELECT name FROM sqlite_master WHERE type='table'"
            tables = {name for (name,) in connection.execute(named)}
            stamped = []
            if "alembic_version" in tables:
                stamped = [row[0] for row in connection.execute("SELECT * FROM alembic_version")]
    except sqlite3.DatabaseError as error:
        # The low byte of an extended code is its kind.
        broken = getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN
        return "broken" if broken else "closed", f"cannot be read ({error})"
    if verdict != "ok":
        return "broken", f"is damaged ({verdict})"
    if not tables:
        return "absent", "not made yet"
    known, head = _revisions(database.migrations)
    if stamped == [head]:
        return "whole", f"at revision {head}"
    if len(stamped) == 1 and stamped[0] not in known:
        return "newer", f"was made by a newer {database.name} (revision {stamped[0]})"
    at = f"revision {stamped[0]}" if len(stamped) == 1 else f"{len(stamped)} revisions"
    return "old", f"is at {at} of {head}, with {counted(len(tables), 'table')}"


def users(path: Path) -> list[psutil.Process]:
    """Processes of this user that have the file open."""
    processes = []
    for process in psutil.process_iter():
        try:
            if any(opened.path == str(path) for opened in process.open_files()):
                processes.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess, OSError):
            continue
    return processes


def upgrade_or_set_aside(database: Database, home: Home) -> tuple[str, bool]:
    """Repair a database that no process has open; returns what was done and whether rows were lost.

    A copy is upgraded first and replaces the file if that succeeds. Otherwise the file is set
    aside, and the server makes a new one.
    """
    assert database.path is not None
    path = database.path
    copy = path.with_name(f".{path.name}.repairing")
    reason = inspect(database, path)[1]
    if inspect(database, path)[0] == "old":
        _copy(path, copy)
        reason = database.upgrade(copy, home)
        if not reason:
            aside = _set_aside(path)
            copy.replace(path)
            return f"its tables were completed; the file as it was is {aside.name}", False
        _remove(copy)
    aside = _set_aside(path)
    return f"set aside as {aside.name} ({reason}); a new one takes its place", True


def _sqlite_path(address: str) -> Path | None:
    try:
        url = make_url(address)
    except ArgumentError:
        return None
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def _revisions(migrations: Path) -> tuple[set[str], str]:
    """All revisions of a folder of alembic scripts, and the newest."""
    pattern = re.compile(r"^(down_)?revision(?:\s*:[^=]+)?\s*=\s*['\"]([^'\"]+)['\"]", re.MULTILINE)
    revisions: set[str] = set()
    followed: set[str] = set()
    for script in migrations.glob("*.py"):
        for down, revision in pattern.findall(script.read_text()):
            (followed if down else revisions).add(revision)
    [head] = revisions - followed
    return revisions, head


def _copy(path: Path, copy: Path) -> None:
    """Copy the file, including what is still in the write-ahead log."""
    _remove(copy)
    with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()


def _set_aside(path: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside = path.with_name(f"{path.name}.set-aside-{stamp}")
    for ending in _SIDECARS:
        part = path.with_name(path.name + ending)
        if part.exists():
            part.rename(aside.with_name(aside.name + ending))
    return aside


def _remove(path: Path) -> None:
    for ending in _SIDECARS:
        path.with_name(path.name + ending).unlink(missing_ok=True)
