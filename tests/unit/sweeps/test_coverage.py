"""What a bound leaves out of a budget is named with the bound, and what to add with its N."""

import re

import pytest

from llama_core.counting import count_params, train_flops
from sweeps.coverage import asked, coverage, size_at
from sweeps.load import load_spec
from sweeps.plan import plan
from sweeps.spec import DataRef

DATA = DataRef(digest="x")


def rows_of(*overrides):
    spec = load_spec("demo", overrides)
    return spec, coverage(spec, plan(spec, DATA).runs)


def test_every_size_is_kept_at_a_budget_or_left_out_by_a_bound_it_breaks():
    spec, rows = rows_of()
    low, high = spec.grid.tokens_per_param
    ladder = {f"d{size.model.d_model}": size.model for size in spec.sizes}
    assert [row.budget for row in rows] == sorted(spec.grid.budgets)
    for row in rows:
        assert {*row.kept, *(each.name for each in row.left_out)} == set(ladder)
        assert len(row.kept) + len(row.left_out) == len(ladder)
        assert all(low <= ratio <= high for ratio in row.kept.values())
        for each in row.left_out:
            tokens = each.tokens_per_param * count_params(ladder[each.name]).n_params
            broken = {
                "D/N below 1.5": each.tokens_per_param < low,
                "D/N above 200": each.tokens_per_param > high,
                "fewer than 200,000 tokens": tokens < spec.grid.min_tokens,
            }
            assert broken[each.bound]
            assert each.setting.rpartition(".")[2] in ("tokens_per_param", "min_tokens")


def test_bounds_are_listed_with_the_sizes_they_leave_out():
    _, rows = rows_of()
    assert rows[1].bounds == {
        "D/N below 1.5": ["d80"],
        "fewer than 200,000 tokens": ["d96", "d112"],
    }


def test_a_grid_of_tokens_has_no_budgets_to_cover():
    _, rows = rows_of("grid={kind: tokens, tokens: [102400]}")
    assert rows == []


def test_the_size_to_add_spends_the_budget_at_the_ratio_asked_for():
    spec = load_spec("demo")
    for size in spec.sizes:
        N = count_params(size.model).n_params
        budget = train_flops(size.model, spec.seq_len, spec.seq_len) / spec.seq_len * N * 20
        named = float(size_at(spec, budget, 20).replace(",", ""))
        # Two digits, and FLOPs per parameter of the nearest shape.
        assert named == pytest.approx(N, rel=0.1)


def test_a_size_that_no_budget_keeps_is_named_with_its_bound():
    spec = load_spec("demo", ["ladder.widths=[16, 24, 32, 48, 64, 80, 96, 112, 512]"])
    [warning] = [each for each in plan(spec, DATA).warnings if "is not trained" in each]
    assert warning.startswith("d512 is not trained: no budget keeps it")
    assert "by grid.min_tokens (fewer than 200,000 tokens)" in warning
    assert not any("is not trained" in each for each in plan(load_spec("demo"), DATA).warnings)


def test_a_bound_that_takes_a_side_of_the_valley_is_named_before_a_size_to_add():
    bound = "grid.tokens_per_param=[12, 200]"
    spec = load_spec("demo", [bound, "grid.budgets=[9.4e11, 1.7e12, 3.0e12]"])
    warnings = plan(spec, DATA).warnings
    assert any(
        re.search(r"no size clearly above .*d80 has D/N 6.67, .*leaves it out: D/N below 12", each)
        for each in warnings
    )
    narrow = load_spec("demo", ["ladder.widths=[24, 32, 40, 48]", "grid.budgets=[1.7e12]"])
    [warning] = [each for each in plan(narrow, DATA).warnings if "no minimum" in each]
    assert re.search(r"\(add a larger one, near N = 1\d0,000\)", warning)


def test_only_a_ladder_of_sizes_asks_for_n():
    assert asked(load_spec("demo")) == []
    ladder = "ladder={sizes: [12e3, 30e3], head_dim: 16, aspect: 16, ffn_multiple_of: 8}"
    spec = load_spec("demo", [ladder, "grid={kind: tokens, tokens: [102400]}"])
    assert [size.asked for size in asked(spec)] == [12e3, 30e3]
