"""Cost of dispatch, tracking and watching on top of the training itself.

    python bench/dispatch.py --json out.json          # about ten minutes on two cores

Seconds per run are the time between the ends of consecutive runs on one slot, minus the time of the
bare training loop for the same run in a process that has torch loaded. CPU seconds are measured
too: they do not depend on the machine's other work.
"""

import argparse
import itertools
import json
import logging
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from flows.cost.estimate import estimate  # noqa: F401 - imports torch, as every training does
from flows.mirror.tracker import open_tracker
from flows.plans.plan import make_plan, sweep_folder
from flows.runs.curve import CurveWriter
from flows.runs.directory import RunDir
from flows.settings import Home, Settings, open_home
from flows.stack.processes import registered
from flows.stack.servers import free_port
from flows.training.execute import execute
from flows.watch.curves import CurveReader
from flows.watch.page import write_live_page
from flows.watch.progress import SweepGauge
from llama_core.config import Placement
from llama_core.corpus.prepared import find_corpus
from llama_core.records import StepRecord
from llama_core.train import train
from sweeps.load import load_spec
from sweeps.plan import Plan

ROOT = Path(__file__).resolve().parent.parent
PLACED = Placement(threads=1)
ISOFLOP, PREFECT = (Path(sys.executable).with_name(name) for name in ("isoflop", "prefect"))
RUNS = 5
# Required by issue 4.
LIMITS = {
    "in this process, s a run": 3.0,
    "by a worker, s a run": 8.0,
    "curve and mirror, µs a step": 100.0,
    "isoflop --help, s": 0.5,
    "resuming 100 finished runs, s": 15.0,
}


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        # Only for its corpus.
        first = open_home()
        make_plan(load_spec("smoke", ()), first)
        rows += dispatch(first, Path(folder))
        rows += tracking(first, Path(folder))
        rows += [row("isoflop --help, s", [timed(isoflop_help) for _ in range(7)])]
        rows += hundred_runs(first, Path(folder))
    document = {"machine": machine(), "rows": rows}
    print(f"{document['machine']}\n")
    print(f"{'':42} {'min':>9} {'median':>9} {'max':>9} {'limit':>7}")
    for entry in rows:
        limit = LIMITS.get(entry["what"])
        print(
            f"{entry['what']:42} {entry['min']:9.3g} {entry['median']:9.3g} {entry['max']:9.3g} "
            f"{'' if limit is None else f'{limit:7g}'}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


def row(what: str, values: list[float]) -> dict[str, Any]:
    """One line of the table."""
    return {
        "what": what,
        "min": min(values),
        "median": statistics.median(values),
        "max": max(values),
        "n": len(values),
    }


def timed(action: Callable[[], object]) -> float:
    """Wall seconds."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def isoflop_help() -> None:
    subprocess.run([ISOFLOP, "--help"], capture_output=True, check=True)


def spec(name: str, seeds: int) -> list[str]:
    """Overrides of `smoke`: equal runs of a few seconds."""
    return [
        f"name={name}",
        f"seeds={list(range(seeds))}",
        "ladder.widths=[32]",
        "grid.budgets=[5e9]",
        "placement.threads=1",
    ]


def own_home(folder: Path, first: Home) -> Home:
    """A new home that shares the corpus of another."""
    home = open_home(Settings(home=folder))
    (home.root / "corpora").symlink_to(first.root / "corpora")
    return home


def environment(home: Home) -> dict[str, str]:
    """Environment of commands on a home, with ports of their own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ISOFLOP_", "PREFECT_"))}
    ports = {f"ISOFLOP_{name}_PORT": str(free_port("127.0.0.1")) for name in ("PREFECT", "MLFLOW")}
    return {**kept, **ports, "ISOFLOP_HOME": str(home.root)}


def dispatch(first: Home, folder: Path) -> list[dict[str, Any]]:
    """Seconds per run in this process and by a worker, minus the bare loop."""
    planned, _ = make_plan(load_spec("smoke", tuple(spec("bare", RUNS))), first)
    bare_loop(first, planned, 0)
    bare = [timed(lambda at=at: bare_loop(first, planned, at)) for at in range(RUNS)]
    bare_cpu = [cpu_of(lambda at=at: bare_loop(first, planned, at)) for at in range(RUNS)]
    loop_s, loop_cpu_s = statistics.median(bare), statistics.median(bare_cpu)

    home = own_home(folder / "in_process", first)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    overrides = [part for one in spec("in-process", RUNS) for part in ("--set", one)]
    subprocess.run(
        [ISOFLOP, "sweep", "smoke", *overrides, "--slots", "1"],
        env=environment(home),
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    in_process = gaps(home)

    home = own_home(folder / "workers", first)
    workers, worker_cpu_s = by_worker(home)
    return [
        row("bare training loop, s a run", bare),
        row("in this process, s a run", [gap - loop_s for gap in in_process]),
        row("  CPU s a run, sweep and server included", [cpu_s / RUNS - loop_cpu_s]),
        row("by a worker, s a run", [gap - loop_s for gap in workers]),
        row("  CPU s a run, in worker and training", [worker_cpu_s / RUNS - loop_cpu_s]),
    ]


def bare_loop(home: Home, planned: Plan, at: int) -> None:
    """The training loop on an open corpus, writing nothing."""
    run = planned.runs[at].run
    batches = find_corpus(home.root, run.data.digest).open(run.train)
    for _ in train(run.model, run.train, batches, placement=PLACED):
        pass


def cpu_of(action: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    began = time.process_time()
    action()
    return time.process_time() - began


def gaps(home: Home) -> list[float]:
    """Seconds between the ends of consecutive runs."""
    results = [RunDir(path).result() for path in home.runs.iterdir()]
    ends = sorted(result.finished_at for result in results if result is not None)
    assert len(ends) == RUNS, f"{len(ends)} of {RUNS} runs ended"
    return [later - earlier for earlier, later in itertools.pairwise(ends)]


def by_worker(home: Home) -> tuple[list[float], float]:
    """Seconds between the ends of runs with one worker; its CPU seconds, trainings included."""
    place = environment(home)
    subprocess.run(
        [ISOFLOP, "up", "--workers", "1"], env=place, cwd=ROOT, capture_output=True, check=True
    )
    try:
        worker = psutil.Process(
            next(entry.pid for entry in registered(home) if entry.name == "train-worker-0")
        )
        before = sum(worker.cpu_times()[:4])
        subprocess.run(
            [
                *(PREFECT, "deployment", "run", "sweep/chinchilla", "--watch", "-p", "spec=smoke"),
                *("-p", f"overrides={json.dumps(spec('workers', RUNS))}"),
            ],
            env={
                **place,
                "PREFECT_API_URL": f"http://127.0.0.1:{place['ISOFLOP_PREFECT_PORT']}/api",
                "PREFECT_HOME": str(home.root / "client"),
            },
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        return gaps(home), sum(worker.cpu_times()[:4]) - before
    finally:
        subprocess.run([ISOFLOP, "down"], env=place, cwd=ROOT, capture_output=True, check=False)


def tracking(first: Home, folder: Path) -> list[dict[str, Any]]:
    """Cost of a step besides its arithmetic: its row on disk, its share of the mirror."""
    steps = 10_000
    home = open_home(Settings(home=folder / "tracking"))
    overrides = (
        "name=tracking",
        "ladder.widths=[16]",
        "grid.budgets=[1e12]",
        "grid.tokens_per_param=[0.2, 10000]",
    )
    planned, _ = make_plan(load_spec("smoke", overrides), first)
    run = RunDir(home.runs / planned.runs[0].id)
    run.create(planned.runs[0])
    began, appended = time.time(), []
    writer = CurveWriter(run.curve_path)
    for block in range(10):
        start = time.perf_counter()
        for step in range(block * steps // 10 + 1, (block + 1) * steps // 10 + 1):
            writer.append(
                StepRecord(step, step * 2048, None, 3.0 + 1 / step, 1e-3, 0.7, 9e4, None, 0.5,
                           began + step * 0.01)
            )  # fmt: skip
        appended.append((time.perf_counter() - start) / (steps / 10) * 1e6)
    writer.close()
    tracker = open_tracker(Settings(home=home.root), home)
    mirrored = timed(lambda: tracker.publish(run, planned.runs[0])) / steps * 1e6
    return [
        row("curve, µs a step", appended),
        row("curve and mirror, µs a step", [append + mirrored for append in appended]),
    ]


def hundred_runs(first: Home, folder: Path) -> list[dict[str, Any]]:
    """A finished sweep of 100 runs started again, and the cost of watching it."""
    home = own_home(folder / "hundred", first)
    overrides = (
        "name=hundred",
        f"seeds={list(range(25))}",
        "ladder.widths=[16, 24, 32, 48]",
        "grid.budgets=[4e9]",
        "grid.tokens_per_param=[0.01, 1000]",
    )
    planned, _ = make_plan(load_spec("smoke", overrides), home)
    assert len(planned.runs) == 100, f"the plan has {len(planned.runs)} runs, not 100"
    for planned_run in planned.runs:
        run = RunDir(home.runs / planned_run.id)
        run.create(planned_run)
        execute(run, home)
    command = [ISOFLOP, "sweep", "smoke", *(part for one in overrides for part in ("--set", one))]

    def resume() -> None:
        subprocess.run(command, env=environment(home), cwd=ROOT, capture_output=True, check=True)

    mirrored = timed(resume)
    again = [timed(resume) for _ in range(3)]
    folder = sweep_folder(planned, home)
    gauge = SweepGauge(planned, home, planned.runs)
    curves = [CurveReader(run, RunDir(home.runs / run.id)) for run in planned.runs]
    write_live_page(folder, gauge.read(), curves)
    pages = [cpu_of(lambda: write_live_page(folder, gauge.read(), curves)) * 1e3 for _ in range(7)]
    reads = [cpu_of(gauge.read) * 1e3 for _ in range(20)]
    return [
        row("first mirror of 100 runs, s", [mirrored]),
        row("resuming 100 finished runs, s", again),
        row("live page of 100 runs, CPU ms every 10 s", pages),
        row("progress of 100 runs, CPU ms a read", reads),
    ]


def machine() -> str:
    """Processor, load, versions and commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    packages = ", ".join(f"{name} {version(name)}" for name in ("prefect", "mlflow", "torch"))
    load = os.getloadavg()[0]
    return (
        f"{cpu}, {os.cpu_count()} CPUs, load {load:.1f}; Python {platform.python_version()}, "
        f"{packages}; commit {commit}"
    )


if __name__ == "__main__":
    main()
