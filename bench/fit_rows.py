"""How a whole answer of `isoflop fit` grows with the rows of its table.

    OMP_NUM_THREADS=1 python bench/fit_rows.py [--rows 240 1000 5000 20000] [--checkpoints 20]

Each table is fitted in a process of its own: its processor seconds, user and system, do not
depend on what else the machine does, and its memory is its own. Each time is the least of the
repeats; the largest is beside it.
"""

import argparse
import os
import platform
import resource
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import polars as pl


def main() -> None:
    """Fit simulated runs of several checkpoints, shortest table first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[240, 1000, 5000, 20000])
    parser.add_argument("--checkpoints", type=int, default=20, help="rows of one run; 1 for none")
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, numpy {np.__version__}")
    for rows in arguments.rows:
        seconds, gib = [], 0.0
        for _ in range(arguments.repeats):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                spent, peak = alone.submit(
                    measure, rows, arguments.checkpoints, arguments.bootstrap
                ).result()
            seconds.append(spent)
            gib = max(gib, peak)
        print(f"{rows:>7,} rows: {min(seconds):.2f} s (at most {max(seconds):.2f}), {gib:.2f} GiB")


def measure(rows: int, checkpoints: int, bootstrap: int) -> tuple[float, float]:
    """Processor seconds of the fit, and the process's largest memory in GiB."""
    from analysis.fit.answer import fit_table
    from analysis.fit.options import FitOptions
    from analysis.table.columns import normalise

    table = normalise(simulated(rows, checkpoints))
    before = os.times()
    fit_table(table, FitOptions(bootstrap=bootstrap))
    after = os.times()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return after.user + after.system - before.user - before.system, peak


def simulated(rows: int, checkpoints: int) -> pl.DataFrame:
    """Runs of random sizes and horizons, each with equally spaced checkpoints."""
    rng = np.random.default_rng(0)
    runs = rows // checkpoints
    size = np.exp(rng.uniform(np.log(2e7), np.log(2e9), runs))
    horizon = size * np.exp(rng.uniform(np.log(3), np.log(200), runs))
    N = np.repeat(size, checkpoints)
    D = np.outer(horizon, np.arange(1, checkpoints + 1) / checkpoints).ravel()
    loss = 1.8 + 480 / N**0.35 + 2000 / D**0.37
    loss *= np.exp(0.004 * rng.standard_normal(len(N)))
    names = np.repeat([f"run {k}" for k in range(runs)], checkpoints)
    return pl.DataFrame({"run_id": names, "n_params": N, "tokens": D, "val_loss": loss})


if __name__ == "__main__":
    main()
