"""Checkpoints: written aside, made durable, then committed; damaged ones are passed over.

A checkpoint is two files: `NAME.safetensors` holds tensors, `NAME.json` the place in the run and
the tensors' SHA-256. It exists once the JSON bears its final name.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from llama_core.parallel import sharded_like, whole

Tensors = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run stands on its path.

    Attributes:
        segment: index into `schedule.segments`; their number when the run is done.
        step: steps done on this path, from the start of the trunk.
        walked: optimizer steps taken in all, branches included; never falls.
    """

    segment: int
    step: int
    walked: int


@dataclass(frozen=True)
class Checkpoint:
    """What resuming needs: a place, tensors, and small numbers that go with them."""

    place: Place
    tensors: Tensors
    notes: dict[str, Any]

    @property
    def name(self) -> str:
        """Sorts by age."""
        return f"{self.place.walked:09d}-{self.place.segment:03d}"


@dataclass(frozen=True, slots=True)
class Found:
    """The newest sound checkpoint, and what was wrong with newer ones."""

    checkpoint: Checkpoint | None
    skipped: tuple[str, ...]


class CheckpointStore:
    """The checkpoints of one run in one folder."""

    def __init__(self, folder: Path, *, identity: str, keep: int) -> None:
        """Args:
        identity: digest of what the run is; checkpoints of another run are refused.
        keep: how many to leave in the folder.
        """
        self.folder, self.identity, self.keep = folder, identity, keep

    def write(self, checkpoint: Checkpoint) -> Path:
        """Make a checkpoint durable without committing it; the path it will be known by."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = save(checkpoint.tensors)
        write_durably(self._tensors(checkpoint.name), content)
        header = {
            "version": 1,
            "identity": self.identity,
            "place": asdict(checkpoint.place),
            "notes": checkpoint.notes,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        write_durably(self._pending(checkpoint.name), json.dumps(header, indent=1).encode())
        return self._header(checkpoint.name)

    def commit(self, name: str) -> None:
        """Make a written checkpoint the newest, and remove the oldest ones."""
        self._pending(name).rename(self._header(name))
        sync_folder(self.folder)
        names = self._names()
        for old in names[: -self.keep]:
            self._header(old).unlink()
            self._tensors(old).unlink(missing_ok=True)

    def newest(self, *, tidy: bool = True) -> Found:
        """The newest checkpoint that is whole.

        Args:
            tidy: remove what unfinished writes left.

        Raises:
            ValueError: the folder's checkpoints belong to another run.
        """
        if tidy:
            self._remove_unfinished()
        skipped: list[str] = []
        for name in reversed(self._names()):
            checkpoint = self._load(name)
            if isinstance(checkpoint, Checkpoint):
                return Found(checkpoint, tuple(skipped))
            skipped.append(f"checkpoint {name} is damaged: {checkpoint}")
        return Found(None, tuple(skipped))

    def _load(self, name: str) -> Checkpoint | str:
        """The checkpoint, or what is wrong with it."""
        try:
            header = json.loads(self._header(name).read_bytes())
            place, notes = Place(**header["place"]), header["notes"]
            identity, expected = header["identity"], header["sha256"]
        except (ValueError, KeyError, TypeError) as error:
            return f"its header cannot be read ({error})"
        if identity != self.identity:
            raise ValueError(
                f"{self._header(name)} belongs to another run: model, recipe or data differ. "
                f"Give each run a checkpoint folder of its own."
            )
        try:
            with self._tensors(name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != expected:
                return f"SHA-256 is {found[:12]}…, not {expected[:12]}…"
            return Checkpoint(place, load_file(self._tensors(name)), notes)
        except (OSError, SafetensorError) as error:
            return f"its tensors cannot be read ({error})"

    def _names(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def _remove_unfinished(self) -> None:
        for path in (*self.folder.glob("*.pending"), *self.folder.glob("*.writing")):
            path.unlink()
        committed = set(self._names())
        for path in self.folder.glob("*.safetensors"):
            if path.stem not in committed:
                path.unlink()

    def _header(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _pending(self, name: str) -> Path:
        return self.folder / f"{name}.json.pending"

    def _tensors(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def write_durably(path: Path, content: bytes) -> None:
    """Write a file so that after a crash it is there whole or not at all."""
    aside = path.with_name(path.name + ".writing")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def capture(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Tensors:
    """A copy of weights and moments, by name; the step count as a tensor among them."""
    tensors: Tensors = {}
    for name, weight in model.named_parameters():
        tensors[f"weight.{name}"] = weight.detach().clone()
        for key, value in optimizer.state[weight].items():
            tensors[f"{key}.{name}"] = value.detach().clone()
    return tensors


@torch.no_grad()
def restore(
    tensors: Mapping[str, Tensor], model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Put back in place what `capture` copied, or `whole_state` made of it."""
    for name, weight in model.named_parameters():
        weight.copy_(sharded_like(tensors[f"weight.{name}"], weight))
        for key, value in optimizer.state[weight].items():
            value.copy_(sharded_like(tensors[f"{key}.{name}"], value))


def whole_state(state: Tensors, trunk: Tensors) -> Tensors:
    """A checkpoint's tensors, without shards and on the CPU; every rank must ask."""
    both = state | {f"trunk.{name}": tensor for name, tensor in trunk.items()}
    return {name: whole(tensor).cpu() for name, tensor in both.items()}


def trunk_of(tensors: Tensors, device: torch.device) -> Tensors:
    """The trunk's part of a checkpoint written on a branch; empty for one on the trunk."""
    return {
        name.removeprefix("trunk."): tensor.to(device)
        for name, tensor in tensors.items()
        if name.startswith("trunk.")
    }


def tensors_sha256(tensors: Tensors) -> str:
    """Hash of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
