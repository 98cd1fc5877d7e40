"""What made a run: code, packages, machine. Written once beside the run."""

import hashlib
import json
import platform
import subprocess
from importlib.metadata import distributions
from pathlib import Path

from flows.rundir import now

_ROOT = Path(__file__).resolve().parent.parent


def provenance() -> str:
    """Provenance as JSON: commit, hash of uncommitted changes, package versions, machine."""
    diff = _git("diff", "HEAD")
    record = {
        "git_commit": _git("rev-parse", "HEAD") or None,
        "git_dirty_sha256": hashlib.sha256(diff.encode()).hexdigest() if diff else None,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
        "host": platform.node(),
        "packages": dict(sorted((d.name, d.version) for d in distributions())),
        "recorded_at": now(),
    }
    return json.dumps(record, indent=1)


def _git(*arguments: str) -> str:
    """Output of git in the source tree; empty where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *arguments],  # noqa: S607 - git is where the user has it
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
