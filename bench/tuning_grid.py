"""A dense grid of learning rate and batch at one size, as ordinary runs; what a law is held to.

    python bench/tuning_grid.py d48.csv --width 48 --tokens 409600

Needs a home whose corpus is prepared (`isoflop plan smoke`). Finished runs are found again, so the
grid may be stopped at any moment. tests/data/tuning holds one that was recorded.
"""

import argparse
import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

from flows.plans.plan import make_plan
from flows.runs.directory import RunDir
from flows.runs.table import observations_frame
from flows.settings import Home, open_home
from llama_core.config import Placement
from sweeps.grid import shape
from sweeps.load import load_spec, load_tune_spec
from sweeps.spec import PlannedRun
from sweeps.tune_plan import trial_run

BATCHES = (512, 1024, 256)
# Around 0.256/d_model, the demo's rule, in factors of the root of two, from the middle outwards.
STEPS = (0, 1, -1, 2, -2, 3, -3)


def main() -> None:
    """Train what is missing, two at a time, and write the table."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("table", type=Path)
    asked.add_argument("--width", type=int, default=48)
    asked.add_argument("--tokens", type=int, default=409_600)
    asked.add_argument("--seeds", type=int, default=1, help="trainings of each point")
    asked.add_argument("--at", metavar="LR,BATCH", help="train this one point instead of a grid")
    asked.add_argument("--slots", type=int, default=2)
    given = asked.parse_args()
    home = open_home()
    plan, _ = make_plan(load_spec("smoke"), home)
    specs = [
        load_tune_spec("lr-batch", [f"tokens=[{given.tokens}]", f"train_seed={seed}"])
        for seed in range(given.seeds)
    ]
    model = shape(specs[0].ladder, given.width, specs[0].corpus.vocab_size)
    grid = [
        {"lr": 0.256 / given.width * 2 ** (step / 2), "batch_tokens": float(batch)}
        for batch, step in itertools.product(BATCHES, STEPS)
    ]
    if given.at:
        lr, batch = map(float, given.at.split(","))
        grid = [{"lr": lr, "batch_tokens": batch}]
    runs = [
        trial_run(spec, model, plan.data, number, point)
        for spec in specs
        for number, point in enumerate(grid)
    ]
    with ThreadPoolExecutor(given.slots) as pool:
        list(pool.map(lambda run: train(run, home), runs))
    columns = ["n_params", "tokens", "lr", "batch_tokens", "seed", "val_loss"]
    table = observations_frame(runs, home)
    seeds = pl.Series("seed", [run.run.train.seed for run in runs])
    table.with_columns(seeds).select(columns).write_csv(given.table)


def train(run: PlannedRun, home: Home) -> None:
    """Train one run in a child process, unless it is finished."""
    directory = RunDir(home.runs / run.id)
    directory.create(run)
    directory.place(Placement(threads=1))
    if not directory.settled():
        child = [
            sys.executable,
            "-m",
            "flows.training.child",
            str(home.root),
            run.id,
            str(os.getpid()),
        ]
        subprocess.run(child, check=True)


if __name__ == "__main__":
    main()
