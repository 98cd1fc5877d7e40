"""Tables of mixtures simulated from known laws."""

from functools import cache

import numpy as np
import polars as pl

from analysis.law import Array

SOURCES = ("prose", "code", "wiki")
_C = np.array([2.0, 0.8, 1.8])
_T = np.array([[-1.2, 0.6, 0.1], [0.6, -1.6, 0.5], [0.2, 0.9, -1.1]])
_LOG_C = np.array([[0.9, -1.5, -0.8], [-1.4, 1.2, -1.6], [-0.9, -2.0, 1.0]])
_GAMMA = np.array([[0.5, 0.6, 0.5], [0.7, 0.4, 0.5], [0.5, 0.5, 0.6]])


def true_losses(shares: Array, form: str = "exponential", params: Array | None = None) -> Array:
    """Losses of three sources (m, 3), larger by 3/N^0.2 at a size."""
    if form == "exponential":
        losses = _C + np.exp(shares @ _T.T)
    else:
        terms = np.exp(_LOG_C) * np.maximum(shares, 0)[:, None, :] ** _GAMMA
        losses = _C + 1 / terms.sum(axis=-1)
    return losses if params is None else losses + 3 / params[:, None] ** 0.2


@cache
def _lattice() -> Array:
    steps = range(201)
    return np.array([(i, j, 200 - i - j) for i in steps for j in steps if i + j <= 200]) / 200


def true_best(form: str = "exponential") -> Array:
    """The mixture of least mean loss, to half a per cent."""
    return np.asarray(_lattice()[true_losses(_lattice(), form).mean(axis=1).argmin()])


def simulated(
    rows: int,
    *,
    noise: float = 0.005,
    form: str = "exponential",
    sizes: tuple[float, ...] = (),
    seed: int = 0,
) -> pl.DataFrame:
    """Mixtures spread over the triangle, its corners among them, with noise in ln L."""
    rng = np.random.default_rng(seed)
    shares = np.vstack([np.eye(3), rng.dirichlet(np.ones(3), rows - 3)])
    params = np.resize(sizes, rows) if sizes else None
    losses = true_losses(shares, form, params) * np.exp(noise * rng.normal(size=(rows, 3)))
    columns = {f"share_{name}": shares[:, j] for j, name in enumerate(SOURCES)}
    columns |= {f"loss_{name}": losses[:, j] for j, name in enumerate(SOURCES)}
    return pl.DataFrame(columns | ({"n_params": params} if params is not None else {}))
