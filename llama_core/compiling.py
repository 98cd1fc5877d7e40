"""Compiled forward and backward passes: one graph of each, or none where nothing can compile."""

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from llama_core.config import Placement

# Graphs of one code object in a process; torch's own limit of 8 is less than a sweep's shapes, and
# beyond it a block would run uncompiled.
_MOST_GRAPHS = 256


def compile_obstacle(device: torch.device) -> str | None:
    """Why nothing can be compiled for a device here, as a sentence; None if it can."""
    if device.type == "cuda" and find_spec("triton") is None:
        return "torch.compile needs the package triton for a GPU, which is not installed."
    usual = "clang++" if sys.platform == "darwin" else "g++"
    compilers = [os.environ.get("CXX", usual)]
    if device.type == "cuda":
        compilers = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang", "cc"]
    if not any(map(shutil.which, compilers)):
        return f"torch.compile needs a compiler, and there is no {' or '.join(compilers)} here."
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "torch.compile needs Python's headers (python3-dev), which are not installed."
    return None


def compiles_whole(placement: Placement, device: torch.device) -> bool:
    """Whether model and loss become one graph, if they are compiled; else each layer does."""
    plain = placement.ranks == 1 and placement.activation_checkpointing == "off"
    return device.type == "cpu" and plain


def compile_net(net: nn.Module, seq_len: int, placement: Placement, device: torch.device) -> None:
    """Make a model ready for a compiler, and compile its layers where each is a graph.

    One graph of model and loss fuses more. But layers are alike, so one compilation serves all of
    them, however many there are; and sharding and recomputation work on layers.

    Raises:
        ValueError: nothing can be compiled here.
    """
    obstacle = compile_obstacle(device)
    if obstacle is not None:
        raise ValueError(
            f"placement.compile is on, but {obstacle} Install it, or set placement.compile=off."
        )
    # Tables of positions are made at the first call. A graph of that call would serve no other.
    with torch.no_grad():
        net(torch.zeros(1, seq_len, dtype=torch.long, device=device))
    # Of this process; torch 2.11 has no argument for it.
    torch._dynamo.config.recompile_limit = _MOST_GRAPHS
    if not compiles_whole(placement, device):
        for layer in net.get_submodule("layers").children():
            layer.compile(dynamic=False, fullgraph=True)


def keep_graphs(folder: Path) -> None:
    """Keep compiled graphs in a folder, where any process with this torch finds them.

    To be called before the first compilation. It compiles in this process and not in workers,
    which a forked process would not have.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder.absolute()))
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run compiled modules as they are written: an evaluation is too short to compile a graph."""
    if "torch._dynamo" not in sys.modules:
        # Nothing was compiled; importing the compiler takes seconds.
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
