"""Records come in order, and a checkpoint is committed only after its record was taken."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from llama_core.outbox import Outbox
from llama_core.records import CheckpointRecord


class Store:
    """A store whose writing ends when it is let go."""

    def __init__(self):
        self.go, self.log = threading.Event(), []

    def write(self, checkpoint):
        self.go.wait()
        self.log.append(f"wrote {checkpoint.name}")
        return Path(f"/{checkpoint.name}.json")

    def commit(self, name):
        self.log.append(f"committed {name}")

    def abandon(self):
        self.log.append("abandoned")
        self.go.set()


@pytest.fixture
def store():
    return Store()


def checkpoint(step):
    return SimpleNamespace(name=f"c{step}", place=SimpleNamespace(step=step))


def test_records_are_held_back_while_a_checkpoint_is_written(store):
    outbox = Outbox(store)
    assert list(outbox.put("a")) == ["a"]
    assert list(outbox.begin(checkpoint(7), tokens=70, horizon=None)) == []
    assert outbox.busy
    assert list(outbox.put("b")) == []
    store.go.set()
    outbox._writing.result()
    records = outbox.put("c")
    first = next(records)
    assert isinstance(first, CheckpointRecord)
    assert (first.step, first.tokens, first.horizon, first.path) == (7, 70, None, "/c7.json")
    # Not committed before the listener asks for the next record.
    assert store.log == ["wrote c7"]
    assert list(records) == ["b", "c"]
    assert store.log == ["wrote c7", "committed c7"]
    assert not outbox.busy
    assert list(outbox.put("d")) == ["d"]
    outbox.close()


def test_the_next_checkpoint_begins_after_the_one_before(store):
    store.go.set()
    outbox = Outbox(store)
    list(outbox.begin(checkpoint(7), tokens=70, horizon=None))
    outbox._writing.result()
    [first] = outbox.begin(checkpoint(9), tokens=90, horizon=100)
    assert first.step == 7
    assert store.log[:2] == ["wrote c7", "committed c7"]
    [second] = outbox.flush()
    assert (second.step, second.tokens, second.horizon) == (9, 90, 100)
    assert list(outbox.flush()) == []
    outbox.close()


def test_an_outbox_that_is_closed_abandons_what_was_not_committed(store):
    outbox = Outbox(store)
    list(outbox.begin(checkpoint(7), tokens=70, horizon=None))
    outbox.close()
    assert store.log[0] == "abandoned"
    assert "committed c7" not in store.log


def test_without_a_store_nothing_is_written_or_held_back():
    outbox = Outbox(None)
    assert list(outbox.begin(checkpoint(7), tokens=70, horizon=None)) == []
    assert list(outbox.put("a")) == ["a"]
    assert list(outbox.flush()) == []
    outbox.close()
