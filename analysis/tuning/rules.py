"""The best learning rate and batch by published rules, and their exponents."""

import numpy as np
import polars as pl

from analysis.published import lr_exponents, lr_rules
from analysis.tuning.law import Exponents


def predictions(*, n_params: float, n_params_non_embedding: float, tokens: float) -> pl.DataFrame:
    """The peak learning rate and batch in tokens by each rule, at a size and a budget.

    Rules in compute take C = 6·N·D.

    Returns:
        rule, quantity (`lr` or `batch_tokens`), value, source.
    """
    counts = {"n_params": n_params, "n_params_non_embedding": n_params_non_embedding}
    rows = []
    for rule in lr_rules().iter_rows(named=True):
        N = counts[rule["n_counts"] or "n_params"]
        value = (
            rule["coef"]
            * N ** rule["exponent_N"]
            * tokens ** rule["exponent_D"]
            * (6 * n_params * tokens) ** rule["exponent_C"]
        )
        rows.append({**{key: rule[key] for key in ("rule", "quantity", "source")}, "value": value})
    return pl.DataFrame(rows).select("rule", "quantity", "value", "source")


def published_exponents() -> dict[str, Exponents]:
    """Priors of our laws' exponents from published rules, by `lr` and `batch_tokens`.

    Rules for the learning rate disagree on the shares of N and D in its fall and agree on the fall
    where both grow together, so mean and spread are taken along that ray and along D. The spread
    is that of one more rule like these: s·sqrt(1 + 1/n).
    """
    (ray, ray_sd, rules), (along, along_sd, _) = _expected("lr", "ray"), _expected("lr", "D")
    # exponent_N is the ray's exponent less exponent_D.
    turn = np.array([[1.0, -1.0], [0.0, 1.0]])
    batch, batch_sd, batch_rules = _expected("batch_tokens", "D")
    return {
        "lr": Exponents(
            mean=turn @ np.array([ray, along]),
            covariance=turn @ np.diag([ray_sd**2, along_sd**2]) @ turn.T,
            words=f"N^{ray:.2f} ± {ray_sd:.2f} where D grows with N ({rules}), "
            f"D^{along:.2f} ± {along_sd:.2f} where N stays",
        ),
        "batch_tokens": Exponents(
            mean=np.array([batch]),
            covariance=np.array([[batch_sd**2]]),
            words=f"D^{batch:.2f} ± {batch_sd:.2f} ({batch_rules})",
        ),
    }


def _expected(quantity: str, along: str) -> tuple[float, float, str]:
    """Mean of the published exponents, spread of one more, and the names of their rules."""
    rows = lr_exponents().filter((pl.col("quantity") == quantity) & (pl.col("along") == along))
    exponents = rows["exponent"].to_numpy()
    spread = exponents.std(ddof=1) * np.sqrt(1 + 1 / len(exponents))
    return float(exponents.mean()), float(spread), ", ".join(rows["rule"])
