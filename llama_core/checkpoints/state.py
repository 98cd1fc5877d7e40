"""Training state as tensors: captured, restored, hashed."""

import hashlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from llama_core.optim import AnyOptimizer
from llama_core.parallel import own_shard, sharded_like

Tensors = dict[str, Tensor]


def capture(model: torch.nn.Module, optimizer: AnyOptimizer) -> Tensors:
    """A copy of weights, moments and the step count, by name."""
    return {name: tensor.clone() for name, tensor in _state(model, optimizer)}


@torch.no_grad()
def restore(tensors: Mapping[str, Tensor], model: torch.nn.Module, optimizer: AnyOptimizer) -> None:
    """Restore what `capture` copied, or what a checkpoint holds, in place."""
    for name, tensor in _state(model, optimizer):
        tensor.copy_(sharded_like(tensors[name], tensor))


def trunk_of(
    tensors: Mapping[str, Tensor], model: torch.nn.Module, optimizer: AnyOptimizer
) -> Tensors:
    """The trunk's part of a checkpoint written on a branch; empty for one on the trunk."""
    return {
        name: sharded_like(tensors[f"trunk.{name}"], tensor).to(tensor.device)
        for name, tensor in _state(model, optimizer)
        if f"trunk.{name}" in tensors
    }


def stored_state(state: Tensors, trunk: Tensors, *, leads: bool) -> Tensors:
    """The tensors this rank writes of a checkpoint, on the CPU: its shards; rank 0 the rest too."""
    both = state | {f"trunk.{name}": tensor for name, tensor in trunk.items()}
    mine = {name: own_shard(tensor) for name, tensor in both.items()}
    return {
        name: tensor.cpu() for name, tensor in mine.items() if leads or tensor is not both[name]
    }


def _state(model: torch.nn.Module, optimizer: AnyOptimizer) -> Iterator[tuple[str, Tensor]]:
    for name, weight in model.named_parameters():
        yield f"weight.{name}", weight.detach()
        for key, value in optimizer.state[weight].items():
            yield f"{key}.{name}", value.detach()


def tensors_sha256(tensors: Tensors) -> str:
    """Hash of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
