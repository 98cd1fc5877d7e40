"""Speed of the fits, against the loops they replace.

    OMP_NUM_THREADS=1 python bench/fit.py [CSV]

Everything is timed in one run on one core, so quote only ratios. The table is CSV, else
Besiroglu's 240 rows if ISOFLOP_PUBLISHED names the folder with them, else 240 simulated rows. The
loops are those of the published notebooks: scipy's L-BFGS-B from Hoffmann's
4500 starting points (Hoffmann et al. 2022, appendix D.2), and scipy's BFGS for every resample.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import scipy
from scipy.optimize import minimize
from scipy.special import huber, logsumexp

from analysis.fit.options import DEFAULT
from analysis.fit.parametric import pose
from analysis.law import Array
from analysis.solver.problem import Problem
from analysis.solver.search import find_optimum
from analysis.solver.uncertainty import bootstrap, resample
from analysis.table.columns import normalise
from analysis.table.observations import Table
from analysis.table.read import read_table

# Hoffmann et al. 2022, appendix D.2: starts of alpha, beta, ln E, ln A, ln B.
STARTS = tuple(
    product(
        np.arange(0, 2.5, 0.5),
        np.arange(0, 2.5, 0.5),
        np.arange(-1, 1.5, 0.5),
        np.arange(0, 30, 5),
        np.arange(0, 30, 5),
    )
)
RESAMPLES = 4000


def main() -> None:
    """Time the global fit and the bootstrap, by us and by the loops."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("csv", nargs="?", type=Path)
    parser.add_argument("--starts", type=int, default=12, help="L-BFGS-B starts to time")
    parser.add_argument("--resamples", type=int, default=12, help="BFGS resamples to time")
    arguments = parser.parse_args()
    table, name = _table(arguments.csv)
    problem, table = pose(table, DEFAULT)
    used = table.used
    print(
        f"{name}: {used.height} rows; {platform.processor() or platform.machine()}, "
        f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}"
    )

    solved, optimum = find_optimum(problem)
    ours = _times(lambda: find_optimum(problem), 15)
    picks = np.random.default_rng(0).choice(len(STARTS), arguments.starts, replace=False)
    for label, exact in (("finite differences", False), ("exact gradients", True)):
        single = [_seconds(partial(lbfgsb, problem, STARTS[k], exact=exact)) for k in picks]
        whole = statistics.mean(single) * len(STARTS)
        print(
            f"global fit, L-BFGS-B with {label}: {arguments.starts} of {len(STARTS)} starts "
            f"timed, {whole:.0f} s for all; ours {1e3 * min(ours):.1f} ms (median "
            f"{1e3 * statistics.median(ours):.1f}, worst {1e3 * max(ours):.1f}): "
            f"{whole / statistics.median(ours):,.0f} times faster"
        )
    best = min(lbfgsb(problem, STARTS[k], exact=True)[0] for k in picks)
    print(f"  lowest objective: theirs {best:.10e} from the sample, ours {optimum.value:.10e}")

    draws = _times(lambda: bootstrap(solved, optimum.x, draws=RESAMPLES, seed=0), 5)
    counts = resample(used.height, arguments.resamples, 0)
    point = {name: float(c[0]) for name, c in solved.constants(optimum.x[None]).named().items()}
    start = np.array([point["alpha"], point["beta"], *np.log([point[k] for k in "EAB"])])
    single = [_seconds(partial(bfgs, solved, start, weights)) for weights in counts]
    whole = statistics.mean(single) * RESAMPLES
    print(
        f"{RESAMPLES} resamples, BFGS with exact gradients from one start: "
        f"{arguments.resamples} timed, {whole:.0f} s for all; ours {min(draws):.2f} s (median "
        f"{statistics.median(draws):.2f}, worst {max(draws):.2f}): "
        f"{whole / statistics.median(draws):,.0f} times faster"
    )


def lbfgsb(problem: Problem, start: tuple[float, ...], *, exact: bool) -> tuple[float, Array]:
    """One start of the published loop: (objective, alpha, beta, ln E, ln A, ln B)."""
    x = np.array(start, float)
    return _minimise(problem, x, problem.weights, method="L-BFGS-B", exact=exact)


def bfgs(problem: Problem, start: Array, weights: Array) -> tuple[float, Array]:
    """One resample by scipy's BFGS with exact gradients."""
    return _minimise(problem, start, weights, method="BFGS", exact=True)


def _minimise(
    problem: Problem, x: Array, weights: Array, *, method: str, exact: bool
) -> tuple[float, Array]:
    """Minimise the sum as the notebooks write it: logsumexp of uncentred parameters.

    Scaled for scipy's absolute tolerances: times 1e6 the loop ends at the optimum, unscaled it
    stops early (Besiroglu et al. 2024 on the fit of eq. 3).
    """
    scale, delta = 1e6, problem.objective.delta
    log_N = problem.rows.n + problem.rows.n_mean
    log_D = problem.rows.d + problem.rows.d_mean
    log_loss = np.log(problem.rows.loss)

    def terms(x: Array) -> Array:
        alpha, beta, e, a, b = x
        return np.stack([np.full_like(log_N, e), a - alpha * log_N, b - beta * log_D])

    def value(x: Array) -> float:
        residual = logsumexp(terms(x), axis=0) - log_loss
        return scale * float((huber(delta, residual) * weights).sum())

    def gradient(x: Array) -> Array:
        each = terms(x)
        total = logsumexp(each, axis=0)
        slope = scale * np.clip(total - log_loss, -delta, delta) * weights
        e, a, b = np.exp(each - total) * slope
        return np.array([-(a * log_N).sum(), -(b * log_D).sum(), e.sum(), a.sum(), b.sum()])

    with np.errstate(all="ignore"):
        result = minimize(value, x, jac=gradient if exact else None, method=method)  # type: ignore[call-overload]
    return float(result.fun) / scale, np.asarray(result.x)


def _table(csv: Path | None) -> tuple[Table, str]:
    folder = os.environ.get("ISOFLOP_PUBLISHED")
    if csv is not None:
        return read_table(csv), csv.name
    if folder:
        for path in Path(folder).rglob("chinchilla_epoch.csv"):
            return read_table(path).filter(~pl.col("excluded_besiroglu")), "Besiroglu's rows"
    rng = np.random.default_rng(0)
    N = np.exp(rng.uniform(np.log(4e7), np.log(1.5e10), 240))
    D = N * np.exp(rng.uniform(np.log(2), np.log(200), 240))
    loss = (1.8 + 480 / N**0.35 + 2000 / D**0.37) * np.exp(0.004 * rng.standard_normal(240))
    frame = pl.DataFrame({"n_params": N, "tokens": D, "val_loss": loss})
    return normalise(frame), "simulated"


def _times(call: Callable[[], object], repeats: int) -> list[float]:
    call()
    return [_seconds(call) for _ in range(repeats)]


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
