"""A plan warns of what makes its answer doubtful, from the stated limits on."""

import pytest

from sweeps.choices import FittedLaw, FixedRecipe, LawRecipe, LlamaRecipe, Warmup
from sweeps.grid import Cell
from sweeps.load import load_spec
from sweeps.plan_warnings import doubts
from tests.fakes import planned_run

BUDGETS = (1e10, 2e10, 4e10)
WIDTHS = (16, 32, 48, 64)


def spec_of(*, budgets=(), **changes):
    """A spec on an IsoFLOP grid with these budgets, else on a token grid."""
    grid = f"grid.budgets={list(budgets)}" if budgets else "grid={kind: tokens, tokens: [1024]}"
    return load_spec("smoke", [grid]).model_copy(update=changes)


def run_at(width, ratios, **train):
    """A run with a cell for each ratio of tokens to parameters, each on the next budget."""
    run = planned_run(width=width)
    N = run.n_params
    cells = tuple(
        Cell(tokens=round(ratio * N), flops_budget=budget, train_flops=1)
        for ratio, budget in zip(ratios, BUDGETS, strict=False)
    )
    changed = run.run.train.model_copy(update={"warmup_tokens": 1_024} | train)
    return run.model_copy(
        update={"cells": cells, "run": run.run.model_copy(update={"train": changed})}
    )


def valley(*ratios):
    """Runs of rising size with these D/N on every budget; the expected optimum is 20."""
    return [run_at(width, [ratio] * 3) for width, ratio in zip(WIDTHS, ratios, strict=False)]


def warnings_with(words, runs, *, source_tokens=None, **changes):
    """The warnings about these runs that contain the words, joined."""
    warnings = doubts(spec_of(**changes), runs, source_tokens)
    return " ".join(warning for warning in warnings if words in warning)


def test_four_sizes_on_both_sides_of_the_optimum_are_a_valley():
    assert not warnings_with("no minimum", valley(10, 15, 25, 40), budgets=BUDGETS)
    three = warnings_with("no minimum", valley(10, 20, 40), budgets=BUDGETS)
    assert "3 sizes where a valley needs 4" in three


def test_a_valley_needs_a_size_clearly_on_either_side():
    # The square root of two is 1.414: sizes from D/N 28.3 on are clearly below the optimum, those
    # up to 14.1 clearly above.
    assert not warnings_with("no minimum", valley(14.1, 20, 20, 28.4), budgets=BUDGETS)
    too_large = warnings_with("no minimum", valley(10, 12, 20, 28.1), budgets=BUDGETS)
    assert "no size clearly below the expected optimum (add a smaller one, near N = " in too_large
    assert "no size clearly above" not in too_large
    too_small = warnings_with("no minimum", valley(14.3, 20, 25, 40), budgets=BUDGETS)
    assert "no size clearly above the expected optimum (add a larger one, near N = " in too_small
    assert "no size clearly below" not in too_small


def test_a_budget_that_no_run_meets_is_warned_about():
    warnings = warnings_with("no minimum", valley(10, 15, 25, 40), budgets=(*BUDGETS, 9e10))
    assert "isoflop 9.00e+10 may show no minimum: 0 sizes where a valley needs 4" in warnings
    assert warnings.count("no minimum") == 1


def test_a_budget_of_one_size_has_one_ratio_and_not_a_span():
    warnings = warnings_with("", [run_at(32, [20])], budgets=BUDGETS[:1])
    assert "1 size where a valley needs 4; D/N 20, no size clearly below" in warnings
    assert "1 budget cannot show how N* grows" in warnings


def test_fewer_than_three_budgets_do_not_show_growth():
    assert not warnings_with("cannot show how", valley(10, 15, 25, 40), budgets=BUDGETS)
    two = warnings_with("cannot show how", valley(10, 15, 25, 40), budgets=BUDGETS[:2])
    assert "2 budgets cannot show" in two


@pytest.mark.parametrize(
    ("ratio", "outside"), [(0.44, True), (0.47, False), (9_990, False), (10_100, True)]
)
def test_ratios_beyond_those_of_published_laws_are_warned_about(ratio, outside):
    warnings = warnings_with("published laws have data", [run_at(32, [ratio])])
    assert ("d32: 1 loss at D/N" in warnings) is outside
    assert ("outside 0.456 to 10,000" in warnings) is outside
    # The setting that this grid has.
    assert ("Change grid.tokens, or" in warnings) is outside


@pytest.mark.parametrize(("share", "long"), [(0.19, False), (0.21, True)])
def test_a_warm_up_of_over_a_fifth_of_the_shortest_horizon_is_warned_about(share, long):
    run = run_at(32, [20, 40])
    warmup = round(share * run.cells[0].tokens)
    warnings = warnings_with("warm-up takes", [run_at(32, [20, 40], warmup_tokens=warmup)])
    assert ("up to 21% of the shortest horizon" in warnings) is long


@pytest.mark.parametrize(
    ("batch", "outside"), [(511, True), (512, False), (2048, False), (2049, True)]
)
def test_a_batch_outside_those_of_its_rule_is_warned_about(batch, outside):
    warnings = warnings_with("batch of", [run_at(32, [20], batch_tokens=batch)])
    assert (f"batch of {batch:,} tokens" in warnings) is outside


def test_a_size_outside_those_of_its_rule_is_warned_about():
    runs = [run_at(width, [20]) for width in (16, 32, 512)]
    warnings = warnings_with("rule was measured from", runs)
    assert "learning rate of d512: the rule was measured from N = 14k to 720k" in warnings
    llama = warnings_with("rule was measured from", runs, recipe=LlamaRecipe())
    assert "d16, d32, d512" in llama
    assert "Touvron et al. 2023" in llama


def test_one_rate_is_doubted_for_sizes_over_a_factor_of_four_apart():
    fixed = FixedRecipe(lr=0.01, batch_tokens=1024)
    for widths, apart, doubted in (
        ((48, 128), 3.86, False),
        ((48, 136), 4.10, True),
        ((16, 64), 5.31, True),
    ):
        runs = [run_at(width, [20]) for width in widths]
        assert runs[1].n_params / runs[0].n_params == pytest.approx(apart, abs=0.01)
        assert bool(warnings_with("one learning rate", runs, recipe=fixed)) is doubted


@pytest.mark.parametrize(
    ("low", "high", "beyond"),
    [(1.19, 9.0, False), (1.21, 9.0, True), (0.1, 1 / 1.19, False), (0.1, 1 / 1.21, True)],
)
def test_a_size_over_a_fifth_beyond_a_law_is_warned_about(low, high, beyond):
    run = run_at(32, [20])
    N = run.n_params
    law = FittedLaw(lr_coef=1.0, N=(low * N, high * N), D=(1.0, 1e15))
    warnings = warnings_with("lie outside", [run], recipe=LawRecipe(study="s", fitted=law))
    assert bool(warnings) is beyond
    assert ("1 of 1 sizes N" in warnings) is beyond


@pytest.mark.parametrize("below", [True, False])
def test_the_farthest_beyond_a_law_is_named_on_either_side(below):
    runs = [run_at(32, [10, 20, 40])]
    D = [cell.tokens for cell in runs[0].cells]
    reach = (D[2] * 2, D[2] * 3) if below else (D[0] / 3, D[0] / 2)
    law = FittedLaw(lr_coef=1.0, N=(1.0, 1e12), D=reach)
    recipe = LawRecipe(study="s", fitted=law, batch_tokens=1024)
    warnings = warnings_with("budgets D lie outside", runs, recipe=recipe)
    assert "3 of 3" in warnings
    assert f"the farthest at {D[0] if below else D[2]:,}" in warnings


@pytest.mark.parametrize(
    ("epochs", "worth"), [(0.99, ""), (1.01, "nearly as much as"), (4.1, "much less than")]
)
def test_a_corpus_read_more_than_once_is_warned_about_with_the_worth_of_repeats(epochs, worth):
    runs = [run_at(16, [10, 20]), run_at(32, [20, 40])]
    corpus = {"environment": round(runs[1].cells[-1].tokens / epochs)}
    warnings = warnings_with("the longest run reads", runs, source_tokens=corpus)
    assert worth in warnings
    assert bool(warnings) is bool(worth)
    assert not worth or f"{epochs:.2f} times the corpus" in warnings


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
    warnings = " ".join(doubts(spec, runs, {"a": D // 2, "b": D // 2}))
    assert "1.50 times its source 'a'" in warnings
    assert "source 'b'" not in warnings


def test_a_warning_names_six_runs_and_counts_the_rest():
    few = [run_at(width, [20]) for width in (512, 528, 544, 560, 576, 592)]
    many = [*few, run_at(608, [20]), run_at(624, [20]), few[0]]
    listed = "learning rate of d512, d528, d544, d560, d576, d592"
    assert f"{listed}: the rule" in warnings_with("rule was measured from", few)
    assert f"{listed} and 2 more: the rule" in warnings_with("rule was measured from", many)


def test_a_warning_has_the_range_of_what_it_is_about():
    fixed = FixedRecipe(lr=0.01, batch_tokens=1024)
    small, large = run_at(16, [0.1, 20]), run_at(64, [0.2, 20_000])
    apart = large.n_params / small.n_params
    rate = warnings_with("one learning rate", [small, large], recipe=fixed)
    assert f"for sizes a factor {apart:.3g} apart" in rate
    ratios = warnings_with("published laws have data", [small, large])
    assert "d16, d64: 3 losses at D/N 0.1 to 2e+04, outside 0.456 to 10,000" in ratios
    batches = [run_at(32, [20], batch_tokens=tokens) for tokens in (4096, 100, 200)]
    assert "batch of 100 tokens" in warnings_with("batch of", batches)
    spans = warnings_with("no minimum", valley(10, 12, 15, 20), budgets=BUDGETS)
    assert spans.count("D/N from 10 to 20, no size clearly below") == 3


def test_the_warm_up_named_is_the_longest_share_of_a_shortest_horizon():
    def with_share(width, share):
        run = run_at(width, [20, 40])
        return run_at(width, [20, 40], warmup_tokens=round(share * run.cells[0].tokens))

    runs = [with_share(16, 0.25), with_share(32, 0.5), with_share(48, 0.1)]
    warnings = warnings_with("warm-up takes", runs)
    assert warnings.startswith("d16, d32: warm-up takes up to 50% of the shortest horizon")
    assert "Drop the smallest budgets" in warnings
    warmup = Warmup(unit="share", amount=0.5)
    assert "Lower warmup.amount" in warnings_with("warm-up takes", runs, warmup=warmup)


def test_few_runs_without_a_warning_have_none():
    assert doubts(spec_of(), [run_at(32, [20])], None) == ()
    assert doubts(spec_of(), [], None) == ()
    assert doubts(spec_of(recipe=FixedRecipe(lr=0.01, batch_tokens=1024)), [], None) == ()
