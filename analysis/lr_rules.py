"""What published rules say of the best learning rate and batch."""

import polars as pl

from analysis.published import lr_rules


def predictions(*, n_params: float, n_params_non_embedding: float, tokens: float) -> pl.DataFrame:
    """The peak learning rate and batch in tokens that each rule gives a size at a budget.

    Rules in compute are asked with C = 6·N·D.

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
