"""A frontier of 1,000 demands with 2,000 bootstrap draws, against solving point by point.

    OMP_NUM_THREADS=1 python bench/frontier.py

Reports minimum, median and maximum of five runs in processor seconds, which other work on the
machine does not change much, and ratios within this one run. The point-by-point methods are timed
on a sample and scaled to the whole, as the output states. The forecast is that of 250 simulated
runs, learnt anew each time.
"""

import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import polars as pl
import scipy
from scipy.optimize import brentq

from analysis import published
from analysis.forecast.frontier_law import frontier_law
from analysis.frontier.answer import Demand
from analysis.frontier.decision import AtBudget, frontier
from analysis.law import Constants, LossLaw
from analysis.table.columns import normalise
from analysis.table.observations import Table

DEMANDS = np.geomspace(1e10, 1e15, 1000)
BUDGET = 1e22
REPEATS = 5
# Point-by-point solves that are timed, of two million.
SAMPLE = 4000


def array_frontier(law: LossLaw) -> None:
    """The library: every draw and demand at once, with intervals of N and D."""
    answer = frontier(law, AtBudget(BUDGET), DEMANDS)
    answer.interval("N")
    answer.interval("D")


def runs(rows: int = 250) -> Table:
    """Runs of random sizes and horizons under a law with noise of 0.4 %."""
    rng = np.random.default_rng(0)
    N = np.exp(rng.uniform(np.log(2e7), np.log(2e9), rows))
    D = N * np.exp(rng.uniform(np.log(3), np.log(200), rows))
    loss = (1.8 + 480 / N**0.35 + 2000 / D**0.37) * np.exp(0.004 * rng.standard_normal(rows))
    return normalise(pl.DataFrame({"n_params": N, "tokens": D, "val_loss": loss}))


def law_of_runs(table: Table) -> LossLaw:
    """The law of a forecast from runs, with its draws."""
    return frontier_law(table, AtBudget(BUDGET), Demand(generated=(1e12, 1e12)), "runs")


def brent(A: float, B: float, alpha: float, beta: float, r: float, demand: float) -> float:
    """D by scipy's bracketed solve of the condition along the contour."""

    def condition(log_D: float) -> float:
        D = np.exp(log_D)
        return (
            (1 + beta / alpha) * B * D**-beta
            + beta * B * demand / (3 * alpha) * D ** (-beta - 1)
            - r
        )

    low = np.log((B * (1 + beta / alpha) / r) ** (1 / beta))
    return float(np.exp(brentq(condition, low - 1e-9, low + 60, xtol=1e-12)))


def newton(A: float, B: float, alpha: float, beta: float, r: float, demand: float) -> float:
    """D by Newton's method from the compute-optimal D, one point at a time, in plain Python."""
    D = (B * (1 + beta / alpha) / r) ** (1 / beta)
    first, second = (1 + beta / alpha) * B, beta * B * demand / (3 * alpha)
    for _ in range(200):
        value = first * D**-beta + second * D ** (-beta - 1) - r
        slope = -beta * first * D ** (-beta - 1) - (beta + 1) * second * D ** (-beta - 2)
        step = value / slope
        D -= step
        if abs(step) < 1e-12 * D:
            return float(D)
    raise AssertionError("Newton did not converge")


def timed(run: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Processor seconds of each repeat, after a call to warm up."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return seconds


def main() -> None:
    """Print the table."""
    law = published.law("besiroglu")
    draws = Constants.of_draws(law)
    losses = AtBudget(BUDGET).loss_under(draws)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, draws.E.size, SAMPLE)
    demands = rng.choice(DEMANDS, SAMPLE)
    points = [
        (
            *(float(getattr(draws, name)[row, 0]) for name in ("A", "B", "alpha", "beta")),
            float(losses[row, 0] - draws.E[row, 0]),
            float(demand),
        )
        for row, demand in zip(rows, demands, strict=True)
    ]
    drawn = frontier(law, AtBudget(BUDGET), DEMANDS).drawn
    assert drawn is not None
    columns = np.searchsorted(DEMANDS, demands)
    for solve in (brent, newton):
        solved = np.array([solve(*point) for point in points])
        worst = np.max(np.abs(solved / drawn.D[rows, columns] - 1))
        print(f"{solve.__name__}: agrees with the array to {worst:.1e} in D")

    total = draws.E.size * DEMANDS.size
    print(f"\n{draws.E.size} draws x {DEMANDS.size} demands = {total:,} optima")
    print(
        f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, "
        f"scipy {scipy.__version__}\n"
    )
    array = timed(lambda: array_frontier(law))
    table = runs()
    foretold = law_of_runs(table)
    from_runs = {
        "law of a forecast": timed(lambda: law_of_runs(table)),
        "array under it": timed(lambda: array_frontier(foretold)),
    }
    scale = total / SAMPLE
    scaled = {
        solve.__name__: [scale * s for s in timed(lambda solve=solve: [solve(*p) for p in points])]
        for solve in (brent, newton)
    }
    print(f"{'method':32s} {'min':>9s} {'median':>9s} {'max':>9s}  median over array")
    for name, seconds in {"array, with intervals": array, **from_runs, **scaled}.items():
        label = f"{name} a point, scaled x{scale:.0f}" if name in scaled else name
        ratio = statistics.median(seconds) / statistics.median(array)
        print(
            f"{label:32s} {min(seconds):8.2f}s {statistics.median(seconds):8.2f}s "
            f"{max(seconds):8.2f}s  {ratio:6.1f}"
        )


if __name__ == "__main__":
    main()
