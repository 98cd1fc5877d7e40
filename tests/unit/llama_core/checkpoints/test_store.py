"""Checkpoints of several writers; test_train.py tests those of one."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from llama_core.checkpoints.place import Place, newest_place
from llama_core.checkpoints.store import Checkpoint, CheckpointStore
from llama_core.files import write_durably
from tests.disk import DiskOrder

WHOLE = {"weight.a": torch.arange(15.0).view(5, 3), "weight.b": torch.ones(1, 2)}


def stores(folder: Path) -> list[CheckpointStore]:
    return [
        CheckpointStore(folder, identity="run", keep=2, rank=rank, writers=2) for rank in (0, 1)
    ]


def part(rank: int, steps: int) -> Checkpoint:
    """Rank 0 has the first three of five rows, all of one row, and whatever is not sharded."""
    rows = slice(None, 3) if rank == 0 else slice(3, None)
    tensors = {"weight.a": WHOLE["weight.a"][rows].clone()}
    tensors["weight.b"] = WHOLE["weight.b"] if rank == 0 else torch.ones(0, 2)
    if rank == 0:
        tensors["step"] = torch.tensor(float(steps))
    return Checkpoint(Place(0, steps, steps), tensors, {})


def write(folder: Path, steps: int) -> str:
    """Both ranks write at once, as in a training; returns the checkpoint's name."""
    leader, other = stores(folder)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(leader.write, part(0, steps))
        other.write(part(1, steps))
        waiting.result()
    leader.commit(part(0, steps).name)
    return part(0, steps).name


def test_shards_of_two_ranks_are_one_checkpoint_to_a_single_reader(tmp_path):
    write(tmp_path, 1)
    checkpoint = CheckpointStore(tmp_path, identity="run", keep=2).newest().checkpoint
    assert checkpoint is not None
    assert set(checkpoint.tensors) == {*WHOLE, "step"}
    for name, tensor in WHOLE.items():
        assert torch.equal(checkpoint.tensors[name], tensor)


def test_a_damaged_shard_of_any_rank_is_skipped_by_name(tmp_path):
    older = write(tmp_path, 1)
    newest = write(tmp_path, 2)
    shard = tmp_path / f"{newest}.1-of-2.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(bytes(content))
    newest = stores(tmp_path)[0].newest()
    assert newest.checkpoint is not None
    assert newest.checkpoint.name == older
    assert shard.name in newest.skipped[0]
    shard.unlink()
    assert "cannot be read" in stores(tmp_path)[0].newest().skipped[0]


def test_only_the_last_checkpoints_leave_files(tmp_path):
    for steps in range(1, 5):
        write(tmp_path, steps)
    files = {path.name.partition(".")[0] for path in tmp_path.iterdir()}
    assert files == {part(0, 3).name, part(0, 4).name}
    assert len(list(tmp_path.iterdir())) == 2 * 3


def test_a_leader_stops_waiting_for_another_rank_once_abandoned(tmp_path):
    leader, _ = stores(tmp_path)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(leader.write, part(0, 1))
        leader.abandon()
        with pytest.raises(InterruptedError, match="abandoned"):
            waiting.result(timeout=30)
    assert leader.newest().checkpoint is None
    assert not list(tmp_path.iterdir())


def test_missing_shards_are_an_error_that_names_their_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("llama_core.checkpoints.store._SHARDS_TIMEOUT_S", 0.0)
    with pytest.raises(TimeoutError, match="a checkpoint folder they all see"):
        stores(tmp_path)[0].write(part(0, 1))


def test_a_checkpoint_of_the_format_before_places_had_names_is_still_read(tmp_path):
    """The header of v1.3, whose place calls the steps taken `walked`."""
    tensors = save({"weight.a": WHOLE["weight.a"]})
    (tmp_path / "000000046-002.safetensors").write_bytes(tensors)
    header = {
        "version": 1,
        "identity": "run",
        "place": {"segment": 2, "step": 40, "walked": 46},
        "notes": {"guard": {}},
        "sha256": hashlib.sha256(tensors).hexdigest(),
    }
    (tmp_path / "000000046-002.json").write_text(json.dumps(header))
    # A kill of that version left a draft, which is removed.
    (tmp_path / "000000050-002.safetensors.writing").write_bytes(b"")
    newest = CheckpointStore(tmp_path, identity="run", keep=2).newest()
    assert newest.skipped == ()
    assert newest.checkpoint.place == Place(segment=2, step=40, steps_taken=46)
    assert newest.checkpoint.name == "000000046-002"
    assert torch.equal(newest.checkpoint.tensors["weight.a"], WHOLE["weight.a"])
    assert len(list(tmp_path.iterdir())) == 2


def test_the_newest_place_is_that_of_the_newest_header_that_can_be_read(tmp_path):
    assert newest_place(tmp_path / "nowhere") is None
    for steps in (3, 9):
        write(tmp_path, steps)
    assert newest_place(tmp_path) == Place(0, 9, 9)
    (tmp_path / f"{part(0, 9).name}.json").write_text('{"place": {"seg')
    assert newest_place(tmp_path) == Place(0, 3, 3)


def test_a_file_is_on_the_disk_before_it_has_its_name_and_so_is_the_name(tmp_path, monkeypatch):
    disk, path = DiskOrder(monkeypatch), tmp_path / "final_20480.safetensors"
    for content in (b"first", b"second, which is longer"):
        write_durably(path, content)
        assert disk.durable_from_its_renaming_on(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_and_its_name_are_durable_before_an_older_one_goes(tmp_path, monkeypatch):
    disk = DiskOrder(monkeypatch)
    store = CheckpointStore(tmp_path, identity="run", keep=1)
    store.write(part(0, 1))
    store.commit(part(0, 1).name)
    header = store.write(part(0, 2))
    unlinked, unlink = [], Path.unlink

    def checked_unlink(path, *arguments, **settings):
        unlinked.append(disk.durable_from_its_renaming_on(header))
        unlink(path, *arguments, **settings)

    monkeypatch.setattr(Path, "unlink", checked_unlink)
    assert disk.durable_from_its_renaming_on(header.with_suffix(".safetensors"))
    store.commit(part(0, 2).name)
    assert unlinked == [True, True]


def test_as_many_of_the_newest_checkpoints_are_kept_as_configured(tmp_path):
    for keep in (1, 3):
        store = CheckpointStore(tmp_path / str(keep), identity="run", keep=keep)
        for walked in range(1, 6):
            store.write(part(0, walked))
            store.commit(part(0, walked).name)
        kept = sorted(path.stem for path in store.folder.glob("*.json"))
        assert kept == [part(0, walked).name for walked in range(6 - keep, 6)]
