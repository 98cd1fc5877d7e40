"""Tables of runs simulated from a known law, for the tests of fits."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from analysis.fit.options import FitOptions
from analysis.law import Array, Form, LossLaw, RepeatedForm, RepeatedLaw, Repetition
from analysis.repeated_data import predict, repeated_loss
from analysis.solver.objective import Objective, ObjectiveName
from analysis.table.columns import normalise
from analysis.table.observations import Table

# Constants near the published fits of Chinchilla's runs.
CHINCHILLA = LossLaw(
    name="simulated",
    form="chinchilla",
    E=1.8,
    A=480.0,
    B=2000.0,
    alpha=0.35,
    beta=0.37,
    n_counts="unknown",
    c_counts="flops_6nd",
    loss_unit="unknown",
    source="made up",
)


def law_of(form: Form, **changes: float) -> LossLaw:
    """CHINCHILLA as another form."""
    fixed: dict[Form, dict[str, object]] = {
        "tied": {"beta": 0.35},
        "gamma": {"gamma": 0.7},
        "kaplan": {"E": 0.0, "A": 5e6, "B": 4e8, "alpha": 0.85, "beta": 1.0, "gamma": 0.1},
        "data_constrained": {"repetition": Repetition(R_D=15.4, R_N=5.3)},
    }
    return LossLaw.model_validate(
        CHINCHILLA.model_dump() | {"form": form} | fixed.get(form, {}) | changes
    )


def options(
    form: Form = "chinchilla",
    objective: ObjectiveName = "huber_log",
    delta: float = 1e-3,
    bootstrap: int = 0,
    seed: int = 0,
    level: float = 0.9,
) -> FitOptions:
    """Options of a fit that resamples only where a test asks for it."""
    return FitOptions(form, Objective(objective, delta), bootstrap, seed, level)


def grid(sizes: int = 6, horizons: int = 6) -> tuple[Array, Array]:
    """N and D of a full grid."""
    N, D = np.meshgrid(np.geomspace(5e7, 5e9, sizes), np.geomspace(1e9, 1e11, horizons))
    return N.ravel(), D.ravel()


def isoflops(
    law: LossLaw = CHINCHILLA, budgets: int = 5, sizes: int = 7, reach: float = 4.0
) -> tuple[Array, Array]:
    """N and D of IsoFLOP profiles centred on the law's own optimum."""
    C = np.repeat(np.geomspace(1e18, 1e21, budgets), sizes)
    log_G = np.log(law.alpha * law.A / (law.beta * law.B)) / (law.alpha + law.beta)
    best = np.exp(log_G + law.exponent_N * np.log(C / 6))
    N = best * np.tile(np.geomspace(1 / reach, reach, sizes), budgets)
    return N, C / 6 / N


def table(
    N: Array, D: Array, law: LossLaw = CHINCHILLA, *, noise: float = 0.0, seed: int = 0
) -> pl.DataFrame:
    """A table of the law's losses with log-normal noise; repeated data where the law has it."""
    unique = np.tile([1e9, 1e10], len(N))[: len(N)]
    loss = law.loss(N, D) if law.repetition is None else predict(law, N, D, unique)
    loss = loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(N)))
    frame = pl.DataFrame({"n_params": N, "tokens": D, "val_loss": loss})
    return frame if law.repetition is None else frame.with_columns(unique_tokens=unique)


def weighed(frame: pl.DataFrame, weights: Array | float) -> Table:
    """A table whose rows weigh so, each or all of them."""
    weights = np.broadcast_to(weights, frame.height)
    return normalise(frame.with_columns(weights=weights), mapping={"weight": "weights"})


_BASE = {"E": 1.8, "A": 480.0, "B": 2000.0, "alpha": 0.35, "beta": 0.37}
_REPEATED: dict[RepeatedForm, dict[str, float]] = {
    "half_lives": {**_BASE, "R_D": 15.4, "R_N": 5.3},
    "penalty": {**_BASE, "P": 0.02, "delta": 0.9, "kappa": 0.5},
    "bounded": {
        **{"E": 1.8, "L0": 10.0, "a": 60.0, "b": 250.0, "c": 0.2, "alpha": 0.35, "beta": 0.37},
        **{"gamma": 0.5, "delta": 0.55},
    },
}


def repeated_law(form: RepeatedForm) -> RepeatedLaw:
    """A law of repeated data; they differ by a few percent at 16 epochs."""
    return RepeatedLaw(form=form, constants=_REPEATED[form], source="made up", most_epochs=16)


def repeated_table(
    law: RepeatedLaw,
    epochs: Sequence[float] = (1, 2, 4, 16),
    *,
    sizes: int = 3,
    noise: float = 0.0,
    seed: int = 0,
) -> pl.DataFrame:
    """A grid of N and D whose rows each read D/epochs unique tokens."""
    axes = np.geomspace(5e7, 2e9, sizes), np.geomspace(2e9, 6e10, 4), np.asarray(epochs, float)
    N, D, times = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    loss = repeated_loss(law, N, D, D / times)
    loss = loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(N)))
    return pl.DataFrame({"n_params": N, "tokens": D, "unique_tokens": D / times, "val_loss": loss})
