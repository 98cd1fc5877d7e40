"""A small real sweep for faults to be injected into, and what became of it."""

import json
import os
import random
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from flows.mirror.metrics import metric_points
from flows.plans.plan import make_plan
from flows.runs.directory import RunDir
from flows.settings import Settings, open_home
from sweeps.load import load_spec
from sweeps.plan import Plan
from tests.conftest import COMMAND, ROOT, bare_environment
from tests.fakes import ReadableTracker

# Two sizes, each with a cooldown branch; seconds a training on a quiet machine.
SPEC = (
    "ladder.widths=[16, 32]",
    "grid.budgets=[1e10, 6e10]",
    "eval_tokens=4096",
    "placement.threads=1",
)
OFTEN = ("placement.checkpoint_every_s=0.3",)
SELDOM = ("placement.checkpoint_every_s=600",)
PATIENCE_S = 900.0


@dataclass(frozen=True)
class Outcome:
    """One row of the table.

    Attributes:
        injected: how often the fault struck.
        lost: runs that ended neither as an undisturbed one nor with the reason expected.
        doubled: steps that a curve, or MLflow, holds twice, and runs that MLflow holds twice.
        extra_steps: steps trained beyond the undisturbed, of `steps`, at most.
    """

    fault: str
    injected: int
    lost: int
    doubled: int
    extra_steps: int
    steps: int


class Stage:
    """Where one fault is tried: a folder of homes, and how a sweep is started in one."""

    def __init__(
        self, folder: Path, text: Path, environment: dict[str, str], seed: int, copies: int
    ) -> None:
        self.folder = folder
        self.text = text
        self.random = random.Random(seed)
        self._copies = copies
        self._environment = environment
        self.homes: list[Path] = []

    def new_home(self) -> Path:
        """A home with nothing trained; the corpus is prepared once for all."""
        home = self.folder / f"home-{len(self.homes)}"
        (self.folder.parent / "corpora").mkdir(exist_ok=True)
        (home / "runs").mkdir(parents=True)
        (home / "corpora").symlink_to(self.folder.parent / "corpora")
        self.homes.append(home)
        return home

    def arguments(self, name: str, *settings: str) -> list[str]:
        """What names the sweep, for the command or the deployment."""
        corpus = f"corpus.sources=[{{kind: files, path: {self.text}}}]"
        seeds = f"seeds={list(range(self._copies))}"
        return [f"name={name}", corpus, *SPEC, seeds, *(settings or OFTEN)]

    @contextmanager
    def sweep(
        self, home: Path, *settings: str, **environment: str
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """The command under way; killed at the end if it still is."""
        overrides = self.arguments("chaos", *settings)
        with (self.folder / "sweep.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    *(COMMAND, "sweep", "smoke", "--slots", "2"),
                    *(part for one in overrides for part in ("--set", one)),
                ],
                cwd=ROOT,
                env={
                    **bare_environment(),
                    **self._environment,
                    "ISOFLOP_HOME": str(home),
                    **environment,
                },
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(30)

    def finish(self, process: "subprocess.Popen[bytes]", *, status: int = 0) -> None:
        """Wait for a sweep to end as it should."""
        ended = process.wait(PATIENCE_S)
        said = (self.folder / "sweep.log").read_text(errors="replace")[-2000:]
        assert ended == status, f"exit status {ended}: {said}"

    def training(self, home: Path, sweep: "subprocess.Popen[bytes]") -> tuple[Any, RunDir] | None:
        """A training at a random moment of its life; None when the sweep ended before."""
        while sweep.poll() is None:
            found = list(trainings(home))
            if found:
                process, run = self.random.choice(found)
                before = rows(run)
                more = self.random.randint(5, 60)
                while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    if rows(run) >= before + more:
                        return process, run
                    time.sleep(0.05)
            time.sleep(0.05)
        return None


def trainings(home: Path) -> Iterator[tuple[psutil.Process, RunDir]]:
    """Trainings under way with their processes, by their leases."""
    for lease in home.glob("runs/*/lease.json"):
        with suppress(OSError, psutil.NoSuchProcess):
            process = psutil.Process(json.loads(lease.read_bytes())["pid"])
            # A lease that a killed training left may bear a number that is another's by now.
            if "flows.training.warm" in process.cmdline() and str(home) in process.cmdline():
                yield process, RunDir(lease.parent)


def rows(run: RunDir) -> int:
    """Rows its curve has now."""
    try:
        return run.curve_path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def wait_for(condition: Any, seconds: float = PATIENCE_S) -> Any:
    """What the condition gives as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (met := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return met


def nobody_trains(home: Path) -> bool:
    """Whether no training of this home is left."""
    return not any(RunDir(path).busy() for path in (home / "runs").iterdir() if path.is_dir())


def read_plan(home: Path, stage: Stage) -> Plan:
    """The plan of the chaos sweep."""
    spec = load_spec("smoke", stage.arguments("chaos"))
    return make_plan(spec, open_home(Settings(home=home)))[0]


def truth(run: RunDir) -> tuple[Any, ...]:
    """All of a run that must not depend on what happened to it."""
    result = run.result()
    curve = [
        (row["kind"], row["step"], row["horizon"], row.get("loss"), row.get("val_loss"))
        for row in run.curve.rows()
    ]
    return result.status if result else None, result.observations if result else (), curve


def judge(
    fault: str, injected: int, homes: list[Path], undisturbed: Path, plan: Plan, **expected: str
) -> Outcome:
    """Compare what the homes hold with an undisturbed sweep, to the bit.

    Args:
        expected: status of runs, by id with a leading underscore, that the fault must end.
    """
    lost = doubled = extra = steps = 0
    for home in homes:
        for planned in plan.runs:
            run = RunDir(home / "runs" / planned.id)
            reference = truth(RunDir(undisturbed / "runs" / planned.id))
            wanted = expected.get(f"_{planned.id}")
            found = truth(run)
            lost += found[0] != wanted if wanted else found != reference
            taken = Counter((row[0], row[1], row[2]) for row in found[2])
            doubled += sum(count - 1 for count in taken.values())
            extra += repeated(run.path / "output.log")
            steps += sum(row[0] == "step" for row in found[2])
        # Workers' trainings speak in the log of their worker.
        logs = [*home.glob("logs/train-worker-*.log"), *home.glob("logs/slurm-*.log")]
        extra += sum(map(repeated, logs))
        doubled += mirrored_wrongly(home, plan)
    return Outcome(fault, injected, lost, doubled, extra, steps)


def mirrored_wrongly(home: Path, plan: Plan, **environment: Any) -> int:
    """Points and runs that MLflow lacks, or holds twice, against the curves on disk."""
    settings = Settings(home=home, **environment)
    folders = open_home(settings)
    tracker = ReadableTracker(settings.tracking_uri(folders), folders.artifacts)
    wrong = 0
    ids = [run_id for run_id in tracker.run_ids("chaos") if run_id != "report"]
    wrong += len(ids) - len(set(ids)) + len({run.id for run in plan.runs} ^ set(ids))
    for planned in plan.runs:
        run = RunDir(home / "runs" / planned.id)
        wanted: dict[str, list[Any]] = {}
        for metric, point in metric_points(run, planned):
            wanted.setdefault(metric, []).append(point)
        for metric, points in wanted.items():
            there = tracker.curve("chaos", planned.id, metric)
            wrong += len(set(there) ^ set(points)) + len(there) - len(set(there))
    return wrong


def repeated(log: Path) -> int:
    """Steps that resumed trainings said they train again."""
    if not log.exists():
        return 0
    found = re.findall(r"(\d+) steps are trained again", log.read_text(errors="replace"))
    return sum(int(number) for number in found)


def own_environment(api: str) -> dict[str, str]:
    """One Prefect server for all sweeps that run as commands."""
    return {"PREFECT_API_URL": api, "OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]}
