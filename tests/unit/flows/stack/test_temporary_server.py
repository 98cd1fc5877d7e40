"""A sweep's own server starts beside what the sweep prepares."""

import threading
from types import SimpleNamespace

import pytest

from flows.files import try_lock
from flows.settings import Home, Settings
from flows.stack import temporary_server as module
from flows.stack.servers import StackError
from flows.stack.temporary_server import prefect_server


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server that is healthy once its event is set, or dead once it has an error."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    for name in ("PREFECT_HOME", "PREFECT_LOGGING_LEVEL"):
        monkeypatch.setenv(name, "")
    server = SimpleNamespace(healthy=threading.Event(), error=None, stopped=False, lines=[])

    def wait_healthy(address, process, log):
        assert server.healthy.wait(10)
        if server.error is not None:
            raise server.error

    def stop(processes):
        server.stopped = True
        server.healthy.set()

    monkeypatch.setattr(module, "start_prefect_server", lambda *_, **__: SimpleNamespace(pid=1))
    monkeypatch.setattr(module, "process_of", lambda *_: None)
    monkeypatch.setattr(module, "wait_healthy", wait_healthy)
    monkeypatch.setattr(module, "stop", stop)
    # What the function sets is taken back with the environment's other changes.
    monkeypatch.setattr(module, "prefect_environment", lambda *_, **__: {})
    server.open = lambda: prefect_server(Settings(), Home(tmp_path), server.lines.append)
    server.lock = tmp_path / "prefect.lock"
    return server


def lock_is_free(path):
    with path.open("w") as handle:
        return try_lock(handle)


def test_a_sweep_prepares_while_its_server_starts_and_then_waits(server):
    with server.open() as wait:
        # Two servers must not create the tables of one database.
        assert not lock_is_free(server.lock)
        threading.Timer(0.05, server.healthy.set).start()
        wait()
        assert server.lines == ["starting Prefect"]
        assert lock_is_free(server.lock)
        assert not server.stopped
    assert server.stopped


def test_a_server_that_fails_says_so_when_it_is_waited_for(server):
    server.error = StackError("exit 1")
    server.healthy.set()
    with pytest.raises(StackError, match="exit 1"), server.open() as wait:
        wait()
    assert lock_is_free(server.lock)


def test_a_preparation_that_fails_stops_the_server(server):
    with pytest.raises(ValueError, match="no corpus"), server.open():
        raise ValueError("no corpus")
    assert server.stopped
    assert server.lines == []
    assert lock_is_free(server.lock)
