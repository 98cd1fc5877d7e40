"""The kernel regression is a Gaussian process of the likeliest spread and noise."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from analysis.law import Array
from analysis.mixtures.kernel import _NOISES, _SPREADS, Kernel, fit_kernel
from analysis.mixtures.rows import Mixtures, read_mixtures
from analysis.table.files import described
from tests.unit.analysis.mixtures.simulated import simulated

K = 3


@pytest.fixture(scope="module", params=[0.002, 0.1])
def table(request: pytest.FixtureRequest) -> Mixtures:
    frame = simulated(30, sizes=(1e7, 1e8), noise=request.param, seed=4)
    return read_mixtures(described(frame), mapping={})


@pytest.fixture(scope="module")
def kernel(table: Mixtures) -> Kernel:
    return fit_kernel(table.inputs, K, np.log(table.losses))


def covariance(at: Array, rows: Array, weights: Array) -> Array:
    """Squared-exponential in all features, and lines of variance 4 in the sizes."""
    square = ((at[:, None] - rows) ** 2 * weights).sum(axis=-1)
    return np.asarray(np.exp(-square / 2) + 4 * at[:, K:] @ rows[:, K:].T)


def asked() -> Array:
    shares = np.random.default_rng(7).dirichlet(np.ones(K), 5)
    return np.hstack([shares, np.log([[1e7], [3e7], [1e8], [1e8], [1e9]])])


def test_losses_and_their_spread_are_a_gaussian_processes(table: Mixtures, kernel: Kernel) -> None:
    y, at = np.log(table.losses), kernel.features(asked())
    losses, spread = kernel.log_losses(asked()), kernel.spread(asked())
    for j, fit in enumerate(kernel.fits):
        z = (y[:, j] - y[:, j].mean()) / y[:, j].std()
        inverse = np.linalg.inv(
            covariance(kernel.rows, kernel.rows, fit.weights) + fit.noise * np.eye(len(z))
        )
        across = covariance(at, kernel.rows, fit.weights)
        assert fit.variance == pytest.approx(z @ inverse @ z / len(z), rel=1e-6)
        mean = across @ inverse @ z
        assert losses[:, j] == pytest.approx(mean * y[:, j].std() + y[:, j].mean(), rel=1e-6)
        own = np.diag(covariance(at, at, fit.weights)) + fit.noise
        left = fit.variance * (own - (across @ inverse * across).sum(axis=1))
        # An inverse of a kernel with noise of a thousandth is exact to 1e-6 of its largest term.
        assert spread[:, j] == pytest.approx(np.sqrt(left) * y[:, j].std(), rel=1e-4)


def test_spread_and_noise_are_the_likeliest(table: Mixtures, kernel: Kernel) -> None:
    y = np.log(table.losses)
    for j, fit in enumerate(kernel.fits):
        z = (y[:, j] - y[:, j].mean()) / y[:, j].std()
        # Weights are learnt for a total variance of 1 of the features.
        spread = float(fit.weights @ kernel.rows.var(axis=0))

        def likelihood(
            choice: tuple[float, float], z: Array = z, weights: Array = fit.weights / spread
        ) -> float:
            matrix = covariance(kernel.rows, kernel.rows, weights * choice[0])
            matrix += choice[1] * np.eye(len(z))
            matrix *= z @ np.linalg.solve(matrix, z) / len(z)
            return float(multivariate_normal.logpdf(z, cov=matrix))

        best = max(((s, n) for s in _SPREADS for n in _NOISES), key=likelihood)
        assert (spread, fit.noise) == pytest.approx(best)


def test_draws_are_as_far_apart_as_the_process_is_unsure(kernel: Kernel) -> None:
    count = 4000
    drawn = kernel.draws(count, np.random.default_rng(1))
    spread, losses = kernel.spread(asked()), kernel.log_losses(asked())
    for i, inputs in enumerate(asked()):
        logs = drawn.slopes(np.repeat(inputs[None], count, axis=0))[0]
        for j, fit in enumerate(kernel.fits):
            noise = fit.noise * fit.variance * kernel.losses.width[j] ** 2
            sd = np.sqrt(spread[i, j] ** 2 - noise)
            assert logs[:, j].mean() == pytest.approx(losses[i, j], abs=0.3 * sd)
            # A draw of the prior is a sum of 120 waves, not a Gaussian process.
            assert 0.6 < logs[:, j].std() / sd < 1.6
