"""From simulated sweeps through the fit to the frontier: do the intervals keep their promise?"""

import numpy as np
import polars as pl
import pytest

from analysis.fit.options import FitOptions
from analysis.fit.parametric import fit_parametric
from analysis.frontier.allocation import compute_optimal
from analysis.frontier.decision import AtBudget, AtLoss, Goal, Like, frontier
from analysis.law import LossLaw
from analysis.table.columns import normalise

TRUTH = LossLaw(
    name="truth",
    form="chinchilla",
    E=1.8,
    A=480,
    B=2000,
    alpha=0.348,
    beta=0.366,
    n_counts="n_params",
    c_counts="flops_6nd",
    loss_unit="nats_per_token",
    source="simulated",
)
REPEATS = 200


@pytest.mark.slow
def test_the_interval_of_the_best_size_covers_the_truth_at_its_rate() -> None:
    # Six budgets of nine sizes each; 0.2 % of noise in the loss is what a change of seed does.
    C = np.repeat(np.geomspace(1e18, 1e21, 6), 9)
    N = np.round(compute_optimal(TRUTH, C)[0] * np.tile(np.geomspace(0.2, 5, 9), 6))
    D = np.round(C / 6 / N)
    goals: tuple[Goal, ...] = (
        AtBudget(1e21),
        AtLoss(float(AtBudget(1e21).loss_under(TRUTH))),
        Like(2e9, 5e10),
    )
    demand = 3 * float(compute_optimal(TRUTH, 1e21)[1])
    true_sizes = [float(frontier(TRUTH, goal, demand).optimum.N[0]) for goal in goals]
    covered = np.zeros((REPEATS, len(goals)))
    rng = np.random.default_rng(0)
    for repeat in range(REPEATS):
        noisy = TRUTH.loss(N, D) * np.exp(rng.normal(0, 0.002, N.size))
        runs = pl.DataFrame({"n_params": N.astype(int), "tokens": D.astype(int), "val_loss": noisy})
        law = fit_parametric(normalise(runs), FitOptions(bootstrap=300, seed=repeat)).law
        for column, (goal, size) in enumerate(zip(goals, true_sizes, strict=True)):
            interval = frontier(law, goal, demand).interval("N", 0.9)
            assert interval is not None
            covered[repeat, column] = interval[0][0] <= size <= interval[1][0]
    # A true rate of 90 % is estimated to ±2 % by 200 repeats.
    rates = covered.mean(axis=0)
    assert ((rates >= 0.85) & (rates <= 0.95)).all(), f"coverage {rates} of the 90 % interval"
