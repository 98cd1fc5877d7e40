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
from numpy.typing import NDArray

from bench.curvature import near
from bench.tuning_grid import train
from flows.plans.plan import make_plan
from flows.runs.table import observations_frame
from flows.settings import open_home
from sweeps.load import load_spec, load_tune_spec
from sweeps.shapes import shape
from sweeps.tune_plan import trial_run

WIDTHS = (16, 32)
HORIZONS = (204_800, 614_400, 1_843_200)
# Around 0.256/d_model, the demo's rule, from the middle outwards.
FACTORS = (1.0, 0.5, 2.0, 0.25, 4.0)
BATCHES = (2048, 512)


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
            shape(spec.ladder, width, spec.make),
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
        fits = {D: parabola(at) for (D,), at in rows.sort("tokens").group_by("tokens")}
        horizons = sorted(fits)
        low, high = np.log(rows["lr"].min()), np.log(rows["lr"].max())
        best = {D: float(np.clip(-fit[1] / (2 * fit[0]), low, high)) for D, fit in fits.items()}
        shared = best[horizons[len(horizons) // 2]]
        for D in horizons:
            bound = {low: "≤ ", high: "≥ "}.get(best[D], "")
            loss, left = (np.polyval(fits[D], at) for at in (best[D], shared))
            yield (
                f"| {N:,} | {batch:,} | {D:,} | {bound}{np.exp(best[D]):.4f} "
                f"| {2 * fits[D][0]:.4f} | {np.exp(loss):.4f} | +{np.expm1(left - loss):.2%} |"
            )


def parabola(rows: pl.DataFrame) -> NDArray[np.float64]:
    """ln loss by ln lr through the trainings near the lowest, at least three: square first."""
    rows = rows.sort("val_loss")
    close = rows.head(max(3, len(near(rows))))
    return np.polyfit(np.log(close["lr"].to_numpy()), np.log(close["val_loss"].to_numpy()), 2)


if __name__ == "__main__":
    main()
