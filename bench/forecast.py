"""How long a forecast takes, and how it grows with the rows of its table.

    OMP_NUM_THREADS=1 python bench/forecast.py [--rows 35 250 500 5000]

Each table is foretold in a process of its own: its processor seconds, user and system, do not
depend on what else the machine does, and its memory is its own. Each time is the least of the
repeats; the largest is beside it. `learn` is the posterior alone, `answer` all that the command
prints for a point and a budget, record and other methods included.
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
    """Forecast from simulated runs, shortest table first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[35, 250, 500, 5000])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, numpy {np.__version__}")
    for rows in arguments.rows:
        learns, answers, gib = [], [], 0.0
        for _ in range(arguments.repeats):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                learn, whole, peak = alone.submit(measure, rows).result()
            learns.append(learn)
            answers.append(whole)
            gib = max(gib, peak)
        print(
            f"{rows:>6,} rows: learn {min(learns):.2f} s (at most {max(learns):.2f}), "
            f"answer {min(answers):.2f} s (at most {max(answers):.2f}), {gib:.2f} GiB"
        )


def measure(rows: int) -> tuple[float, float, float]:
    """Processor seconds of the posterior and of the answer, and the largest memory in GiB."""
    from analysis.forecast.answer import Question, answer
    from analysis.forecast.posterior import posterior
    from analysis.forecast.rows import rows_of
    from analysis.table.columns import normalise

    table = normalise(simulated(rows))
    question = Question(points=((1e11, 2e12),), budgets=(1e24,))
    before = _processor_s()
    posterior(rows_of(table))
    learnt = _processor_s()
    answer(table, question)
    done = _processor_s()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return learnt - before, done - learnt, peak


def simulated(rows: int) -> pl.DataFrame:
    """Runs of random sizes and horizons under a law with noise of 0.4 %."""
    rng = np.random.default_rng(0)
    N = np.exp(rng.uniform(np.log(2e7), np.log(2e9), rows))
    D = N * np.exp(rng.uniform(np.log(3), np.log(200), rows))
    loss = 1.8 + 480 / N**0.35 + 2000 / D**0.37
    loss *= np.exp(0.004 * rng.standard_normal(rows))
    return pl.DataFrame({"n_params": N, "tokens": D, "val_loss": loss})


def _processor_s() -> float:
    spent = os.times()
    return spent.user + spent.system


if __name__ == "__main__":
    main()
