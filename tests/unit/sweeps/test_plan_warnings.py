"""A plan tells what makes its answer doubtful, and says nothing where nothing is."""

import pytest

from sweeps.load import load_spec
from sweeps.plan import plan
from sweeps.spec import DataRef

DATA = DataRef(digest="x")


def told(*overrides, source_tokens=None, preset="demo"):
    return " ".join(plan(load_spec(preset, overrides), DATA, source_tokens=source_tokens).warnings)


def test_a_row_of_sizes_all_above_the_optimum_asks_for_smaller_ones():
    warnings = told("ladder.widths=[80, 96, 112, 128]", "grid.budgets=[1.7e12, 2.2e12, 3e12]")
    assert "no size clearly below the expected optimum" in warnings
    assert "(add smaller ones)" in warnings
    assert "4 sizes where" not in warnings


def test_a_row_of_sizes_all_below_the_optimum_asks_for_larger_ones():
    warnings = told("ladder.widths=[16, 24, 32, 40]", "grid.budgets=[5e11, 7e11, 1e12]",
                    "grid.tokens_per_param=[1, 2000]")  # fmt: skip
    assert "no size clearly above the expected optimum" in warnings
    assert "(add larger ones)" in warnings


def test_a_rate_beyond_the_sizes_its_rule_was_measured_on_is_told_with_the_range():
    warnings = told("ladder.widths=[48, 64, 80, 256]", "grid={kind: tokens, tokens: [2000000]}")
    assert "learning rate of d256: the rule was measured from N = 1.4e+04 to 7.2e+05" in warnings


def test_a_batch_beyond_those_its_rule_was_measured_at_is_told():
    assert "batch of 8,192 tokens" in told("recipe.batch_tokens=8192", "grid.min_tokens=0")


def test_llamas_rates_are_for_llamas_sizes():
    grid = "grid={kind: tokens, tokens: [8388608]}"
    assert "Touvron et al. 2023" in told("recipe={kind: llama}", grid)


def test_one_rate_for_very_different_sizes_is_doubted_and_for_like_sizes_not():
    fixed = "recipe={kind: fixed, lr: 0.004, batch_tokens: 1024}"
    assert "one learning rate for sizes a factor" in told(fixed)
    grid = "grid={kind: tokens, tokens: [2000000]}"
    assert "one learning rate" not in told(fixed, "ladder.widths=[64, 80]", grid)


def test_ratios_where_no_published_law_has_data_are_told():
    warnings = told("grid={kind: tokens, tokens: [51200]}", "ladder.widths=[16, 160]")
    assert "d160: 1 losses at D/N 0.073 to 0.073, outside 0.456 to 10,000" in warnings


def test_a_long_warm_up_is_told_with_its_share():
    assert "warm-up takes up to 100% of the shortest horizon" in told(
        "grid={kind: tokens, tokens: [10240, 2048000]}"
    )


@pytest.mark.parametrize(
    ("tokens", "word"), [(2_000_000, "nearly as much as"), (100_000, "much less than")]
)
def test_repetition_is_told_with_its_epochs_and_worth(tokens, word):
    warnings = told(source_tokens={"environment": tokens})
    assert f"times the corpus of {tokens:,}" in warnings
    assert word in warnings


def test_a_small_source_of_a_mixture_is_read_over_and_over():
    sources = (
        "corpus.sources=[{kind: environment, weight: 1},"
        " {kind: files, path: x, name: small, weight: 1}]"
    )
    warnings = told(sources, source_tokens={"environment": 10**9, "small": 10**6})
    assert "its source 'small' of 1,000,000" in warnings
    assert "'environment'" not in warnings
