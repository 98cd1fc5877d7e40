"""Designs that cannot carry a law are told from their condition number, before any training."""

import numpy as np
import polars as pl
import pytest

from analysis.fit.design import condition_number, plan_warning

SIZES = np.geomspace(1e7, 1e9, 8)


def at_ratios(*ratios: float, sizes: np.ndarray = SIZES) -> pl.DataFrame:
    """Every size at every ratio of tokens to parameters."""
    N = np.repeat(sizes, len(ratios))
    return pl.DataFrame({"n_params": N, "tokens": N * np.tile(ratios, len(sizes))})


def number(frame: pl.DataFrame) -> float:
    return condition_number(frame["n_params"].to_numpy(), frame["tokens"].to_numpy())


def test_spread_of_the_ratio_brings_the_condition_number_down() -> None:
    constant, near, wide = (number(at_ratios(*r)) for r in ((20.0,), (19, 21), (5, 20, 80)))
    assert constant > 1e5 > near > 200 > 50 > wide


def test_units_of_N_and_D_do_not_matter() -> None:
    frame = at_ratios(5, 20, 80)
    scaled = frame.select(pl.col("n_params") * 1e-3, pl.col("tokens") * 7)
    assert number(scaled) == pytest.approx(number(frame), rel=1e-9)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (at_ratios(20.0), ("D/N is constant at 20", "four times this ratio")),
        (at_ratios(5, 10, 20, 40, sizes=SIZES[:2]), ("only 2 model sizes", "Train at 1 more")),
        (
            pl.DataFrame({"n_params": SIZES, "tokens": 1e18 / SIZES}),
            ("all rows lie on one budget", "Add rows at ten times this compute"),
        ),
        (at_ratios(5, 20, 80, sizes=np.array([1e7, 1.2e7, 1.4e7])), ("too close together",)),
    ],
)
def test_a_design_without_an_answer_is_warned_of_with_what_to_add(
    frame: pl.DataFrame, words: tuple[str, ...]
) -> None:
    warning = plan_warning(frame)
    assert warning is not None
    assert all(word in warning for word in ("cannot carry a law", *words))


def test_good_designs_are_silent_and_no_more_places_than_constants_are_named() -> None:
    assert plan_warning(at_ratios(5, 20, 80)) is None
    runs = at_ratios(5, 20, 80)
    for few, words in (
        (runs[:1], "1 loss gives no law"),
        (runs[:5], "5 losses give no law"),
        (pl.concat([runs[:5]] * 3), "15 losses at 5 pairs of N and D give no law"),
    ):
        warning = plan_warning(few)
        assert warning is not None
        assert warning.startswith(f"{words}, which has 5 constants: add sizes or budgets")
