"""What made a run: code, packages, machine, device; data, tokenizer, seed and spec."""

import hashlib
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from flows.settings import Home, checkout
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.prepared import find_corpus
from sweeps.spec import PlannedRun


class Environment(BaseModel):
    """Code, packages and machine of one process. Fields of later versions are ignored.

    Attributes:
        git_dirty_sha256: hash of the uncommitted changes to tracked files; None without any.
        lock_sha256: hash of the sorted NAME==VERSION lines of all installed packages.
        device: torch's name for it; None where torch is not loaded.
        device_name: name of the GPU or of the processor.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    git_commit: str | None = None
    git_dirty_sha256: str | None = None
    lock_sha256: str | None = None
    python: str = ""
    machine: str = ""
    processor: str = ""
    host: str = ""
    device: str | None = None
    device_name: str | None = None


class Provenance(Environment):
    """Where a run was first started, and what it was made from.

    Attributes:
        data_sha256: digest of the prepared corpus.
        tokenizer_sha256: None where the corpus is not in this home.
        spec: the resolved run, defaults included; its digest is the run's id.
    """

    packages: dict[str, str] = {}
    data_sha256: str | None = None
    tokenizer_sha256: str | None = None
    seed: int | None = None
    spec: dict[str, Any] | None = None
    recorded_at: float = 0.0


def provenance(planned: PlannedRun, home: Home, device: str, recorded_at: float) -> Provenance:
    """The provenance of a run that is about to train here."""
    try:
        tokenizer = find_corpus(home.root, planned.run.data.digest).manifest.tokenizer_sha256
    except CorpusError:
        tokenizer = None
    return Provenance(
        **environment(device).model_dump(),
        packages=packages(),
        data_sha256=planned.run.data.digest,
        tokenizer_sha256=tokenizer,
        seed=planned.run.train.seed,
        spec=planned.run.model_dump(mode="json"),
        recorded_at=recorded_at,
    )


def environment(device: str | None) -> Environment:
    """The environment of this process, with the code as it was at the first call."""
    commit, diff_sha256 = _code()
    return Environment(
        git_commit=commit,
        git_dirty_sha256=diff_sha256,
        lock_sha256=lock_sha256(packages()),
        python=platform.python_version(),
        machine=platform.machine(),
        processor=processor(),
        host=platform.node(),
        device=device,
        device_name=_device_name(device),
    )


@cache
def _code() -> tuple[str | None, str | None]:
    """The commit, and the hash of the difference from it."""
    diff = _git("diff", "HEAD")
    dirty = hashlib.sha256(diff.encode()).hexdigest() if diff else None
    return _git("rev-parse", "HEAD") or None, dirty


@cache
def packages() -> dict[str, str]:
    """Every installed package and its version."""
    # From the folders' names: reading their contents takes most of a second.
    folders = (folder for path in reversed(sys.path) for folder in Path(path).glob("*.dist-info"))
    named = (folder.stem.rpartition("-") for folder in folders)
    # Where a name lies on the path twice, its first place counts, as it does for an import.
    return dict(sorted({name: version for name, _, version in named}.items()))


def lock_sha256(versions: dict[str, str]) -> str:
    """Hash of a set of package versions: of a lock file with NAME==VERSION lines."""
    lines = "\n".join(f"{name}=={version}" for name, version in sorted(versions.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


@cache
def processor() -> str:
    """The processor's name, from the operating system."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None) or platform.processor()


def _device_name(device: str | None) -> str | None:
    if device is None or not device.startswith("cuda"):
        return processor() if device is not None else None
    import torch

    return torch.cuda.get_device_name(device)


def _git(*arguments: str) -> str:
    """Output of git in the checkout; empty without git, a repository or a checkout."""
    root = checkout()
    if root is None:
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],  # noqa: S607 - git is where PATH has it
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
