"""Predicted against actual CPU seconds of the trainings of `isoflop plan demo`.

A training on one thread takes as many CPU seconds as wall seconds on an idle core, and CPU seconds
can be measured on a busy machine. Trains the whole demo in a home of its own.

    python bench/estimate.py [HOME]
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from flows.cost.estimate import Estimate, Speed, estimate
from flows.cost.timing import Answer, Request, Timing, shape_of
from flows.plans.plan import make_plan
from flows.runs.directory import RunDir
from flows.settings import Home
from flows.training.slots import child_environment
from sweeps.load import load_spec
from sweeps.plan import Plan

# The timing child, with its clock replaced by its CPU time.
_ON_CPU_CLOCK = (
    "import time; time.time = time.process_time; from flows.cost.timing import main; main()"
)
_SLOT = {"OMP_NUM_THREADS": "1"}


def timings(plan: Plan, home: Home) -> tuple[list[Timing], float]:
    """CPU seconds of every run's shape, and of starting a training in a fresh process."""
    request = Request(
        home=home.root,
        corpus=plan.data.digest,
        placement=plan.spec.placement,
        trainings=tuple((run.run.model, run.run.train) for run in plan.runs),
    )
    done = subprocess.run(
        [sys.executable, "-c", _ON_CPU_CLOCK],
        input=request.model_dump_json(),
        capture_output=True,
        text=True,
        check=True,
        env=child_environment(_SLOT),
    )
    answers = [Answer.model_validate_json(line) for line in done.stdout.splitlines()]
    return [answer.timing for answer in answers], answers[0].ready_at


def train(plan: Plan, home: Home, predicted: Estimate) -> dict[str, float]:
    """CPU seconds of every run, each in a fresh process; prints a line as each ends."""
    # Cheapest first, so that half a run of this script covers several sizes.
    waiting, spent, guard = list(plan.runs), dict[str, float](), threading.Lock()

    def work() -> None:
        while True:
            with guard:
                if not waiting:
                    return
                planned = waiting.pop(0)
            run = RunDir(home.runs / planned.id)
            run.create(planned)
            run.place(plan.spec.placement)
            child = subprocess.Popen(
                [sys.executable, "-m", "flows.training.child", home.root, run.id, str(os.getpid())],
                env=child_environment(_SLOT),
                stderr=subprocess.DEVNULL,
            )
            usage = os.wait4(child.pid, 0)[2]
            assert run.finished(), f"{planned.name} has no result in {run.path}"
            with guard:
                spent[planned.id] = usage.ru_utime + usage.ru_stime
                print_row(planned.name, predicted.runs[planned.id].whole_s, spent[planned.id])

    threads = [threading.Thread(target=work) for _ in range(predicted.slots)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return spent


def print_row(name: str, predicted_s: float, actual_s: float) -> None:
    """Print predicted and actual CPU seconds."""
    ratio = predicted_s / actual_s
    print(f"{name:<6}{predicted_s:>8.1f} s predicted{actual_s:>8.1f} s actual{ratio:>7.2f}")


def main() -> None:
    """Print predicted against actual for each run and for all."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="isoflop-estimate-"))
    home = Home(root.absolute())
    home.runs.mkdir(parents=True, exist_ok=True)
    plan, _ = make_plan(load_spec("demo"), home, print)
    began = time.time()
    measured, start_s = timings(plan, home)
    print(f"timed in {time.time() - began:.1f} s, start-up {start_s:.1f} s of CPU")
    by_shape = {
        shape_of(run.run.model, run.run.train): timing
        for run, timing in zip(plan.runs, measured, strict=True)
    }
    speed = Speed(
        timing=lambda run: by_shape[shape_of(run.run.model, run.run.train)],
        start_s=start_s,
        around_s=0.0,
        basis="CPU clock",
    )
    predicted = estimate(plan, speed, {run.id: 0 for run in plan.runs}, slots=2)
    low, high = predicted.elapsed_range_s
    print(
        f"predicted: {predicted.device_s:.0f} s of CPU, {predicted.elapsed_s:.0f} s on two idle "
        f"cores ({low:.0f} to {high:.0f})"
    )
    for run in plan.runs:
        print(f"{run.name:<6}{predicted.runs[run.id].whole_s:>8.1f} s predicted")
    actual = train(plan, home, predicted)
    print_row("all", predicted.device_s, sum(actual.values()))


if __name__ == "__main__":
    main()
