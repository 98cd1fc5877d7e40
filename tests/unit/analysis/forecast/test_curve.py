"""The curve's derivatives, its optimum, and its identity with the published form of the law."""

import numpy as np
import pytest

from analysis.forecast.curve import (
    SIZE,
    Reference,
    constants,
    excess,
    log_loss,
    log_loss_and_jacobian,
    optimal_n,
)

AT = Reference(np.log(1e9), np.log(3e10))
PHI = np.array([0.9, 0.3, -0.2, np.log(0.3), np.log(0.4), np.log(0.6)])
N = np.log(np.geomspace(1e7, 1e12, 7))
D = np.log(np.geomspace(1e13, 1e9, 7))


def test_the_jacobian_is_that_of_finite_differences():
    _, J = log_loss_and_jacobian(PHI, N, D, AT)
    step = 1e-5
    for k in range(6):
        up, down = PHI.copy(), PHI.copy()
        up[k] += step
        down[k] -= step
        numeric = (log_loss(up, N, D, AT) - log_loss(down, N, D, AT)) / (2 * step)
        # Central differences of this step err by 1e-10 of the third derivative.
        assert J[:, k] == pytest.approx(numeric, abs=1e-9)


def test_it_is_the_law_with_gamma_in_other_coordinates():
    level, rho = np.exp(PHI[0]), 1 / (1 + np.exp(-PHI[1]))
    w, g = 1 / (1 + np.exp(-PHI[2])), np.exp(PHI[5])
    alpha, beta = np.exp(PHI[3]) / g, np.exp(PHI[4]) / g
    scale = (level * (1 - rho)) ** (1 / g)
    A, B = scale * w * np.exp(alpha * AT.n), scale * (1 - w) * np.exp(beta * AT.d)
    law = rho * level + (A * np.exp(-alpha * N) + B * np.exp(-beta * D)) ** g
    assert log_loss(PHI, N, D, AT) == pytest.approx(np.log(law), abs=1e-12)


def test_no_neighbour_on_the_budget_is_better_than_the_optimum():
    for product in (45.0, 55.0, 65.0):
        best = optimal_n(PHI, np.array([product]), AT)
        there = log_loss(PHI, best, product - best, AT)
        for step in (-0.01, 0.01):
            assert log_loss(PHI, best + step, product - best - step, AT) > there


def test_the_excess_is_zero_on_the_frontier_and_grows_away_from_it():
    best = optimal_n(PHI, np.array([50.0]), AT)
    n = best + np.array([0.0, 1.0, 2.0])
    above = excess(PHI, n, 50.0 - n, AT)
    assert above[0] == pytest.approx(0, abs=1e-12)
    assert 0 < above[1] < above[2]


def test_many_constants_give_many_curves():
    both = log_loss(np.stack([PHI, PHI + 0.1]), N, D, AT)
    assert both.shape == (2, 7)
    assert both[0] == pytest.approx(log_loss(PHI, N, D, AT), abs=1e-15)


def test_the_constants_of_a_curve_have_its_losses():
    rng = np.random.default_rng(3)
    phi = rng.normal([1.0, 0.2, 0.1, -1.0, -1.0, -0.4], 0.3, (5, SIZE))
    at = Reference(20.0, 23.0)
    n, d = rng.uniform(18, 22, 7), rng.uniform(21, 26, 7)
    for one in phi:
        loss = constants(one, at).loss(np.exp(n), np.exp(d))
        assert np.log(loss) == pytest.approx(log_loss(one, n, d, at), rel=1e-12)
