"""How far runs are from a recipe, and what that leaves on the table."""

import numpy as np
import polars as pl
import pytest

from analysis.tuning.regret import law_at, left_on_table

DOCUMENT = {
    "recipe": {
        "lr": {"coef": 2.0, "exponent_N": -0.5, "exponent_D": 0.1},
        "batch": {"coef": 0.5, "exponent_D": 0.5},
    },
    "optima": [
        {
            "N": 1e5,
            "D": 1e7,
            "axes": ["lr", "batch_tokens"],
            "curvature": [[0.06, -0.01], [-0.01, 0.04]],
        },
        {"N": 1e6, "D": 1e7, "axes": ["lr"], "curvature": [[0.5]]},
        {
            "N": 1e5,
            "D": 1e9,
            "axes": ["lr", "batch_tokens"],
            "curvature": [[0.06, 0.0], [0.0, -0.04]],
        },
    ],
    "support": {"N": [1e5, 1e6], "D": [1e7, 1e9]},
}


def left(N=1e5, D=1e7, *, lr=1.0, batch=1.0, document=DOCUMENT):
    """The row of a run whose rate and batch are these factors of the recipe's."""
    best_lr, best_batch = 2 * N**-0.5 * D**0.1, 0.5 * D**0.5
    runs = pl.DataFrame(
        {
            "name": ["run"],
            "n_params": [N],
            "tokens": [D],
            "lr": [lr * best_lr],
            "batch_tokens": [batch * best_batch],
        }
    )
    [row] = left_on_table(runs, document).to_dicts()
    assert row["lr_best"] == pytest.approx(best_lr, rel=1e-12)
    assert row["batch_best"] == pytest.approx(best_batch, rel=1e-12)
    return row


def test_rate_and_batch_off_together_cost_by_the_whole_curvature():
    a, b = np.log(2), np.log(3)
    both = left(lr=2.0, batch=3.0)
    # Half of z'Hz, whose cross term is once -0.01·a·b.
    assert both["loss_left"] == pytest.approx(0.03 * a**2 + 0.02 * b**2 - 0.01 * a * b, rel=1e-9)
    apart = left(lr=2.0, batch=1 / 3)
    assert apart["loss_left"] == pytest.approx(0.03 * a**2 + 0.02 * b**2 + 0.01 * a * b, rel=1e-9)
    assert both["lr_ratio"] == pytest.approx(2.0)
    assert both["batch_ratio"] == pytest.approx(3.0)
    assert apart["batch_ratio"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("N", "D", "curvature"), [(2.9e5, 1e7, 0.06), (3.4e5, 1e7, 0.5), (1e6, 2e7, 0.5)]
)
def test_the_nearest_surface_in_logs_of_n_and_d_weighs_the_distance(N, D, curvature):
    assert left(N, D, lr=2.0)["loss_left"] == pytest.approx(
        curvature * np.log(2) ** 2 / 2, rel=1e-9
    )


def test_a_direction_in_which_a_surface_falls_costs_nothing():
    assert left(1e5, 1e9, batch=3.0)["loss_left"] == pytest.approx(0.0, abs=1e-12)
    assert left(1e5, 1e9, lr=2.0, batch=3.0)["loss_left"] == pytest.approx(
        0.03 * np.log(2) ** 2, rel=1e-9
    )


@pytest.mark.parametrize(
    ("N", "D", "outside"),
    [
        (1e5, 1e7, False),
        (1e5 / 1.19, 1e7, False),
        (1e5 / 1.21, 1e7, True),
        (1.19e6, 1e7, False),
        (1.21e6, 1e7, True),
        (1e6, 1.19e9, False),
        (1e6, 1.21e9, True),
        (1e6, 1e7 / 1.21, True),
    ],
)
def test_a_run_is_outside_when_n_or_d_is_a_fifth_beyond_the_laws_range(N, D, outside):
    assert left(N, D)["outside"] is outside


def test_a_law_without_a_coefficient_costs_nothing_and_says_nothing():
    recipe = {"lr": {"coef": None}, "batch": {"coef": None}}
    runs = pl.DataFrame(
        {
            "name": ["run"],
            "n_params": [1e5],
            "tokens": [1e7],
            "lr": [0.01],
            "batch_tokens": [500],
        }
    )
    [row] = left_on_table(runs, {**DOCUMENT, "recipe": recipe}).to_dicts()
    assert law_at(recipe["lr"], 1e5, 1e7) is None
    for name in ("lr_best", "batch_best", "lr_ratio", "batch_ratio", "loss_left"):
        assert row[name] is None
