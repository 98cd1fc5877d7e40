"""The forms of a law of repeated data as fits see them: coordinates, box, starts.

analysis/repeated_data.py has their equations and sources.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.law import Array, RepeatedForm
from analysis.solver.kernels import log_sum, repeated_log
from analysis.solver.objective import Rows
from analysis.solver.problem import AMPLITUDE_BOX, E_DEPTH, EXPONENT_BOX, R_BOX

_POWER = (1e-3, 4.0)
# ln of a term that is not there.
_NOTHING = -1e3


@dataclass(frozen=True, slots=True)
class Form:
    """A law of N, D and U in coordinates theta, of logs centred as `Rows` has them.

    The first five are ln E, ln A, ln B, alpha and beta, or what stands for them.

    Attributes:
        name: None for the law that counts every token as fresh.
        words: what people call it, with its source.
        log_loss: log of the loss, problems by rows; theta (s, p) may be complex.
        extra_box: bounds of the coordinates after the first five.
        starts: theta (s, p) from one (5,) of the plain law.
        constants: the law's constants by name, each (s,).
    """

    name: RepeatedForm | None
    words: str
    log_loss: Callable[[Rows, NDArray[Any]], NDArray[Any]]
    extra_box: Callable[[Rows], tuple[tuple[float, float], ...]]
    starts: Callable[[Array, Rows], Array]
    constants: Callable[[Array, Rows], dict[str, Array]]

    def box(self, rows: Rows) -> tuple[Array, Array]:
        """Lowest and highest value of each coordinate."""
        low, high = float(np.log(rows.loss.min())), float(np.log(rows.loss.max()))
        bounds = [(low - E_DEPTH, high), *[AMPLITUDE_BOX] * 2, *[EXPONENT_BOX] * 2]
        lower, upper = np.array([*bounds, *self.extra_box(rows)]).T
        return lower, upper


def _plain_constants(theta: Array, rows: Rows) -> dict[str, Array]:
    e, a, b, alpha, beta = theta.T[:5]
    E, A, B = np.exp(e), np.exp(a + alpha * rows.n_mean), np.exp(b + beta * rows.d_mean)
    return {"E": E, "A": A, "B": B, "alpha": alpha, "beta": beta}


def _around(base: Array, *axes: tuple[float, ...]) -> Array:
    """The plain law's coordinates, with every combination of the others'."""
    mesh = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
    return np.hstack([np.repeat(base[None], len(mesh), axis=0), mesh])


FRESH = Form(
    name=None,
    words="every token counts as fresh",
    log_loss=lambda rows, theta: log_sum(_plain_terms(rows, theta)),
    extra_box=lambda _: (),
    starts=lambda base, _: base[None],
    constants=_plain_constants,
)

HALF_LIVES = Form(
    name="half_lives",
    words="half-lives (Muennighoff et al. 2023)",
    log_loss=repeated_log,
    extra_box=lambda _: (R_BOX, R_BOX),
    starts=lambda base, _: _around(base, (0.7, 2.1, 3.4), (0.0, 1.6, 3.0, 5.3)),
    constants=lambda theta, rows: (
        _plain_constants(theta, rows) | {"R_D": np.exp(theta[:, 5]), "R_N": np.exp(theta[:, 6])}
    ),
)


def _unique(rows: Rows) -> Array:
    assert rows.unique is not None
    return rows.unique


def _penalty_log(rows: Rows, theta: NDArray[Any]) -> NDArray[Any]:
    p, delta, kappa = (theta[:, k, None] for k in range(5, 8))
    unique = _unique(rows)
    repeats = np.maximum(np.expm1(rows.d - unique), 0.0)
    some = repeats > 0
    log_repeats = np.log(np.where(some, repeats, 1.0))
    term = np.where(some, p + delta * log_repeats + kappa * (rows.n - unique), _NOTHING)
    return log_sum((*_plain_terms(rows, theta), term))


def _penalty_constants(theta: Array, rows: Rows) -> dict[str, Array]:
    p, delta, kappa = theta.T[5:]
    P = np.exp(p - kappa * (rows.n_mean - rows.d_mean))
    return _plain_constants(theta, rows) | {"P": P, "delta": delta, "kappa": kappa}


PENALTY = Form(
    name="penalty",
    words="additive penalty (Lovelace et al. 2026)",
    log_loss=_penalty_log,
    extra_box=lambda _: ((-30.0, 10.0), (0.05, 4.0), (0.0, 4.0)),
    starts=lambda base, _: _around(base, (-8.0, -5.0, -2.5), (0.5, 1.0, 1.8), (0.2, 0.9)),
    constants=_penalty_constants,
)


def _bounded_log(rows: Rows, theta: NDArray[Any]) -> NDArray[Any]:
    e, a, b, alpha, beta, span, c, gamma, delta = (theta[:, k, None] for k in range(9))
    overfit = c + gamma * rows.n - delta * _unique(rows)
    h = log_sum((a - alpha * rows.n, b - beta * rows.d, overfit))
    return log_sum((e + 0 * h, span + h - log_sum((0 * h, h))))


def _bounded_box(rows: Rows) -> tuple[tuple[float, float], ...]:
    least, most = float(rows.loss.min()), float(rows.loss.max())
    span = (float(np.log(max(most - least, 1e-3 * most))), float(np.log(4 * most)))
    return (span, (-40.0, 10.0), _POWER, _POWER)


def _bounded_starts(base: Array, rows: Rows) -> Array:
    most = float(rows.loss.max())
    starts = []
    for span in np.log([1.2 * most, 2.5 * most]):
        moved = base - np.array([0.0, span, span, 0.0, 0.0])
        starts.append(
            _around(moved, (float(span),), (-7.0, -4.5, -2.5), (0.2, 0.5, 1.0), (0.2, 0.5, 1.0))
        )
    return np.concatenate(starts)


def _bounded_constants(theta: Array, rows: Rows) -> dict[str, Array]:
    e, a, b, alpha, beta, span, c, gamma, delta = theta.T
    return {
        "E": np.exp(e),
        "L0": np.exp(e) + np.exp(span),
        "a": np.exp(a + alpha * rows.n_mean),
        "b": np.exp(b + beta * rows.d_mean),
        "c": np.exp(c - gamma * rows.n_mean + delta * rows.d_mean),
        "alpha": alpha,
        "beta": beta,
        "gamma": gamma,
        "delta": delta,
    }


BOUNDED = Form(
    name="bounded",
    words="bounded (Bryant and Liu 2026)",
    log_loss=_bounded_log,
    extra_box=_bounded_box,
    starts=_bounded_starts,
    constants=_bounded_constants,
)

# From few constants to many: of forms that do equally well the first one is chosen.
FORMS = (HALF_LIVES, PENALTY, BOUNDED)


def _plain_terms(rows: Rows, theta: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    e, a, b, alpha, beta = (theta[:, k, None] for k in range(5))
    return e + 0 * rows.n, a - alpha * rows.n, b - beta * rows.d
