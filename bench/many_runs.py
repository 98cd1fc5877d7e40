"""Time of the commands in a home with thousands of finished runs.

    python bench/many_runs.py --json out.json          # about five minutes on two quiet cores

The home is made from a recorded demo (a home in which `isoflop sweep demo` has finished): one copy
of its runs for each seed, under their own ids, with losses a fifth of a percent apart. Curves and
weights are hard links to the recorded ones, which saves the disk and not the reading. Seconds of
the clock depend on the machine's other work, seconds of the CPU hardly do.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flows.runs.directory import RunDir
from flows.settings import Home
from sweeps.plan import Plan, plan
from sweeps.spec import PlannedRun

ROOT = Path(__file__).resolve().parent.parent
SYNC = "sync, 200 runs mirrored before"
# What a user waits for, in seconds of the clock on a quiet machine.
LIMITS = {
    "runs, 10,000 runs": 3.0,
    "status, 10,000 runs": 3.0,
    "plan, 2,000 runs": 15.0,
    "export, 1,000 runs": 15.0,
    "report, 1,000 runs": 30.0,
    "sweep of a finished plan, 1,000 runs": 20.0,
    SYNC: 10.0,
}
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--recorded", type=Path, default=Path(".isoflop"), help="a home with a finished demo"
    )
    parser.add_argument("--only", nargs="*", help="beginnings of the rows to measure")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="keeps the homes that are made for later")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(arguments.recorded, arguments.folder or Path(scratch), arguments.only)
        bench.measure(arguments.repeat)
    document = {"machine": machine(), "rows": bench.rows}
    print(f"{document['machine']}\n")
    print(f"{'':40} {'wall s':>8} {'CPU s':>8} {'limit':>7}")
    for row in bench.rows:
        print(f"{row['name']:40} {row['wall_s']:8.2f} {row['cpu_s']:8.2f} {row['limit_s']:7g}")
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1))


class Bench:
    """The homes, and the rows measured in them: the best of several repeats."""

    def __init__(self, recorded: Path, folder: Path, only: Sequence[str] | None) -> None:
        self._recorded, self._folder, self._only = Home(recorded.absolute()), folder, only
        self.rows: list[dict[str, Any]] = []

    def measure(self, repeat: int) -> None:
        """Time every command."""
        ten_thousand = self._home("10000", sweeps=10, seeds=125)
        self._row("runs, 10,000 runs", repeat, ten_thousand, "runs")
        self._row("status, 10,000 runs", repeat, ten_thousand, "status")
        thousand = self._home("1000", sweeps=1, seeds=125)
        seeds = f"seeds={list(range(250))}"
        spec = ("demo", "--set", "name=large", "--set", seeds, "--gpu", "h100")
        self._row("plan, 2,000 runs", repeat, thousand, "plan", *spec)
        exported = self._folder / "exported"
        self._row("export, 1,000 runs", repeat, thousand, "export", "many0", "--to", str(exported))
        # A mirror that refuses at once: the first upload of a thousand runs is another matter.
        nowhere = {"ISOFLOP_MLFLOW_URI": "http://127.0.0.1:9", _RETRIES: "0"}
        self._row("report, 1,000 runs", repeat, thousand, "report", "many0", **nowhere)
        seeds = f"seeds={list(range(125))}"
        finished = ("demo", "--set", "name=many0", "--set", seeds)
        name = "sweep of a finished plan, 1,000 runs"
        self._row(name, repeat, thousand, "sweep", *finished, **nowhere)
        if self._wanted(SYNC):
            mirrored = self._home("sync", sweeps=1, seeds=25, rows=30)
            isoflop(mirrored, "sync")
            self._row(SYNC, repeat, mirrored, "sync")

    def _wanted(self, name: str) -> bool:
        return self._only is None or any(name.startswith(start) for start in self._only)

    def _home(self, name: str, *, sweeps: int, seeds: int, rows: int | None = None) -> Home:
        home = Home(self._folder / name)
        if not home.sweeps.exists():
            make_home(self._recorded, home, sweeps=sweeps, seeds=seeds, rows=rows)
        return home

    def _row(self, name: str, repeat: int, home: Home, *command: str, **environment: str) -> None:
        if not self._wanted(name):
            return
        times = [isoflop(home, *command, **environment) for _ in range(repeat)]
        wall_s, cpu_s = (min(column) for column in zip(*times, strict=True))
        row = {"name": name, "wall_s": wall_s, "cpu_s": cpu_s, "limit_s": LIMITS[name]}
        print(row, file=sys.stderr)
        self.rows.append(row)


def isoflop(home: Home, *command: str, **environment: str) -> tuple[float, float]:
    """Run a command to its end; its seconds by the clock and of the CPU."""
    arguments = [sys.executable, "-m", "flows.cli", *command]
    inherited = {**os.environ, "PYTHONPATH": str(ROOT), "ISOFLOP_HOME": str(home.root)}
    started = time.perf_counter()
    process = subprocess.Popen(
        arguments, env={**inherited, **environment}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"isoflop {' '.join(command)[:80]} failed in {home.root}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime


def make_home(
    recorded: Home, home: Home, *, sweeps: int, seeds: int, rows: int | None = None
) -> None:
    """A home with this many sweeps of this many seeds, each a copy of the recorded demo.

    Args:
        rows: of each curve; None: all, as links.
    """
    for folder in (home.runs, home.sweeps, home.tunes, home.logs, home.artifacts):
        folder.mkdir(parents=True)
    (home.root / "corpora").symlink_to(recorded.root / "corpora")
    first = Plan.model_validate_json((recorded.sweeps / "demo" / "plan.json").read_text())
    sources = {run.run.model: RunDir(recorded.runs / run.id) for run in first.runs}
    for number in range(sweeps):
        own_seeds = tuple(range(number * seeds, (number + 1) * seeds))
        spec = first.spec.model_copy(update={"name": f"many{number}", "seeds": own_seeds})
        planned = plan(spec, first.data)
        folder = home.sweeps / spec.name
        folder.mkdir()
        for run in planned.runs:
            copy = RunDir(home.runs / run.id)
            copy_run(sources[run.run.model], copy, run)
            if rows is not None:
                lines = copy.curve_path.read_text().splitlines(keepends=True)
                copy.curve_path.unlink()
                copy.curve_path.write_text("".join(lines[:rows]))
        # Last: a home without its plan is made again.
        (folder / "plan.json").write_text(planned.model_dump_json(indent=1))


def copy_run(source: RunDir, copy: RunDir, planned: PlannedRun) -> None:
    """A finished run as another seed: the recorded files under the run's own id, other losses."""
    copy.path.mkdir()
    (copy.path / "lock").touch()
    copy.checkpoints.mkdir()
    for path in (source.curve_path, *source.path.glob("*.safetensors")):
        (copy.path / path.name).hardlink_to(path)
    for path in (source.placement_path, source.attempts_path, source.provenance_path):
        shutil.copy(path, copy.path)
    copy.spec_path.write_text(planned.model_dump_json(indent=1))
    result = source.result()
    assert result is not None
    noise = np.random.default_rng(planned.run.train.seed * 1000 + planned.run.model.d_model)
    factor = float(np.exp(noise.normal(0, 0.002)))
    observations = tuple(
        seen.model_copy(
            update={"val_loss": seen.val_loss * factor, "val_bpb": seen.val_bpb * factor}
        )
        for seen in result.observations
    )
    update = {"run_id": planned.id, "observations": observations}
    copy.result_path.write_text(result.model_copy(update=update).model_dump_json(indent=1))


def machine() -> str:
    """Processor, load and versions, in a line."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    date = time.strftime("%Y-%m-%d %H:%M")
    return f"{date}, {os.cpu_count()} cores, load {load}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
