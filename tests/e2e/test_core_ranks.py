"""Two processes over gloo train as one does."""

import json
import os
import socket
from pathlib import Path

import pytest

from llama_core.config import Block, Muon, Placement
from llama_core.records import EvalRecord, StepRecord
from llama_core.train import train
from tests.core_tools import batches, recipe, tiny
from tests.forked import FORKED

# Another order of summing gradients in fp32, carried through twenty steps.
TOLERANCE = 1e-5


def train_rank(world, folder, sharding, stop, kind):
    """One rank's training, in a process of its own."""
    os.environ.update(world)
    cfg, model = recipe(10, 20), tiny()
    if kind == "gpt3":
        block = Block(norm="layer", ffn="gelu", positions="learned", biases=True)
        model = tiny(block=block, max_positions=16, tie_embeddings=True)
    if kind == "muon":
        cfg = recipe(10, 20, optimizer=Muon(lr=0.01))
    placement = Placement(
        device="cpu", threads=1, sharding=sharding, micro_batch_rows=1, checkpoint_every_s=1e-9
    )
    rows = []
    records = train(model, cfg, batches(cfg), placement=placement, checkpoints=folder / "c")
    for record in records:
        if isinstance(record, StepRecord):
            rows.append([record.step, record.horizon, record.loss, record.grad_norm])
            if len(rows) == stop and world["RANK"] == "0":
                break
        elif isinstance(record, EvalRecord):
            rows.append([record.step, record.horizon, record.val_loss, 0.0])
    records.close()
    (folder / f"rows-{world['RANK']}.json").write_text(json.dumps(rows))
    # One of gloo's threads that outlives the training can abort the process as it ends.
    threads = [name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")]
    assert not any("gloo" in name for name in threads), f"the group lives on: {threads}"


def train_on(
    ranks: int, folder: Path, sharding: str = "replicate", stop: int = -1, kind: str = "llama"
):
    """Rows of every rank; of the first alone if it stops, which the others cannot survive."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    processes = []
    for rank in range(ranks):
        world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_RANK": str(rank)}
        world |= {"RANK": str(rank), "WORLD_SIZE": str(ranks)}
        processes.append(
            FORKED.Process(target=train_rank, args=(world, folder, sharding, stop, kind))
        )
        processes[-1].start()
    for process in processes:
        process.join(280)
    surviving = processes[:1] if stop > 0 else processes
    assert [process.exitcode for process in surviving] == [0] * len(surviving)
    files = [folder / f"rows-{rank}.json" for rank in range(len(surviving))]
    return [json.loads(file.read_text()) for file in files]


def assert_alike(found, expected, tolerance=TOLERANCE):
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    for one, other in zip(found, expected, strict=True):
        assert one[2:] == pytest.approx(other[2:], abs=tolerance)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return train_on(1, tmp_path_factory.mktemp("alone"))[0]


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["replicate", "shard"])
def test_two_ranks_have_the_losses_of_one_process(tmp_path, alone, sharding):
    first, second = train_on(2, tmp_path, sharding)
    assert first == second
    assert_alike(first, alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "sharding", "tolerance"),
    # Muon orthogonalises in bf16, which rounds a difference of one in 2^24 to one in 2^8.
    [("gpt3", "shard", TOLERANCE), ("muon", "replicate", 1e-3)],
)
def test_two_ranks_train_another_block_and_muon_as_one_process(tmp_path, kind, sharding, tolerance):
    (alone,) = train_on(1, tmp_path / "alone", kind=kind)
    first, second = train_on(2, tmp_path / "together", sharding, kind=kind)
    assert first == second
    assert_alike(first, alone, tolerance=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_checkpoint_reloads_on_another_number_of_ranks(tmp_path, alone, before, after):
    """Stopped on the first branch, so that its trunk is in the checkpoint too."""
    stopped = train_on(before, tmp_path, "shard", stop=9)[0]
    # Of a sharded model every rank has written its own part.
    assert bool(list((tmp_path / "c").glob("*.1-of-2.safetensors"))) == (before == 2)
    resumed = train_on(after, tmp_path, "shard")[0]
    assert resumed[0][0] > 1
    assert_alike(resumed, alone[len(alone) - len(resumed) :])
    assert_alike(stopped, alone[:9])
