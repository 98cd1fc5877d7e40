"""What each rank reads, writes and waits for, by its number and the number of ranks."""

import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from llama_core import parallel as module
from llama_core.config import Placement
from llama_core.parallel import Ranks, own_shard, sharded_like, torchrun_group, whole

CPU = torch.device("cpu")


@pytest.fixture
def rank_of(monkeypatch):
    def of(rank, count, **placement):
        monkeypatch.setattr(module.dist, "is_initialized", lambda: count > 1)
        monkeypatch.setattr(module.dist, "get_world_size", lambda: count)
        monkeypatch.setattr(module.dist, "get_rank", lambda: rank)
        return Ranks(Placement(ranks=count, **placement), CPU)

    return of


def test_a_process_alone_reads_writes_and_decides_everything(rank_of, monkeypatch):
    monkeypatch.setattr(module.dist, "barrier", lambda: pytest.fail("waited"))
    alone = rank_of(0, 1)
    rows, net = torch.arange(6), nn.Linear(2, 2)
    assert alone.share(rows).tolist() == rows.tolist()
    assert alone.wrap(net) is net
    assert (alone.writers, alone.writes, alone.leads) == (1, True, True)
    assert alone.summed(torch.tensor(2.5)) == 2.5
    assert [alone.agree(flag) for flag in (True, False)] == [True, False]
    assert alone.least(7) == 7
    alone.wait()


def test_ranks_share_all_rows_without_one_in_two_shares(rank_of):
    rows = torch.arange(12)
    shares = [rank_of(rank, 3).share(rows).tolist() for rank in range(3)]
    assert shares == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


@pytest.mark.parametrize(
    ("rank", "sharding", "writers", "writes", "leads"),
    [
        (0, "replicate", 1, True, True),
        (1, "replicate", 1, False, False),
        (0, "shard", 3, True, True),
        (2, "shard", 3, True, False),
    ],
)
def test_replicas_have_one_writer_and_shards_one_each(
    rank_of, rank, sharding, writers, writes, leads
):
    found = rank_of(rank, 3, sharding=sharding)
    assert (found.writers, found.writes, found.leads) == (writers, writes, leads)


def test_several_ranks_add_up_wait_and_follow_the_first(rank_of, monkeypatch):
    waits = []

    def follow(flags, src):
        assert src == 0
        flags[0] = True

    def gather(numbers, number):
        numbers[:] = [number + 1, number, number - 2]

    monkeypatch.setattr(module.dist, "all_gather_object", gather)
    monkeypatch.setattr(module.dist, "all_reduce", lambda value: value.mul_(3))
    monkeypatch.setattr(module.dist, "barrier", lambda: waits.append(1))
    monkeypatch.setattr(module.dist, "broadcast_object_list", follow)
    second = rank_of(1, 3)
    assert second.summed(torch.tensor(2.5)) == 7.5
    assert second.agree(False)
    assert second.least(7) == 5
    second.wait()
    assert waits == [1]


def test_gradients_are_exchanged_at_the_last_micro_batch_alone(rank_of, monkeypatch):
    class Replicas:
        def no_sync(self):
            return "no exchange"

    monkeypatch.setattr(module, "DistributedDataParallel", Replicas)
    ranks, replicas = rank_of(0, 2), Replicas()
    assert ranks.gradient_sync(replicas, last=False) == "no exchange"
    assert ranks.gradient_sync(replicas, last=True) != "no exchange"
    with ranks.gradient_sync(nn.Linear(2, 2), last=False):
        pass


def test_a_tensor_that_is_not_sharded_is_its_own_whole_and_shard():
    tensor, like = torch.arange(4.0), torch.arange(4.0)
    assert whole(tensor) is tensor
    assert own_shard(tensor) is tensor
    assert sharded_like(tensor, like) is tensor


@pytest.fixture
def no_fsdp(monkeypatch):
    """Its import takes seconds."""
    monkeypatch.setitem(sys.modules, "torch.distributed.fsdp", ModuleType("fsdp"))


@pytest.mark.parametrize("size", [None, "1", "2"])
def test_only_a_process_of_several_joins_a_group_and_leaves_it(monkeypatch, no_fsdp, size):
    told = []
    monkeypatch.setattr(module.dist, "is_initialized", lambda: False)
    monkeypatch.setattr(module.dist, "init_process_group", told.append)
    monkeypatch.setattr(module.dist, "destroy_process_group", lambda: told.append("left"))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if size is not None:
        monkeypatch.setenv("WORLD_SIZE", size)
    with torchrun_group(CPU) as device:
        assert device == CPU
        inside = list(told)
    assert inside == (["gloo"] if size == "2" else [])
    assert told == (["gloo", "left"] if size == "2" else [])


def test_a_rank_on_a_gpu_takes_the_one_of_its_number(monkeypatch, no_fsdp):
    told = []
    monkeypatch.setattr(module.dist, "is_initialized", lambda: False)
    monkeypatch.setattr(module.dist, "init_process_group", told.append)
    monkeypatch.setattr(module.dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(torch.cuda, "set_device", told.append)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "3")
    with torchrun_group(torch.device("cuda")) as device:
        assert device == torch.device("cuda", 3)
    assert told == [device, "nccl"]
