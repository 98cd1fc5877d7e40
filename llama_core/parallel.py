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

    `leads` is true on the rank that writes files. Every rank yields the same records; only
    the leader's are to be kept.
    """

    def __init__(self, placement: Placement) -> None:
        together = dist.is_initialized()
        self.count = dist.get_world_size() if together else 1
        self.rank = dist.get_rank() if together else 0
        self.sharding = placement.sharding
        self._mesh: DeviceMesh | None = None

    @property
    def writers(self) -> int:
        """How many ranks write a checkpoint together."""
        return self.count if self.sharding == "shard" else 1

    @property
    def writes(self) -> bool:
        """Whether this rank writes checkpoints, its own shards or all of them."""
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
            return DistributedDataParallel(net)
        from torch.distributed.fsdp import fully_shard  # slow, and few trainings need it

        self._mesh = init_device_mesh(net.embed_tokens.weight.device.type, (self.count,))
        for layer in net.layers:
            fully_shard(layer, mesh=self._mesh)
        # Sharded again after an evaluation too, when no backward pass does it.
        fully_shard(net, mesh=self._mesh, reshard_after_forward=True)
        return net

    def part(self) -> None:
        """Let go of the group, so that it can end; nothing may be asked of the ranks after."""
        # DTensor's caches keep every mesh there was, and since torch 2.13 a mesh keeps its group.
        getattr(self._mesh, "_pg_registry", {}).clear()

    def share(self, rows: Tensor) -> Tensor:
        """This rank's rows of a batch."""
        return rows[self.rank :: self.count]

    def quiet(self, module: nn.Module, *, last: bool) -> AbstractContextManager[None]:
        """Hold gradients back from the other ranks until a step's last micro-batch."""
        if isinstance(module, DistributedDataParallel) and not last:
            held: AbstractContextManager[None] = module.no_sync()
            return held
        return nullcontext()

    def sum(self, value: Tensor) -> float:
        """Sum over ranks."""
        if self.count > 1:
            dist.all_reduce(value)
        return float(value)

    def agree(self, flag: bool) -> bool:
        """What the leader says; clocks differ between ranks."""
        if self.count == 1:
            return flag
        said = [flag]
        dist.broadcast_object_list(said, src=0)
        return said[0]

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.count > 1:
            dist.barrier()


def whole(tensor: Tensor) -> Tensor:
    """A tensor with all its shards; every rank must ask."""
    return tensor.full_tensor() if _is_sharded(tensor) else tensor


def own_shard(tensor: Tensor) -> Tensor:
    """The part of a tensor that this rank holds; the tensor itself where it is not sharded."""
    return tensor.to_local() if _is_sharded(tensor) else tensor


def sharded_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor cut up as another is."""
    if _is_sharded(like) and not _is_sharded(tensor):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
    return tensor


def _is_sharded(tensor: Tensor) -> "TypeGuard[DTensor]":
    # Importing DTensors takes as long as a short training; without that there are none.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


@contextmanager
def torchrun_group(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes where torchrun started this one; the device this rank uses.

    On leaving, the group is gone and so are its threads. A thread of gloo's that lets go of a
    collective's tensors while the interpreter ends aborts the process.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield device
        return
    # Imported while there is no group: functions of torch.distributed.nn, which this loads, take
    # the group of the moment as a default argument and would keep it for ever.
    import torch.distributed.fsdp

    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()
        # Modules that were wrapped for several ranks hold the group, and stand in cycles.
        gc.collect()
