"""Draw the bootstrap behind `analysis/tables/besiroglu_draws.csv`.

Besiroglu et al. (2024, arXiv:2404.10102) publish the constants of their fit and its standard
errors, not its draws. This script makes draws of our own: it resamples the 240 points they
keep and fits each resample with their objective, the summed Huber loss (delta 1e-3) of the
residual of log L, starting from the published optimum. Only the fitted constants are written, not
the points. Over eight seeds the 90 % interval of LLaMA-7B's spend
ratio had its ends at 0.74 to 0.76 and 1.54 to 1.58; seed 0 gives 0.745 and 1.567.

    ISOFLOP_PUBLISHED=FOLDER python bench/besiroglu_bootstrap.py analysis/tables/besiroglu_draws.csv
"""

import os
import sys
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import minimize

SEED = 0
DRAWS = 2000
HUBER_DELTA = 1e-3
# Their optimum: log A, log B, log E, alpha, beta.
PUBLISHED = np.array([6.17795598, 7.64273236, 0.59711196, 0.34781303, 0.36585412])


def points(folder: Path) -> tuple[NDArray[np.float64], ...]:
    """log N, log D and log L of the 240 points the paper keeps."""
    frame = pl.read_csv(folder / "published" / "chinchilla_epoch.csv")
    kept = frame.filter(pl.col("excluded_besiroglu").cast(pl.String).str.to_lowercase() == "false")
    return tuple(np.log(kept[name].to_numpy()) for name in ("params", "tokens", "loss"))


def objective(theta, log_N, log_D, log_L):
    """Summed Huber loss of log residuals and its gradient."""
    a, b, e, alpha, beta = theta
    terms = np.stack([a - alpha * log_N, b - beta * log_D, np.full_like(log_N, e)])
    top = terms.max(axis=0)
    weights = np.exp(terms - top)
    total = weights.sum(axis=0)
    residual = top + np.log(total) - log_L
    weights /= total
    size = np.abs(residual)
    loss = np.where(
        size <= HUBER_DELTA, residual**2 / 2, HUBER_DELTA * (size - HUBER_DELTA / 2)
    ).sum()
    slope = np.clip(residual, -HUBER_DELTA, HUBER_DELTA) * weights
    gradient = np.array(
        [slope[0].sum(), slope[1].sum(), slope[2].sum(), -slope[0] @ log_N, -slope[1] @ log_D]
    )
    # Unscaled the sum is near 1e-3, below the search's absolute tolerance.
    return 1e6 * loss, 1e6 * gradient


def fit(log_N, log_D, log_L, start=PUBLISHED):
    """The optimum from a start, in coordinates centred on the data's middle.

    Centring decorrelates the offsets from the exponents; without it the search stops in the long
    valley where A and alpha move together.
    """
    centre_N, centre_D = log_N.mean(), log_D.mean()
    begin = start - np.array([start[3] * centre_N, start[4] * centre_D, 0, 0, 0])
    result = minimize(
        objective,
        begin,
        args=(log_N - centre_N, log_D - centre_D, log_L),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 10000, "ftol": 1e-13, "gtol": 1e-8},
    )
    return result.x + np.array([result.x[3] * centre_N, result.x[4] * centre_D, 0, 0, 0])


def draws(count: int, folder: Path) -> NDArray[np.float64]:
    """`count` fits to seeded resamples of the points, one row each."""
    data = points(folder)
    rng = np.random.default_rng(SEED)
    start = fit(*data)
    rows = []
    for _ in range(count):
        chosen = rng.integers(0, len(data[0]), len(data[0]))
        rows.append(fit(*(column[chosen] for column in data), start=start))
    return np.array(rows)


def main() -> None:
    """Write the draws with six decimals, and print medians and standard deviations."""
    table = draws(DRAWS, Path(os.environ["ISOFLOP_PUBLISHED"]))
    names = ("log_A", "log_B", "log_E", "alpha", "beta")
    lines = [",".join(names)] + [",".join(f"{value:.6f}" for value in row) for row in table]
    Path(sys.argv[1]).write_text("\n".join(lines) + "\n")
    spread = table.std(axis=0)
    for name, value, sigma in zip(names, np.median(table, axis=0), spread, strict=True):
        print(f"{name:6s} median {value:.5f} standard deviation {sigma:.5f}")


if __name__ == "__main__":
    main()
