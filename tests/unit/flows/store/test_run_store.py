"""One contract for every store; runs arrive complete or not at all."""

import json
import logging
import shutil
import time
from pathlib import Path

import pytest

from flows.files import write_whole
from flows.runs.directory import RunDir, RunResult
from flows.settings import Settings
from flows.store.contract import StoreContentError, StoreError
from flows.store.push import pushing_checkpoints
from flows.store.run_store import RunStore, open_store
from llama_core.config import Placement
from tests.disk import DiskOrder
from tests.fakes import finished_run, planned_run


class Breaking:
    """A store that fails at its n-th write, having written half of it."""

    def __init__(self, store, at):
        self._store, self._left = store, at
        self.get, self.names, self.remove = store.get, store.names, store.remove

    def put(self, name, content):
        self._left -= 1
        if self._left == 0:
            self._store.put(name, content[: len(content) // 2])
        if self._left <= 0:
            raise StoreError("the line is dead")
        self._store.put(name, content)


def trained(home, planned):
    """A run as training leaves it, checkpoint included."""
    run = finished_run(home, planned)
    checkpoint(run, "000000040-003")
    return run


@pytest.fixture
def run(tmp_path):
    return trained(tmp_path / "a", planned_run())


def arrived(store, run):
    """The run as another host gets it."""
    other = RunDir(run.path.parents[2] / "b" / "runs" / run.id)
    RunStore(store).pull(other)
    return other


def checkpoint(run, name):
    run.checkpoints.mkdir(exist_ok=True)
    (run.checkpoints / f"{name}.safetensors").write_bytes(b"weights of " + name.encode())
    (run.checkpoints / f"{name}.json").write_text("{}")


def contents(run):
    return {
        str(path.relative_to(run.path)): path.read_bytes()
        for path in run.path.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def test_a_stored_file_can_be_read_listed_and_removed(store):
    content = bytes(range(256)) * 10
    store.put("runs/a/one", content)
    store.put("runs/a/two", b"")
    store.put("runs/b/other", b"x")
    assert store.get("runs/a/one") == content
    assert store.get("runs/a/two") == b""
    assert sorted(store.names("runs/a")) == ["one", "two"]
    store.remove("runs/a/one")
    assert store.names("runs/a") == ["two"]
    with pytest.raises(StoreError):
        store.get("runs/a/one")


def test_a_missing_folder_is_empty(store):
    assert store.names("runs/none") == []


def test_a_file_put_again_is_replaced(store):
    store.put("f/index", b"longer than")
    store.put("f/index", b"this")
    assert store.get("f/index") == b"this"


def test_a_run_arrives_on_another_host_byte_for_byte(run, store):
    run.place(Placement(threads=3))
    RunStore(store).push(run)
    other = arrived(store, run)
    assert contents(other) == contents(run)
    assert other.finished()


@pytest.mark.parametrize("at", range(1, 7))
def test_a_push_interrupted_at_any_write_leaves_the_previous_one_valid(memory, run, at):
    result = run.result_path.read_text()
    run.result_path.unlink()
    checkpoint(run, "000000030-002")
    (run.checkpoints / "000000040-003.json").unlink()
    RunStore(memory).push(run)
    checkpoint(run, "000000040-003")
    with run.curve_path.open("a") as curve:
        curve.write('{"kind":"diverged"}\n')
    write_whole(run.result_path, result)
    broken = RunStore(Breaking(memory, at))
    try:
        broken.push(run)
        torn = False
    except StoreError:
        torn = True
    other = arrived(memory, run)
    assert other.finished() != torn
    assert (other.checkpoints / "000000030-002.json").exists() == torn
    # What was torn is put there again, and then counts.
    RunStore(memory).push(run)
    RunStore(memory).pull(other)
    assert contents(other)["curve.jsonl"] == contents(run)["curve.jsonl"]
    assert other.finished()


def test_a_damaged_part_is_logged_and_the_older_copy_used(memory, run, caplog):
    result = run.result_path.read_text()
    run.result_path.unlink()
    RunStore(memory).push(run)
    before = set(memory.names(f"runs/{run.id}/parts"))
    write_whole(run.result_path, result)
    RunStore(memory).push(run)
    [part] = set(memory.names(f"runs/{run.id}/parts")) - before
    memory.put(f"runs/{run.id}/parts/{part}", b"flipped")
    with caplog.at_level(logging.WARNING):
        other = arrived(memory, run)
    assert "is damaged" in caplog.text
    assert not other.finished()
    assert other.curve_path.read_bytes() == run.curve_path.read_bytes()


def test_the_older_copy_is_taken_when_the_newest_index_names_a_missing_part(memory, run, caplog):
    run.result_path.unlink()
    RunStore(memory).push(run)
    before = set(memory.names(f"runs/{run.id}/parts"))
    checkpoint(run, "000000050-004")
    RunStore(memory).push(run)
    [part] = set(memory.names(f"runs/{run.id}/parts")) - before
    memory.remove(f"runs/{run.id}/parts/{part}")
    with caplog.at_level(logging.WARNING):
        other = arrived(memory, run)
    assert "not in the store: 1 part" in caplog.text
    assert other.newest_checkpoint() == "000000040-003"
    assert not list(other.path.glob(".*"))


def test_a_placement_that_the_store_lacks_is_not_waited_for(memory, run, tmp_path):
    RunStore(memory).push(run)
    before = set(memory.names(f"runs/{run.id}/parts"))
    run.place(Placement(threads=3))
    RunStore(memory).push(run)
    [part] = set(memory.names(f"runs/{run.id}/parts")) - before
    memory.remove(f"runs/{run.id}/parts/{part}")
    other = RunDir(tmp_path / "b" / "runs" / run.id)
    with pytest.raises(StoreContentError, match="not in the store: 1 part"):
        RunStore(memory).pull(other)


def test_a_push_from_a_host_behind_does_not_replace_newer_work(memory, tmp_path):
    store = RunStore(memory)
    ahead = trained(tmp_path / "a", planned_run())
    store.push(ahead)
    behind = RunDir(tmp_path / "b" / "runs" / ahead.id)
    behind.create(planned_run())
    checkpoint(behind, "000000010-000")
    for number in range(4):
        behind.place(Placement(threads=number + 1))
        store.push(behind)
    third = RunDir(tmp_path / "c" / "runs" / ahead.id)
    store.pull(third)
    assert third.finished()
    assert third.placement().threads == 4


def test_a_folder_ahead_of_the_store_keeps_what_it_has(memory, run):
    store = RunStore(memory)
    run.result_path.unlink()
    store.push(run)
    checkpoint(run, "000000050-003")
    before = contents(run)
    store.pull(run)
    assert contents(run) == before


def test_a_curve_that_is_replaced_by_another_is_set_aside(memory, run, tmp_path):
    store = RunStore(memory)
    store.push(run)
    other = RunDir(tmp_path / "b" / "runs" / run.id)
    other.create(planned_run())
    other.curve_path.write_text('{"kind":"step","step":1}\n')
    store.pull(other)
    assert other.curve_path.read_bytes() == run.curve_path.read_bytes()
    assert (other.path / "curve-set-aside-0.jsonl").read_text() == '{"kind":"step","step":1}\n'


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "checkpoints/../../x", "x.pkl"])
def test_a_path_from_the_store_that_is_no_runs_file_is_refused(memory, run, name, tmp_path):
    RunStore(memory).push(run)
    [index] = [found for found in memory.names(f"runs/{run.id}") if found.startswith("index")]
    told = json.loads(memory.get(f"runs/{run.id}/{index}"))
    told["files"][name] = told["files"]["spec.json"]
    memory.put(f"runs/{run.id}/{index}", json.dumps(told).encode())
    with pytest.raises(StoreError, match="which runs do not have"):
        RunStore(memory).pull(RunDir(tmp_path / "b" / "runs" / run.id))
    assert not (tmp_path / "escaped").exists()


def test_a_run_under_the_name_of_another_is_refused(memory, run, tmp_path):
    store = RunStore(memory)
    posing = RunDir(run.path.with_name("0123456789ab"))
    shutil.copytree(run.path, posing.path)
    store.push(posing)
    with pytest.raises(StoreError, match="the store holds run"):
        store.pull(RunDir(tmp_path / "b" / "runs" / posing.id))


def test_only_the_parts_that_an_index_needs_stay_in_the_store(memory, run):
    run.result_path.unlink()
    for number in range(41, 51):
        checkpoint(run, f"{number:09d}-003")
        RunStore(memory).push(run)
    names = memory.names(f"runs/{run.id}")
    assert sum(name.startswith("index") for name in names) == 2
    # Two checkpoints of two files, of which the headers are alike, and spec and curve once.
    assert len(memory.names(f"runs/{run.id}/parts")) == 5


def test_training_continues_without_the_store_and_catches_up(memory, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("flows.store.push._LOOK_S", 0.02)
    store = Breaking(memory, at=2)
    run = RunDir(tmp_path / "a" / "runs" / planned_run().id)
    run.create(planned_run())
    with caplog.at_level(logging.INFO), pushing_checkpoints(RunStore(store), run):
        checkpoint(run, "000000001-000")
        wait_for(lambda: "trains on, the store is behind" in caplog.text)
        store._left = 1000
        wait_for(lambda: "has caught up" in caplog.text)
        finished_run(tmp_path / "a", planned_run())
    other = arrived(store, run)
    assert other.finished()


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_store_of_no_known_kind_is_refused_with_the_kinds_there_are():
    for address in ("gopher://x/y", "mlflow-artifacts:/folder"):
        with pytest.raises(StoreError, match="mlflow-artifacts://HOST:PORT/FOLDER"):
            open_store(Settings(store=address))


def test_the_result_of_a_failure_does_not_count_as_farther(memory, run, tmp_path):
    store = RunStore(memory)
    failed = run.result().model_copy(update={"status": "failed", "reason": "bug"})
    write_whole(run.result_path, RunResult.model_dump_json(failed))
    store.push(run)
    again = RunDir(tmp_path / "b" / "runs" / run.id)
    again.create(planned_run())
    checkpoint(again, "000000050-003")
    store.pull(again)
    assert again.result() is None


def test_what_arrives_is_on_the_disk_before_it_counts(memory, run, tmp_path, monkeypatch):
    store = RunStore(memory)
    store.push(run)
    disk, other = DiskOrder(monkeypatch), RunDir(tmp_path / "b" / "runs" / run.id)
    order, replace = [], Path.replace

    def noted(path, target):
        order.append(Path(target).name)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", noted)
    store.pull(other)
    assert all(disk.durable(other.path / name) for name in contents(other))
    # Tensors before the header that commits them, and the result after all files it refers to.
    assert order.index("000000040-003.safetensors") < order.index("000000040-003.json")
    assert order.index("curve.jsonl") < order.index("result.json") == len(order) - 1


def test_a_large_file_travels_in_parts_and_arrives_whole(memory, run, monkeypatch):
    monkeypatch.setattr("flows.store.folder._PART_BYTES", 1_000)
    assert run.curve_path.stat().st_size > 5_000
    RunStore(memory).push(run)
    other = arrived(memory, run)
    assert contents(other) == contents(run)
    # A curve that grew costs its last part, not all of it.
    before = len(memory.names(f"runs/{run.id}/parts"))
    with run.curve_path.open("a") as curve:
        curve.write('{"kind":"diverged"}\n')
    RunStore(memory).push(run)
    assert len(memory.names(f"runs/{run.id}/parts")) == before + 1


def test_a_folder_as_far_as_the_store_is_left_alone(memory, run):
    store = RunStore(memory)
    store.push(run)
    before = {path: path.stat().st_ino for path in run.path.rglob("*") if path.is_file()}
    with run.curve_path.open("a") as curve:
        curve.write('{"kind":"step","step":1}\n')
    store.pull(run)
    after = {path: path.stat().st_ino for path in before}
    assert after == before
    assert not list(run.path.glob("curve-set-aside-*"))


def test_the_index_to_fall_back_on_keeps_its_parts(memory, run):
    run.result_path.unlink()
    RunStore(memory).push(run)
    run.place(Placement(threads=2))
    RunStore(memory).push(run)
    before = set(memory.names(f"runs/{run.id}/parts"))
    checkpoint(run, "000000050-003")
    RunStore(memory).push(run)
    # The newest is damaged; what the first two shared is still needed by the second.
    for part in set(memory.names(f"runs/{run.id}/parts")) - before:
        memory.put(f"runs/{run.id}/parts/{part}", b"flipped")
    other = arrived(memory, run)
    assert other.newest_checkpoint() == "000000040-003"


def test_a_checkpoint_that_is_being_written_is_not_pushed(memory, run):
    run.result_path.unlink()
    (run.checkpoints / ".000000050-003.safetensors.77.part").write_bytes(b"half")
    (run.checkpoints / "000000050-003.json.pending").write_text("{}")
    RunStore(memory).push(run)
    other = arrived(memory, run)
    assert {path.name for path in other.checkpoints.iterdir()} == {
        "000000040-003.json",
        "000000040-003.safetensors",
    }
