"""Ridge regression of ln L on shares and log shares."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.law import Array
from analysis.mixtures.surface import Fitted, Mask, Scaling, Surface

# Added to a share before its logarithm, which zero has none of.
_LEAST_SHARE = 1e-3
_PENALTIES = (0.1, 1.0, 10.0)


@dataclass(frozen=True, slots=True)
class Ridge:
    """A fitted ridge; see `surface.Fitted`.

    Attributes:
        features, losses: how features and ln L were standardised.
        coefficients: (t, f), or of draws (draws, t, f).
        covariance: of the coefficients, but for the variance of the noise (f, f).
        noise: its variance by loss (t,).
    """

    k: int
    features: Scaling
    losses: Scaling
    coefficients: Array
    covariance: Array
    noise: Array

    def log_losses(self, inputs: Array) -> Array:
        at = self.features(_columns(inputs, self.k))
        return np.asarray(at @ self.coefficients.T * self.losses.width + self.losses.centre)

    def spread(self, inputs: Array) -> Array:
        at = self.features(_columns(inputs, self.k))
        lever = 1 + ((at @ self.covariance) * at).sum(axis=1)
        return np.asarray(np.sqrt(lever[:, None] * self.noise) * self.losses.width)

    def slopes(self, inputs: Array) -> tuple[Array, Array]:
        at = self.features(_columns(inputs, self.k))
        each = np.broadcast_to(self.coefficients, (len(at), *self.coefficients.shape[-2:]))
        logs = (each @ at[..., None])[..., 0] * self.losses.width + self.losses.centre
        width = self.features.width
        linear = each[..., : self.k] / width[: self.k]
        by_log = each[..., self.k : 2 * self.k] / width[self.k : 2 * self.k]
        slopes = linear + by_log / (inputs[:, None, : self.k] + _LEAST_SHARE)
        return logs, slopes * self.losses.width[:, None]

    def draws(self, count: int, rng: np.random.Generator) -> Surface:
        """Draws of the coefficients' normal posterior."""
        factor = np.linalg.cholesky(self.covariance + 1e-12 * np.eye(len(self.covariance)))
        t, f = self.coefficients.shape
        moved = rng.standard_normal((count, t, f)) @ factor.T * np.sqrt(self.noise)[:, None]
        return replace(self, coefficients=self.coefficients + moved)


class RidgeLaw:
    """The ridge as a law to choose; see `surface.Law`."""

    name = "ridge"
    formula = "ln L of each source linear in r_j and ln(r_j + 0.001), by ridge regression"

    def least_rows(self, k: int, s: int) -> int:
        return 6

    def fits(self, inputs: Array, k: int, y: Array, keep: Sequence[Mask]) -> list[Fitted]:
        return [_fit(inputs[mask], k, y[mask]) for mask in keep]


def _fit(inputs: Array, k: int, y: Array) -> Ridge:
    columns = _columns(inputs, k)
    features, losses = Scaling.of(columns), Scaling.of(y)
    X, z = features(columns), losses(y)
    left, sizes, right = np.linalg.svd(X, full_matrices=False)

    def held_out(penalty: float) -> float:
        """The mean square of leaving each row out in turn, in closed form."""
        shrunk = sizes**2 / (sizes**2 + penalty)
        errors = z - (left * shrunk) @ (left.T @ z)
        # The mean takes 1/rows.
        lever = ((left**2) * shrunk).sum(axis=1) + 1 / len(z)
        return float(((errors / np.maximum(1 - lever, 1e-6)[:, None]) ** 2).mean())

    penalty = min(_PENALTIES, key=held_out)
    inverse = 1 / (sizes**2 + penalty)
    coefficients = ((right.T * (sizes * inverse)) @ (left.T @ z)).T
    shrunk = sizes**2 * inverse
    errors = z - X @ coefficients.T
    noise = (errors**2).sum(axis=0) / max(len(z) - 1 - float(shrunk.sum()), 1.0)
    # Directions in which no row lies keep the penalty's own variance.
    rest = np.eye(X.shape[1]) - right.T @ right
    covariance = (right.T * inverse) @ right + rest / penalty
    return Ridge(k, features, losses, coefficients, covariance, noise)


def _columns(inputs: Array, k: int) -> Array:
    shares, sizes = inputs[:, :k], inputs[:, k:]
    return np.hstack([shares, np.log(shares + _LEAST_SHARE), sizes])
