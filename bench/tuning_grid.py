"""A dense grid of learning rate and batch at one size, as ordinary runs, to check a law against.

    python bench/tuning_grid.py d48.csv --width 48 --tokens 409600

Needs a home with a prepared corpus (`isoflop plan smoke`). Finished runs are reused, so the grid
may be stopped at any moment. tests/data/tuning holds a recorded one.
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
from sweeps.load import load_spec, load_tune_spec
from sweeps.shapes import shape
from sweeps.spec import PlannedRun
from sweeps.tune_plan import trial_run

BATCHES = (512, 1024, 256)
# Around 0.256/d_model, the demo's rule, in factors of the root of two, from the middle outwards.
STEPS = (0, 1, -1, 2, -2, 3, -3)


def main() -> None:
    """Train the missing runs, two at a time, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--tokens", type=int, default=409_600)
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each point")
    parser.add_argument("--at", metavar="LR,BATCH", help="train this one point instead of a grid")
    parser.add_argument("--slots", type=int, default=2)
    options = parser.parse_args()
    home = open_home()
    plan, _ = make_plan(load_spec("smoke"), home)
    specs = [
        load_tune_spec("lr-batch", [f"tokens=[{options.tokens}]", f"train_seed={seed}"])
        for seed in range(options.seeds)
    ]
    model = shape(specs[0].ladder, options.width, specs[0].make)
    grid = [
        {"lr": 0.256 / options.width * 2 ** (step / 2), "batch_tokens": float(batch)}
        for batch, step in itertools.product(BATCHES, STEPS)
    ]
    if options.at:
        lr, batch = map(float, options.at.split(","))
        grid = [{"lr": lr, "batch_tokens": batch}]
    runs = [
        trial_run(spec, model, plan.data, number, point)
        for spec in specs
        for number, point in enumerate(grid)
    ]
    with ThreadPoolExecutor(options.slots) as pool:
        list(pool.map(lambda run: train(run, home), runs))
    columns = ["n_params", "tokens", "lr", "batch_tokens", "seed", "val_loss"]
    table = observations_frame(runs, home)
    seeds = pl.Series("seed", [run.run.train.seed for run in runs])
    table.with_columns(seeds).select(columns).write_csv(options.table)


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
