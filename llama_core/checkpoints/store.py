"""Checkpoints: written aside, made durable, then committed; damaged ones are skipped.

A checkpoint is two files: `NAME.safetensors` holds tensors, `NAME.json` the place in the run and
the tensors' SHA-256. It exists once the JSON has its final name. Of a model sharded over ranks
each rank writes the shards it holds, `NAME.RANK-of-COUNT.safetensors`, into the same folder; a
tensor in several files is cut along its first dimension, in the order of ranks. Any number of
ranks reads either form.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from llama_core.checkpoints.place import Place, checkpoint_names
from llama_core.files import DRAFTS, sync_folder, write_durably

# All ranks write the same amount; one this late has failed.
_SHARDS_TIMEOUT_S = 600.0
_POLL_S = 0.02


@dataclass(frozen=True)
class Checkpoint:
    """What resuming needs: a place, tensors, and small numbers beside them."""

    place: Place
    tensors: Mapping[str, Tensor]
    notes: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of its files."""
        return self.place.checkpoint_name


@dataclass(frozen=True, slots=True)
class NewestCheckpoint:
    """The newest sound checkpoint, and what is wrong with newer ones."""

    checkpoint: Checkpoint | None
    skipped: tuple[str, ...]


class CheckpointStore:
    """The checkpoints of one run in one folder."""

    def __init__(
        self, folder: Path, *, identity: str, keep: int, rank: int = 0, writers: int = 1
    ) -> None:
        """Args:
        identity: digest of model, recipe and data; checkpoints of another run are refused.
        keep: how many checkpoints stay in the folder.
        rank: which of the writers this is; rank 0 commits.
        writers: ranks that write a checkpoint together, each its own shards.
        """
        self.folder, self.identity, self.keep = folder, identity, keep
        self.rank, self.writers = rank, writers
        self._abandoned = threading.Event()

    def write(self, checkpoint: Checkpoint) -> Path:
        """Make a checkpoint durable without committing it.

        Of several writers rank 0 returns when all have written.

        Returns:
            the path of its header once it is committed.

        Raises:
            TimeoutError: another rank has not written its shards.
            InterruptedError: `abandon` was called while waiting for them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        name, content = checkpoint.name, save(dict(checkpoint.tensors))
        digest = hashlib.sha256(content).hexdigest()
        # The mark of a finished run has no tensors, and rank 0 writes it alone.
        if self.writers == 1 or not checkpoint.tensors:
            write_durably(self._tensors(name), content)
            hashes: dict[str, Any] = {"sha256": digest}
        else:
            write_durably(self._shard(name, self.rank, self.writers), content)
            if self.rank:
                write_durably(self._digest(name, self.rank), digest.encode())
                return self._header(name)
            others = [self._digest_of(name, rank) for rank in range(1, self.writers)]
            hashes = {"shards": [digest, *others]}
        header = {
            "version": 1,
            "identity": self.identity,
            "place": checkpoint.place.to_header(),
            "notes": checkpoint.notes,
            **hashes,
        }
        write_durably(self._pending(name), json.dumps(header, indent=1).encode())
        return self._header(name)

    def commit(self, name: str) -> None:
        """Make a written checkpoint the newest, and remove the oldest ones; only rank 0 does."""
        if self.rank:
            return
        self._pending(name).rename(self._header(name))
        sync_folder(self.folder)
        for digest in self.folder.glob(f"{name}.*.digest"):
            digest.unlink()
        for old in checkpoint_names(self.folder)[: -self.keep]:
            self._header(old).unlink()
            for tensors in self.folder.glob(f"{old}.*safetensors"):
                tensors.unlink()

    def abandon(self) -> None:
        """Stop waiting for other ranks' shards."""
        self._abandoned.set()

    def newest(self, *, tidy: bool = True) -> NewestCheckpoint:
        """The newest checkpoint that is whole.

        Args:
            tidy: remove what unfinished writes left behind.

        Raises:
            ValueError: the folder's checkpoints belong to another run.
        """
        if tidy:
            self._remove_unfinished()
        skipped: list[str] = []
        for name in reversed(checkpoint_names(self.folder)):
            checkpoint = self._load(name)
            if isinstance(checkpoint, Checkpoint):
                return NewestCheckpoint(checkpoint, tuple(skipped))
            skipped.append(f"checkpoint {name} is damaged: {checkpoint}")
        return NewestCheckpoint(None, tuple(skipped))

    def _load(self, name: str) -> Checkpoint | str:
        """The checkpoint, or what is wrong with it."""
        try:
            header = json.loads(self._header(name).read_bytes())
            place, notes = Place.from_header(header), header["notes"]
            identity = header["identity"]
            digests = list(header["shards"]) if "shards" in header else [header["sha256"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"its header cannot be read ({error})"
        if identity != self.identity:
            raise ValueError(
                f"{self._header(name)} belongs to another run: model, recipe or data differ. "
                f"Give each run a checkpoint folder of its own."
            )
        files = [self._tensors(name)]
        if "shards" in header:
            files = [self._shard(name, rank, len(digests)) for rank in range(len(digests))]
        try:
            for path, expected in zip(files, digests, strict=True):
                with path.open("rb") as file:
                    actual = hashlib.file_digest(file, "sha256").hexdigest()
                if actual != expected:
                    return f"SHA-256 of {path.name} is {actual[:12]}…, not {expected[:12]}…"
            return Checkpoint(place, StoredTensors(files), notes)
        except (OSError, SafetensorError) as error:
            return f"its tensors cannot be read ({error})"

    def _remove_unfinished(self) -> None:
        # Drafts of older versions end in `.writing`.
        for pattern in (DRAFTS, "*.pending", "*.digest", "*.writing"):
            for path in self.folder.glob(pattern):
                path.unlink()
        committed = set(checkpoint_names(self.folder))
        for path in self.folder.glob("*.safetensors"):
            if path.name.partition(".")[0] not in committed:
                path.unlink()

    def _digest_of(self, name: str, rank: int) -> str:
        """SHA-256 of another rank's shards, once they are durable."""
        deadline = time.monotonic() + _SHARDS_TIMEOUT_S
        path = self._digest(name, rank)
        while not path.exists():
            if self._abandoned.wait(_POLL_S):
                raise InterruptedError(f"checkpoint {name} was abandoned before it was whole.")
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"rank {rank} has not written its shards of checkpoint {name} into "
                    f"{self.folder} within {_SHARDS_TIMEOUT_S:.0f} s. Ranks that shard a model "
                    f"need a checkpoint folder they all see."
                )
        return path.read_text()

    def _header(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _pending(self, name: str) -> Path:
        return self.folder / f"{name}.json.pending"

    def _tensors(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def _shard(self, name: str, rank: int, writers: int) -> Path:
        return self.folder / f"{name}.{rank}-of-{writers}.safetensors"

    def _digest(self, name: str, rank: int) -> Path:
        return self.folder / f"{name}.{rank}.digest"


class StoredTensors(Mapping[str, Tensor]):
    """Tensors of a checkpoint's files, each read and joined on access."""

    def __init__(self, files: list[Path]) -> None:
        # safetensors has no types for its handles.
        self._holders: dict[str, list[Any]] = {}
        for path in files:
            file: Any = safe_open(path, framework="pt")
            for name in file.keys():  # noqa: SIM118 (not a dict)
                self._holders.setdefault(name, []).append(file)

    def __getitem__(self, name: str) -> Tensor:
        pieces: list[Tensor] = [file.get_tensor(name) for file in self._holders[name]]
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._holders)

    def __len__(self) -> int:
        return len(self._holders)
