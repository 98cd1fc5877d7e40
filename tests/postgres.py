"""A PostgreSQL of our own for as long as a test needs it."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from flows.stack.servers import free_port

_START_S = 180.0


@dataclass(frozen=True)
class Cluster:
    """A running server. Its one user may do everything and has a password."""

    port: int
    password: str

    def address(self, database: str = "postgres") -> str:
        """URL of a database."""
        return f"postgresql://isoflop:{self.password}@127.0.0.1:{self.port}/{database}"

    def create(self, *databases: str) -> None:
        """Make empty databases."""
        with psycopg.connect(self.address(), autocommit=True) as connection:
            for database in databases:
                connection.execute(f'CREATE DATABASE "{database}"')


@contextmanager
def private_cluster() -> Iterator[Cluster]:
    """A fresh cluster on a free port; skips by name where PostgreSQL is not installed."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="isoflop-postgres-"))
    account = _account()
    password = secrets.token_hex(8)
    port = free_port("127.0.0.1")
    # Not in the data folder, which must be empty.
    word = folder / "password"
    word.write_text(password)
    if account:
        for path in (folder, word):
            shutil.chown(path, account, account)
    try:
        subprocess.run(
            [
                *(programs / "initdb", "--pgdata", folder / "data", "--username", "isoflop"),
                *("--auth", "scram-sha-256", "--pwfile", word),
            ],
            user=account,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        with (folder / "server.log").open("wb") as log:
            server = subprocess.Popen(
                [
                    *(programs / "postgres", "-D", folder / "data", "-p", str(port)),
                    *("-c", "listen_addresses=127.0.0.1"),
                    *("-c", f"unix_socket_directories={folder}"),
                ],
                user=account,
                cwd=folder,
                stdout=log,
                stderr=log,
            )
        cluster = Cluster(port, password)
        try:
            _wait(cluster, server, folder / "server.log")
            yield cluster
        finally:
            # SIGINT ends its clients too, where SIGTERM would wait for them.
            server.send_signal(signal.SIGINT)
            server.wait(30)
    finally:
        shutil.rmtree(folder)


def _wait(cluster: Cluster, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            psycopg.connect(cluster.address(), connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text()) from None
            time.sleep(0.1)


def _programs() -> Path:
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    # Debian keeps them out of the path, one folder a version.
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]))
    if not found:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    return found[-1]


def _account() -> str | None:
    """PostgreSQL refuses to run as root; its own account then."""
    if os.geteuid():
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("as root PostgreSQL needs the account postgres, and there is none")
