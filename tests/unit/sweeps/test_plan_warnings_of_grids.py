"""Doubts begin where they are said to, and not before."""

import pytest

from llama_core.counting import count_params
from sweeps.load import load_spec
from sweeps.plan_warnings import doubts
from sweeps.spec import Cell, FittedLaw, FixedRecipe, LawRecipe, LlamaRecipe
from tests.fakes import planned_run

BUDGETS = (1e10, 2e10, 4e10)
WIDTHS = (16, 32, 48, 64)


def spec_of(*, budgets=(), **changes):
    """A spec on IsoFLOPs, or without them on a grid of tokens."""
    grid = f"grid.budgets={list(budgets)}" if budgets else "grid={kind: tokens, tokens: [1024]}"
    return load_spec("smoke", [grid]).model_copy(update=changes)


def run_at(width, ratios, **train):
    """A run with a cell for each ratio of tokens to parameters, on the budgets in turn."""
    run = planned_run(width=width)
    N = count_params(run.run.model).n_params
    cells = tuple(
        Cell(tokens=round(ratio * N), flops_budget=budget, train_flops=1)
        for ratio, budget in zip(ratios, BUDGETS, strict=False)
    )
    changed = run.run.train.model_copy(update={"warmup_tokens": 1_024} | train)
    return run.model_copy(
        update={"cells": cells, "run": run.run.model_copy(update={"train": changed})}
    )


def valley(*ratios):
    """Sizes whose ratios straddle the expected optimum of 20 on every budget."""
    return [run_at(width, [ratio] * 3) for width, ratio in zip(WIDTHS, ratios, strict=False)]


def told(runs, *, words, source_tokens=None, **changes):
    found = [said for said in doubts(spec_of(**changes), runs, source_tokens) if words in said]
    return " ".join(found)


def test_four_sizes_on_both_sides_of_the_optimum_are_a_valley():
    assert not told(valley(10, 15, 25, 40), words="no minimum", budgets=BUDGETS)
    assert "3 sizes where a valley needs 4" in told(
        valley(10, 20, 40), words="no minimum", budgets=BUDGETS
    )


def test_a_valley_needs_a_size_clearly_on_either_side():
    # The square root of two is 1.414: clearly below is from 28.3 on, clearly above to 14.1.
    assert not told(valley(14.1, 20, 20, 28.4), words="no minimum", budgets=BUDGETS)
    below = told(valley(10, 12, 20, 28.1), words="no minimum", budgets=BUDGETS)
    assert "no size clearly below" in below
    assert "no size clearly above" not in below
    assert "no size clearly above" in told(
        valley(14.3, 20, 25, 40), words="no minimum", budgets=BUDGETS
    )


def test_fewer_than_three_budgets_do_not_show_growth():
    assert not told(valley(10, 15, 25, 40), words="cannot show how", budgets=BUDGETS)
    two = told(valley(10, 15, 25, 40), words="cannot show how", budgets=BUDGETS[:2])
    assert "2 budgets cannot show" in two


@pytest.mark.parametrize(
    ("ratio", "outside"), [(0.44, True), (0.47, False), (9_990, False), (10_100, True)]
)
def test_ratios_beyond_those_of_published_laws_are_told(ratio, outside):
    assert bool(told([run_at(32, [ratio])], words="published laws have data")) is outside


@pytest.mark.parametrize(("share", "long"), [(0.19, False), (0.21, True)])
def test_a_warm_up_of_over_a_fifth_of_the_shortest_horizon_is_told(share, long):
    run = run_at(32, [20, 40])
    warmup = round(share * run.cells[0].tokens)
    found = told([run_at(32, [20, 40], warmup_tokens=warmup)], words="warm-up takes")
    assert bool(found) is long


@pytest.mark.parametrize(
    ("batch", "outside"), [(511, True), (512, False), (2048, False), (2049, True)]
)
def test_a_batch_outside_those_the_rule_was_measured_at_is_told(batch, outside):
    runs = [run_at(32, [20], batch_tokens=batch)]
    assert bool(told(runs, words="batch of")) is outside


def test_a_size_outside_those_the_rule_was_measured_at_is_told():
    runs = [run_at(width, [20]) for width in (16, 32, 512)]
    found = told(runs, words="rule was measured from")
    assert "learning rate of d512" in found
    llama = LlamaRecipe()
    assert "d16, d32, d512" in told(runs, words="rule was measured from", recipe=llama)


def test_one_rate_is_doubted_for_sizes_over_a_factor_of_four_apart():
    fixed = FixedRecipe(lr=0.01, batch_tokens=1024)
    sizes = {run.name: count_params(run.run.model).n_params for run in valley(20, 20, 20, 20)}
    for widths in ((16, 48), (16, 64), (32, 64)):
        runs = [run_at(width, [20]) for width in widths]
        apart = sizes[runs[1].name] / sizes[runs[0].name]
        assert bool(told(runs, words="one learning rate", recipe=fixed)) is (apart > 4)


@pytest.mark.parametrize(
    ("low", "high", "beyond"),
    [(1.19, 9.0, False), (1.21, 9.0, True), (0.1, 1 / 1.19, False), (0.1, 1 / 1.21, True)],
)
def test_a_size_over_a_fifth_beyond_a_law_is_told(low, high, beyond):
    run = run_at(32, [20])
    N = count_params(run.run.model).n_params
    law = FittedLaw(lr_coef=1.0, N=(low * N, high * N), D=(1.0, 1e15))
    found = told([run], words="lie outside", recipe=LawRecipe(study="s", fitted=law))
    assert bool(found) is beyond
    assert ("1 of 1 sizes N" in found) is beyond


@pytest.mark.parametrize("below", [True, False])
def test_the_farthest_beyond_a_law_is_named_on_either_side(below):
    runs = [run_at(32, [10, 20, 40])]
    D = [cell.tokens for cell in runs[0].cells]
    reach = (D[2] * 2, D[2] * 3) if below else (D[0] / 3, D[0] / 2)
    law = FittedLaw(lr_coef=1.0, N=(1.0, 1e12), D=reach)
    found = told(runs, words="budgets D lie outside", recipe=LawRecipe(study="s", fitted=law))
    assert "3 of 3" in found
    assert f"the farthest at {D[0] if below else D[2]:,}" in found


@pytest.mark.parametrize(
    ("epochs", "worth"), [(0.99, ""), (1.01, "nearly as much as"), (4.1, "much less than")]
)
def test_a_corpus_read_more_than_once_is_told_with_what_repeats_are_worth(epochs, worth):
    runs = [run_at(16, [10, 20]), run_at(32, [20, 40])]
    corpus = {"environment": round(runs[1].cells[-1].tokens / epochs)}
    found = told(runs, words="the longest run reads", source_tokens=corpus)
    assert worth in found
    assert bool(found) is bool(worth)
    assert not worth or f"{epochs:.2f} times the corpus" in found


def test_a_source_is_repeated_by_its_share_of_the_mixture():
    runs = [run_at(32, [40])]
    spec = load_spec(
        "smoke",
        [
            "grid={kind: tokens, tokens: [1024]}",
            "corpus.sources=[{kind: files, path: a, name: a, weight: 3}, "
            "{kind: files, path: b, name: b, weight: 1}]",
        ],
    )
    D = runs[0].cells[0].tokens
    found = " ".join(doubts(spec, runs, {"a": D // 2, "b": D // 2}))
    assert "1.50 times its source 'a'" in found
    assert "source 'b'" not in found
