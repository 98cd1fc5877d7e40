"""The ridge is Bayes' linear regression under the penalty of least error on rows left out."""

import numpy as np
import pytest

from analysis.law import Array
from analysis.mixtures.ridge import _PENALTIES, Ridge, RidgeLaw
from analysis.mixtures.rows import read_mixtures
from analysis.table.files import described
from tests.unit.analysis.mixtures.simulated import simulated

K = 3


@pytest.fixture(params=[(12, 0.002), (12, 0.3), (40, 0.1)])
def data(request: pytest.FixtureRequest) -> tuple[Array, Array]:
    """Inputs and ln L, with N."""
    rows, noise = request.param
    frame = simulated(rows, sizes=(1e7, 1e8), noise=noise, seed=5)
    table = read_mixtures(described(frame), mapping={})
    return table.inputs, np.log(table.losses)


def fitted(inputs: Array, y: Array) -> Ridge:
    [fit] = RidgeLaw().fits(inputs, K, y, [np.ones(len(y), bool)])
    assert isinstance(fit, Ridge)
    return fit


def columns(inputs: Array) -> Array:
    return np.hstack([inputs[:, :K], np.log(inputs[:, :K] + 1e-3), inputs[:, K:]])


def standard(columns: Array) -> Array:
    return np.asarray((columns - columns.mean(axis=0)) / columns.std(axis=0))


def left_out_error(X: Array, z: Array, penalty: float) -> float:
    """Mean square of each row's error under the fit to the others, their mean not penalised."""
    errors = []
    for row in range(len(z)):
        others = np.arange(len(z)) != row
        centre, mean = X[others].mean(axis=0), z[others].mean(axis=0)
        A = X[others] - centre
        slopes = np.linalg.solve(A.T @ A + penalty * np.eye(X.shape[1]), A.T @ (z[others] - mean))
        errors.append(z[row] - mean - (X[row] - centre) @ slopes)
    return float(np.square(errors).mean())


def penalty_of(fit: Ridge, X: Array, z: Array) -> float:
    """The penalty under which these are the coefficients."""
    eye = np.eye(X.shape[1])
    [penalty] = [
        penalty
        for penalty in _PENALTIES
        if np.allclose(fit.coefficients.T, np.linalg.solve(X.T @ X + penalty * eye, X.T @ z))
    ]
    return penalty


def test_the_penalty_is_that_of_least_error_on_rows_left_out(data: tuple[Array, Array]) -> None:
    inputs, y = data
    X, z = standard(columns(inputs)), standard(y)
    best = min(_PENALTIES, key=lambda penalty: left_out_error(X, z, penalty))
    assert penalty_of(fitted(inputs, y), X, z) == best


def test_spread_and_draws_are_those_of_the_normal_posterior(data: tuple[Array, Array]) -> None:
    inputs, y = data
    fit, X, z = fitted(inputs, y), standard(columns(inputs)), standard(y)
    inverse = np.linalg.inv(X.T @ X + penalty_of(fit, X, z) * np.eye(X.shape[1]))
    freedom = len(z) - 1 - np.trace(X @ inverse @ X.T)
    noise = ((z - X @ inverse @ X.T @ z) ** 2).sum(axis=0) / freedom
    shares = np.random.default_rng(2).dirichlet(np.ones(K), 4)
    asked = np.hstack([shares, np.full((4, 1), np.log(3e8))])
    own = columns(inputs)
    at = (columns(asked) - own.mean(axis=0)) / own.std(axis=0)
    law = (at @ inverse * at).sum(axis=1)[:, None] * noise
    assert fit.spread(asked) == pytest.approx(np.sqrt(law + noise) * y.std(axis=0))
    drawn = fit.draws(4000, np.random.default_rng(3))
    for place, row in enumerate(asked):
        logs = drawn.slopes(np.repeat(row[None], 4000, axis=0))[0]
        sd = np.sqrt(law[place]) * y.std(axis=0)
        # 4,000 draws tell a deviation to 1.1 % and a mean to 1.6 % of it.
        assert logs.std(axis=0) == pytest.approx(sd, rel=0.05)
        assert np.abs(logs.mean(axis=0) - fit.log_losses(row[None])[0]).max() < 0.07 * sd.max()
