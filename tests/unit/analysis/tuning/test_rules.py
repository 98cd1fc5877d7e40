"""What published rules predict, and what they let expect of a law's exponents."""

import numpy as np
import polars as pl
import pytest

from analysis.published import lr_exponents
from analysis.tuning.rules import predictions, published_exponents


def test_each_rule_is_asked_in_the_variables_its_paper_uses():
    rows = predictions(n_params=2e8, n_params_non_embedding=1e8, tokens=4e9)
    found = {(row["rule"], row["quantity"]): row["value"] for row in rows.iter_rows(named=True)}
    C = 6 * 2e8 * 4e9
    # DeepSeek-AI 2024, eq. 1, in C = 6·N·D.
    assert found["deepseek2024", "lr"] == pytest.approx(0.3118 * C**-0.125, rel=1e-9)
    assert found["deepseek2024", "batch_tokens"] == pytest.approx(0.2920 * C**0.3271, rel=1e-9)
    # Li et al. 2025, without embeddings.
    assert found["steplaw2025", "lr"] == pytest.approx(1.79 * 1e8**-0.713 * 4e9**0.307, rel=1e-9)
    assert found["steplaw2025", "batch_tokens"] == pytest.approx(0.58 * 4e9**0.571, rel=1e-9)
    # Porian et al. 2024, with the head.
    assert found["porian2024", "lr"] == pytest.approx(3.7 * 2e8**-0.36, rel=1e-9)


def test_the_spread_of_published_exponents_is_that_of_one_more_rule():
    def spread(values):
        return np.std(values, ddof=1) * np.sqrt(1 + 1 / len(values))

    ray, along = (-0.25, -0.406, -0.36), (-0.125, 0.307)
    lr = published_exponents()["lr"]
    # exponent_N + exponent_D is the fall along the ray, and exponent_D that along D.
    assert lr.mean.sum() == pytest.approx(np.mean(ray), rel=1e-9)
    assert lr.mean[1] == pytest.approx(np.mean(along), rel=1e-9)
    both = np.ones(2)
    assert both @ lr.covariance @ both == pytest.approx(spread(ray) ** 2, rel=1e-9)
    assert lr.covariance[1, 1] == pytest.approx(spread(along) ** 2, rel=1e-9)
    # What is known along the ray says nothing of D alone, and the other way round.
    assert both @ lr.covariance @ [0.0, 1.0] == pytest.approx(0.0, abs=1e-12)
    batch = published_exponents()["batch_tokens"]
    rows = lr_exponents().filter(pl.col("quantity") == "batch_tokens")["exponent"].to_numpy()
    assert batch.mean == pytest.approx([rows.mean()], rel=1e-9)
    assert batch.covariance == pytest.approx(np.array([[spread(rows) ** 2]]), rel=1e-9)
