"""One training on several processes, as torchrun starts them. One process is the usual case."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from llama_core.config import Placement
from llama_core.model import Llama

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


class Ranks:
    """The processes that train one model together. Every rank reads its own rows of each batch.

    Every rank yields the same records; keep only those of the leader, rank 0.
    """

    def __init__(self, placement: Placement, device: torch.device) -> None:
        """Args:
        device: the one this rank trains on.
        """
        self.device = device
        distributed = dist.is_initialized()
        self.count = dist.get_world_size() if distributed else 1
        self.rank = dist.get_rank() if distributed else 0
        self.sharding = placement.sharding
        self._mesh: DeviceMesh | None = None

    @property
    def writers(self) -> int:
        """Number of ranks that write a checkpoint together."""
        return self.count if self.sharding == "shard" else 1

    @property
    def writes(self) -> bool:
        """Whether this rank writes part of a checkpoint."""
        return self.leads or self.writers > 1

    @property
    def leads(self) -> bool:
        """Whether this rank commits checkpoints and writes finished weights."""
        return self.rank == 0

    def wrap(self, net: Llama) -> nn.Module:
        """The module to call: the model itself, replicated (DDP) or sharded in place (FSDP2)."""
        if self.count == 1:
            return net
        if self.sharding == "replicate":
            return DistributedDataParallel(net, gradient_as_bucket_view=True)
        from torch.distributed.fsdp import fully_shard  # slow, and few trainings need it

        self._mesh = init_device_mesh(self.device.type, (self.count,))
        for layer in net.layers:
            fully_shard(layer, mesh=self._mesh)
        # Reshard after an evaluation too, where no backward pass does it.
        fully_shard(net, mesh=self._mesh, reshard_after_forward=True)
        return net

    def release(self) -> None:
        """Release the process group so that it can be destroyed; call nothing here afterwards."""
        # DTensor's caches keep every mesh, and since torch 2.13 a mesh keeps its group.
        getattr(self._mesh, "_pg_registry", {}).clear()

    def share(self, rows: Tensor) -> Tensor:
        """This rank's rows of a batch."""
        return rows[self.rank :: self.count]

    def gradient_sync(self, module: nn.Module, *, last: bool) -> AbstractContextManager[None]:
        """Exchange gradients between ranks only at the last micro-batch of a step."""
        if isinstance(module, DistributedDataParallel) and not last:
            no_sync: AbstractContextManager[None] = module.no_sync()
            return no_sync
        return nullcontext()

    def summed(self, value: Tensor) -> Tensor:
        """Sum over ranks, in place."""
        if self.count > 1:
            dist.all_reduce(value)
        return value

    def agree(self, flag: bool) -> bool:
        """The leader's flag, on every rank; each has its own clock."""
        if self.count == 1:
            return flag
        flags = [flag]
        dist.broadcast_object_list(flags, src=0)
        return flags[0]

    def least(self, number: int) -> int:
        """The least of all ranks' numbers, on every rank; each has its own free memory."""
        if self.count == 1:
            return number
        numbers = [number] * self.count
        dist.all_gather_object(numbers, number)
        return min(numbers)

    def wait(self) -> None:
        """Wait until all ranks have called this."""
        if self.count > 1:
            dist.barrier()


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor, gathered from its shards; every rank must call this."""
    return tensor.full_tensor() if _is_sharded(tensor) else tensor


def own_shard(tensor: Tensor) -> Tensor:
    """This rank's shard of a tensor; the tensor itself if it is not sharded."""
    return tensor.to_local() if _is_sharded(tensor) else tensor


def sharded_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor sharded like another; unchanged if the other is not sharded."""
    if _is_sharded(like) and not _is_sharded(tensor):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
    return tensor


def _is_sharded(tensor: Tensor) -> "TypeGuard[DTensor]":
    # Importing DTensor takes as long as a short training; until it is imported there are none.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


@contextmanager
def torchrun_group(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes if torchrun started this one; yields the device of this rank.

    On exit the group and its threads are destroyed: a gloo thread that releases the tensors of
    a collective while the interpreter exits aborts the process.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield device
        return
    # Imported before there is a group: it loads torch.distributed.nn, whose functions take the
    # current group as a default argument and would keep it forever.
    import torch.distributed.fsdp

    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()
        # Modules wrapped for several ranks hold the group in reference cycles.
        gc.collect()
