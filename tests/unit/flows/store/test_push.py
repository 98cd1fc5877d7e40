"""A store that does not answer is asked again, ever less often, and the last push is the newest."""

import threading
import time
from contextlib import nullcontext

import pytest

from flows.runs.directory import RunDir
from flows.store import push as module
from flows.store.contract import StoreContentError, StoreError
from flows.store.folder import Folder
from flows.store.fsspec_store import FsspecStore
from flows.store.push import pushing_checkpoints, retry


def test_waits_double_up_to_half_a_minute_and_are_logged_once(monkeypatch, caplog):
    waits, errors = [], [StoreError(f"dead {number}") for number in range(8)]
    monkeypatch.setattr(module.time, "sleep", waits.append)

    def action():
        if errors:
            raise errors.pop(0)
        return "done"

    assert retry(action, "pushing run x") == "done"
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert caplog.messages == ["pushing run x: waiting for the store (dead 0)"]


def test_content_that_cannot_be_used_is_not_asked_for_again(monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: pytest.fail("waited"))

    def action():
        raise StoreContentError("damaged")

    with pytest.raises(StoreContentError, match="damaged"):
        retry(action, "fetching run x")


@pytest.mark.parametrize("stopped", [False, True])
def test_the_last_push_comes_once_the_one_under_way_has_ended(tmp_path, monkeypatch, stopped):
    begun, order = threading.Event(), []

    class SlowStore:
        def push(self, run):
            order.append("begins")
            begun.set()
            time.sleep(0.05)
            order.append("ends")

    monkeypatch.setattr(module, "_LOOK_S", 0.001)
    monkeypatch.setattr(module, "progress", lambda run: (False, "newest"))

    with (
        pytest.raises(KeyboardInterrupt) if stopped else nullcontext(),
        pushing_checkpoints(SlowStore(), RunDir(tmp_path)),
    ):
        assert begun.wait(10)
        if stopped:
            raise KeyboardInterrupt
    assert order == ["begins", "ends", "begins", "ends"]


def test_indexes_are_numbered_on_and_an_equal_one_is_not_written_again(tmp_path):
    store = FsspecStore(f"memory://{tmp_path}")
    folder, file = Folder(store, "runs/x"), tmp_path / "file"
    for content, checkpoint in (("a", "1"), ("a", "1"), ("b", "2"), ("c", "3"), ("c", "4")):
        file.write_text(content)
        folder.push({"file": file}, settled=False, checkpoint=checkpoint)
    # The newest and one to fall back on, and only their parts.
    assert [number for number, _ in folder.indexes()] == [4, 3]
    assert len(store.names("runs/x/parts")) == 1
    # One that is farther stays, though a host that was behind pushed after it.
    file.write_text("d")
    for checkpoint in ("0", "1", "2"):
        folder.push({"file": file}, settled=False, checkpoint=checkpoint)
    assert [number for number, _ in folder.indexes()] == [7, 6, 4]
    file.write_text("e")
    folder.push({"file": file}, settled=True, checkpoint="")
    assert [number for number, _ in folder.indexes()] == [8, 7]
