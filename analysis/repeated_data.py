"""Repeated data: how fast repeated tokens and excess parameters lose value.

Three forms, for N parameters and D tokens seen of which U are unique (U is D where fewer are seen):

half_lives  Muennighoff et al. 2023 (arXiv:2305.16264), section 3.1: L = E + A/N'^alpha +
            B/D'^beta, where D' = U + U·R_D·(1 - exp(-(D/U - 1)/R_D)), and N' is the same expression
            around U_N, the compute-optimal size for U tokens, with R_N.
penalty     Lovelace et al. 2026 (arXiv:2605.01640): L = E + A/N^alpha + B/D^beta +
            P·(D/U - 1)^delta·(N/U)^kappa. Loss rises again where data repeat too often.
bounded     Bryant and Liu 2026 (arXiv:2605.09189): L = E + (L0 - E)·h/(1 + h) with h = a/N^alpha +
            b/D^beta + c·N^gamma/U^delta, so that no loss exceeds L0, that of a model without
            knowledge.

The last two equations are as others quote them: Weng 2026, "Scaling Laws, Carefully", the former;
the review of the paper at pith.science, the latter. The papers themselves were not at hand.
"""

from collections.abc import Mapping

import numpy as np

from analysis.law import Array, Constants, Law, LossLaw, RepeatedForm, RepeatedLaw


def effective(seen: Array, unique: Array, R: Array) -> Array:
    """Fresh units worth as much as `seen`, of which only `unique` are fresh; broadcasts."""
    fresh = np.minimum(seen, unique)
    repeats = np.maximum(seen / unique - 1.0, 0.0)
    return np.asarray(fresh + unique * R * -np.expm1(-repeats / R))


def optimal_size_for_tokens(law: Law, tokens: Array) -> Array:
    """The N for which `tokens` is the compute-optimal D (their appendix A)."""
    law = Constants.of(law)
    ratio = law.alpha * law.A / (law.beta * law.B)
    return np.asarray((ratio * tokens**law.beta) ** (1 / law.alpha))


def predict(law: LossLaw, N: Array, D: Array, U: Array) -> Array:
    """Loss of a law with repetition at D tokens seen of which U are unique; broadcasts.

    Raises:
        ValueError: the law has no repetition.
    """
    if law.repetition is None:
        raise ValueError(
            f"law {law.name} has no repetition: it was not fitted on repeated data. "
            "Fit one with --form data_constrained."
        )
    R_D, R_N = np.asarray(law.repetition.R_D), np.asarray(law.repetition.R_N)
    return half_lives_loss(law, R_D, R_N, N, D, U)


def repeated_loss(law: RepeatedLaw, N: Array, D: Array, U: Array) -> Array:
    """Loss at N parameters and D tokens seen of which U are unique; broadcasts."""
    constants = {name: np.asarray(value) for name, value in law.constants.items()}
    return loss_of_form(law.form, constants, N, D, U)


def excess(law: RepeatedLaw, N: Array, D: Array, U: Array) -> Array:
    """The loss that repetition costs: above that of D tokens which are all unique; broadcasts."""
    constants = {name: np.asarray(value) for name, value in law.constants.items()}
    return excess_of_form(law.form, constants, N, D, U)


def excess_of_form(
    form: RepeatedForm, of: Mapping[str, Array], N: Array, D: Array, U: Array
) -> Array:
    """`excess` under constants by name, which may be draws."""
    return loss_of_form(form, of, N, D, U) - loss_of_form(form, of, N, D, D)


def loss_of_form(
    form: RepeatedForm, of: Mapping[str, Array], N: Array, D: Array, U: Array
) -> Array:
    """Loss under the constants of a form by name, which may be draws; broadcasts."""
    U = np.minimum(U, D)
    if form == "bounded":
        h = of["a"] * N ** -of["alpha"] + of["b"] * D ** -of["beta"]
        h = h + of["c"] * N ** of["gamma"] * U ** -of["delta"]
        return np.asarray(of["E"] + (of["L0"] - of["E"]) * h / (1 + h))
    E, A, B, alpha, beta = (of[name] for name in ("E", "A", "B", "alpha", "beta"))
    law = Constants(E, A, B, alpha, beta, gamma=np.asarray(1.0))
    if form == "half_lives":
        return half_lives_loss(law, of["R_D"], of["R_N"], N, D, U)
    repeats, load = np.maximum(D / U - 1.0, 0.0), N / U
    return np.asarray(law.loss(N, D) + of["P"] * repeats ** of["delta"] * load ** of["kappa"])


def half_lives_loss(law: Law, R_D: Array, R_N: Array, N: Array, D: Array, U: Array) -> Array:
    """Loss of a law, or of its draws, whose N and D are effective ones (eq. 5, 6); broadcasts."""
    U_N = optimal_size_for_tokens(law, np.minimum(U, D))
    return law.loss(effective(N, U_N, R_N), effective(D, U, R_D))
