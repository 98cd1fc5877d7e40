"""Repeated data: how fast repeated tokens and excess parameters lose value.

Muennighoff et al. 2023 (arXiv:2305.16264), section 3.1: with U unique tokens, D tokens seen
count as D' = U + U·R_D·(1 - exp(-(D/U - 1)/R_D)), and N parameters as the same expression
around U_N, the compute-optimal size for U tokens, with R_N.
"""

import numpy as np

from analysis.law import Array, Constants, Law, LossLaw


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
    U_N = optimal_size_for_tokens(law, np.minimum(U, D))
    R_D, R_N = np.asarray(law.repetition.R_D), np.asarray(law.repetition.R_N)
    return law.loss(effective(N, U_N, R_N), effective(D, U, R_D))
