"""What one trunk costs its horizons: two sizes, three horizons, five rates, two batches.

    python bench/trunk_horizons.py trunk_horizons.csv

Every training is one trunk with a cooldown at each horizon. Needs a home with a prepared corpus
(`isoflop plan smoke`). Finished runs are reused, so it may be stopped at any moment.
tests/data/tuning/trunk_horizons.csv is a recorded table, docs/benchmarks/trunk_horizons.md reads
it.
"""

import argparse
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
    observations_frame(runs, home).select(columns).write_csv(options.table)


if __name__ == "__main__":
    main()
