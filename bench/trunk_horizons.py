"""What one trunk costs its horizons: two sizes, three horizons, five rates, two batches.

    python bench/trunk_horizons.py trunk_horizons.csv

Every training is one trunk with a cooldown at each horizon. Needs a home with a prepared corpus
(`isoflop plan smoke`). Finished runs are reused, so it may be stopped at any moment.
tests/data/tuning/trunk_horizons.csv is a recorded table, docs/benchmarks/trunk_horizons.md reads
it.
"""

import argparse
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl

from bench.tuning_grid import train
from flows.plans.plan import make_plan
from flows.runs.table import observations_frame
from flows.settings import open_home
from sweeps.grid import shape
from sweeps.load import load_spec, load_tune_spec
from sweeps.tune_plan import trial_run

WIDTHS = (16, 32)
HORIZONS = (204_800, 614_400, 1_843_200)
# Around 0.256/d_model, the demo's rule, from the middle outwards.
FACTORS = (1.0, 0.5, 2.0, 0.25, 4.0)
BATCHES = (2048, 512)
# Trainings within this share of the lowest loss are near enough for a parabola.
WITHIN = 0.03


def main() -> None:
    """Train the missing runs and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--slots", type=int, default=2)
    options = parser.parse_args()
    home = open_home()
    plan, _ = make_plan(load_spec("smoke"), home)
    spec = load_tune_spec("lr-batch", [f"tokens={list(HORIZONS)}", "eval_tokens=131072"])
    points = itertools.product(BATCHES, FACTORS, WIDTHS)
    runs = [
        trial_run(
            spec,
            shape(spec.ladder, width, spec.corpus.vocab_size),
            plan.data,
            number,
            {"lr": factor * 0.256 / width, "batch_tokens": float(batch)},
        )
        for number, (batch, factor, width) in enumerate(points)
    ]
    with ThreadPoolExecutor(options.slots) as pool:
        list(pool.map(lambda run: train(run, home), runs))
    columns = ["n_params", "tokens", "lr", "batch_tokens", "val_loss"]
    table = observations_frame(runs, home).select(columns).drop_nulls()
    table.write_csv(options.table)
    print("| N | batch | D | lr* | curvature | loss at lr* | at the middle's lr* |")
    print("|---|---|---|---|---|---|---|")
    for line in lines(table):
        print(line)


def lines(table: pl.DataFrame) -> Iterator[str]:
    """A row for each size, batch and horizon: the best rate, and what the middle's costs there."""
    for (N, batch), rows in table.group_by(["n_params", "batch_tokens"], maintain_order=True):
        optima = {D: parabola(at) for (D,), at in rows.sort("tokens").group_by("tokens")}
        horizons = sorted(optima)
        shared = optima[horizons[len(horizons) // 2]][0]
        for D in horizons:
            best, curvature, loss = optima[D]
            left = curvature / 2 * (shared - best) ** 2
            yield (
                f"| {N:,} | {batch:,} | {D:,} | {np.exp(best):.4f} | {curvature:.4f} "
                f"| {loss:.4f} | +{left:.2%} |"
            )


def parabola(rows: pl.DataFrame) -> tuple[float, float, float]:
    """ln lr of the lowest loss, second derivative of ln loss there, and that loss.

    Through the trainings near the lowest, at least three.
    """
    losses = rows["val_loss"].to_numpy()
    order = np.argsort(losses)
    near = order[: max(3, int((losses <= losses.min() * (1 + WITHIN)).sum()))]
    x, y = np.log(rows["lr"].to_numpy()[near]), np.log(losses[near])
    square, slope, constant = np.polyfit(x, y, 2)
    best = -slope / (2 * square)
    return best, 2 * square, float(np.exp(constant + slope * best + square * best**2))


if __name__ == "__main__":
    main()
