"""Two tables of known laws: what is found to differ differs, and what is the same does not."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from analysis.compare.answer import common_budgets, compare, fitted, match, optimum_band
from analysis.compare.figures import best_size_data
from analysis.compare.page import Context, compare_page
from analysis.compare.text import comparison_json, law_rows, pair_rows, verdict
from analysis.compare.variants import Variant, Variants
from analysis.frontier.allocation import compute_optimal
from analysis.law import LossLaw, Trust
from analysis.repetition.answer import RepeatedFit
from analysis.table.runs import own_table
from analysis.words import flops, short

LAW = LossLaw(
    name="true",
    form="chinchilla",
    E=1.8,
    A=300.0,
    B=2000.0,
    alpha=0.45,
    beta=0.45,
    n_counts="n_params",
    c_counts="flops_6nd",
    loss_unit="nats_per_token",
    source="made up",
)
SIZES = (1e6, 2e6, 4e6, 8e6, 16e6, 32e6)
RATIOS = (5.0, 10.0, 20.0, 40.0, 80.0)


def observed(law, *, name, seed=0, noise=1e-3, sizes=SIZES, shift=0.0):
    rng = np.random.default_rng(seed)
    rows = []
    for N in sizes:
        for ratio in RATIOS:
            D = ratio * N
            loss = float(law.loss(N, D)) * np.exp(noise * rng.standard_normal()) + shift
            rows.append(
                {
                    "run_id": f"{name}-{N:g}@{D:g}",
                    "parent_run_id": f"{name}-{N:g}",
                    "n_params": int(N),
                    "tokens": int(D),
                    "train_flops": 6 * N * D,
                    "flops_6nd": 6 * N * D,
                    "val_loss": loss,
                    "loss_unit": "nats_per_token",
                    "status": "finished",
                }
            )
    return own_table(pl.DataFrame(rows))


A = observed(LAW, name="a")
DRAWS = 60


@pytest.fixture(scope="module")
def first():
    """The law of `A`, fitted once."""
    return fitted("a", A, bootstrap=DRAWS, level=0.9, seed=0)


@pytest.fixture(scope="module")
def against(first):
    """Compares a table with `A`."""
    return lambda table: compare(A, table, ("a", "b"), bootstrap=DRAWS, first_law=first)


@pytest.fixture(scope="module")
def same(against):
    return against(observed(LAW, name="b", seed=1))


@pytest.fixture(scope="module")
def better(against):
    other = LAW.model_copy(update={"beta": 0.52, "B": 5200.0})
    return against(observed(other, name="b", seed=1))


def page_of(found, context):
    """The page of a comparison of laws alone."""
    variant = Variant("b", None, "no multiplier: made up", found)
    return compare_page(Variants("a", 0.9, "nats per token", (variant,)), {"b": context}).html()


def contrast(found, name):
    return next(c for c in found.contrasts if c.name == name)


def test_two_draws_of_one_law_do_not_differ(same):
    assert same.paired
    for name in ("exponent_N", "E", "n_opt", "loss"):
        assert contrast(same, name).shown is False, name
    assert "may be no change" in verdict(same)[0]


def test_another_exponent_is_found_with_the_truth_in_its_interval(better):
    change = contrast(better, "exponent_N")
    true = 0.52 / (0.45 + 0.52) - 0.5
    assert change.shown
    assert change.interval[0] <= true <= change.interval[1]
    assert "a real change" in verdict(better)[0]


def test_every_change_is_the_second_over_or_less_the_first_with_its_draws(better):
    first, second = (law.fit for law in better.laws)
    tails = [0.05, 0.95]
    for name in ("E", "A", "B", "alpha", "beta", "exponent_N"):
        found = contrast(better, name)
        one, two = getattr(first.law, name), getattr(second.law, name)
        drawn = getattr(first.draws, name), getattr(second.draws, name)
        over = name in ("A", "B")
        assert found.change == pytest.approx(two / one if over else two - one, rel=1e-9)
        change = drawn[1] / drawn[0] if over else drawn[1] - drawn[0]
        assert found.interval == pytest.approx(tuple(np.quantile(change, tails)), rel=1e-9)
        assert found.first_interval == pytest.approx(tuple(np.quantile(drawn[0], tails)), rel=1e-9)
        assert found.second_interval == pytest.approx(tuple(np.quantile(drawn[1], tails)), rel=1e-9)


def test_sizes_and_losses_are_compared_at_the_common_budgets(better):
    fits = [law.fit for law in better.laws]
    budgets = common_budgets(*fits)
    sizes = [c for c in better.contrasts if c.name == "n_opt"]
    losses = [c for c in better.contrasts if c.name == "loss"]
    assert len(sizes) == len(losses) == len(budgets) == 3
    for C, size, loss in zip(budgets, sizes, losses, strict=True):
        best = [float(compute_optimal(fit.law, C)[0]) for fit in fits]
        assert (size.first, size.second) == pytest.approx(tuple(best), rel=1e-9)
        assert size.kind == "ratio"
        assert size.flops == loss.flops == C
        assert size.change == pytest.approx(best[1] / best[0], rel=1e-9)
        drawn = [best_sizes(fit.draws, C) for fit in fits]
        ends = np.quantile(drawn[1] / drawn[0], [0.05, 0.95])
        assert size.interval == pytest.approx(tuple(ends), rel=1e-9)
        # Both tables hold 5 to 80 tokens a parameter, whose middle is 20.
        N = np.sqrt(C / 6 / 20)
        there = [float(fit.law.loss(N, 20 * N)) for fit in fits]
        assert (loss.first, loss.second) == pytest.approx(tuple(there), rel=1e-9)
        drawn = [
            fit.draws.E
            + fit.draws.A / N**fit.draws.alpha
            + fit.draws.B / (20 * N) ** fit.draws.beta
            for fit in fits
        ]
        ends = np.quantile(drawn[1] - drawn[0], [0.05, 0.95])
        assert loss.interval == pytest.approx(tuple(ends), rel=1e-9)


def best_sizes(draws, C):
    """N* of every draw under C = 6·N·D (Hoffmann et al. 2022, eq. 4)."""
    alpha, beta = draws.alpha, draws.beta
    ratio = (alpha * draws.A / (beta * draws.B)) ** (1 / (alpha + beta))
    return ratio * (C / 6) ** (beta / (alpha + beta))


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_a_band_of_best_sizes_holds_the_middle_of_its_draws(better, level):
    fit = better.laws[0].fit
    rows = optimum_band(fit, np.array([1e16, 1e18]), level)
    for row in rows.iter_rows(named=True):
        assert row["n_opt"] == pytest.approx(float(compute_optimal(fit.law, row["flops"])[0]))
        ends = np.quantile(best_sizes(fit.draws, row["flops"]), [(1 - level) / 2, (1 + level) / 2])
        assert (row["low"], row["high"]) == pytest.approx(tuple(ends), rel=1e-9)


def trainings(count, *, each, seed):
    """Tables of trainings that end apart by one number, and horizons that add little to it."""
    rng = np.random.default_rng(seed)
    N = np.repeat(np.arange(1, count + 1) * 1_000_000, each)
    frame = pl.DataFrame(
        {
            "run_id": [f"{n}@{k % each}" for k, n in enumerate(N)],
            "parent_run_id": [str(n) for n in N],
            "n_params": N,
            "tokens": np.tile(np.arange(1, each + 1) * 10_000_000, count),
            "val_loss": 3.0,
        }
    )
    apart = np.repeat(0.01 * rng.standard_normal(count), each)
    other = frame.with_columns(
        pl.Series("val_loss", 3.0 + apart), pl.col("parent_run_id") + pl.lit("other")
    )
    return frame, other, apart[::each]


def test_horizons_of_a_training_count_as_one_luck():
    first, second, apart = trainings(60, each=4, seed=0)
    mean = apart.mean()
    error = apart.std() / np.sqrt(60)
    for level, width in ((0.5, 0.674), (0.9, 1.645)):
        found = match(first, second, draws=8000, level=level)
        assert found.mean == pytest.approx(mean, abs=1e-12)
        # 8000 draws of a mean of 60 tell an end to 3 %, skewness moves it by as much.
        low, high = found.interval
        assert (high - low) / 2 == pytest.approx(width * error, rel=0.07)
        assert (high + low) / 2 == pytest.approx(mean, abs=0.1 * error)


def test_three_trainings_have_an_interval_and_two_have_none():
    for count in (2, 3):
        first, second, _ = trainings(count, each=4, seed=0)
        assert (match(first, second, draws=100, level=0.9).interval is None) == (count == 2)


def test_trainings_of_unlike_length_weigh_by_their_horizons():
    first, second, apart = trainings(3, each=4, seed=0)
    keep = pl.int_range(pl.len()) >= 3
    first, second = first.filter(keep), second.filter(keep)
    found = match(first, second, draws=2000, level=0.98)
    assert found.mean == pytest.approx((apart[0] + 4 * apart[1] + 4 * apart[2]) / 9)
    # A resample may hold one training alone, so the ends are the extreme trainings'.
    assert found.interval == pytest.approx((apart.min(), apart.max()), abs=1e-12)


def test_tables_of_one_grid_are_resampled_alike_and_others_apart(against):
    found = against(observed(LAW, name="b"))
    # The same losses drawn alike: nothing differs in any draw.
    assert contrast(found, "alpha").interval == pytest.approx((0.0, 0.0), abs=1e-9)
    fewer = against(observed(LAW, name="b", sizes=SIZES[1:]))
    assert not fewer.paired
    assert fewer.matched.pairs.height == 25
    low, high = contrast(fewer, "alpha").interval
    assert high - low > 1e-4


def test_a_constant_shift_moves_every_matched_loss_and_the_predicted_one(against):
    found = against(observed(LAW, name="b", shift=0.05))
    assert found.matched.pairs["difference"].to_list() == pytest.approx([0.05] * 30, abs=1e-12)
    assert found.matched.mean == pytest.approx(0.05)
    low, high = contrast(found, "loss").interval
    assert low <= 0.05 <= high
    assert contrast(found, "loss").change == pytest.approx(0.05, abs=0.005)


def test_runs_of_both_are_matched_but_say_nothing():
    table = A.used
    found = match(table, table, draws=100, level=0.9)
    assert found.pairs["same_run"].all()
    assert found.mean is None


def test_a_repeated_size_is_matched_once_each():
    table = A.used
    seeds = pl.concat([observed(LAW, name=name).used for name in ("b", "c")])
    assert match(table, seeds, draws=0, level=0.9).pairs.height == 30
    assert match(seeds, seeds, draws=0, level=0.9).pairs.height == 60


def test_rows_that_repeat_their_tokens_are_counted_where_they_are_left_out(same):
    first, second = same.laws
    repeated = RepeatedFit(first.used, 5, None, "5 are too few", {}, None, 0.9)
    done = replace(same, laws=(replace(first, repeated=repeated), second))
    line = f"{same.names[0]}: 5 rows that repeat their tokens are left out."
    assert done.warnings == (*same.warnings, line)


def test_a_table_too_small_for_a_law_still_has_its_losses_compared(against):
    found = against(observed(LAW, name="b", shift=-0.01).filter(pl.col("row") < 3))
    assert found.contrasts == ()
    assert found.refusals[0].startswith("no law of b")
    assert found.matched.mean == pytest.approx(-0.01)
    assert "no law of b" in page_of(found, Context({"spec": []}, [["runs", "6", "1"]]))


def test_a_law_that_supports_no_N_has_none_compared(first):
    bar = "NOT IDENTIFIED (exponent of N*): D/N is constant."
    law = first.fit.law.model_copy(update={"trust": Trust(bars=(bar,))})
    barred = replace(first, fit=replace(first.fit, law=law))
    found = compare(A, A, ("a", "b"), bootstrap=10, first_law=barred)
    [refusal] = found.refusals
    assert refusal == f"N* is not compared, for the law of a supports none. {bar}"
    assert found.warnings[0] == found.refusals[0]
    html = page_of(found, Context(facts=[["runs", "6", "1"]]))
    assert html.index("N* is not compared") < html.index("the laws predict losses")
    assert comparison_json(found)["warnings"] == list(found.warnings)
    assert not [c for c in found.contrasts if c.name == "n_opt"]
    losses = [c for c in found.contrasts if c.name == "loss"]
    assert all(1.0 < c.first < 10.0 and 1.0 < c.second < 10.0 for c in losses)


def test_budgets_are_those_both_tables_cover(same):
    low, middle, high = common_budgets(same.laws[0].fit, same.laws[1].fit)
    assert low == pytest.approx(6 * 1e6 * 5e6)
    assert high == pytest.approx(6 * 32e6 * 80 * 32e6)
    assert middle == pytest.approx(np.sqrt(low * high))
    assert best_size_data(same)["common"].all()


def test_one_budget_in_whole_tokens_is_one_budget(same):
    fit = same.laws[0].fit
    # Whole parameters and tokens spread 6·N·D of one budget by far less than 1 %.
    narrow = fit.law.support.model_copy(update={"flops": (1e15, 1.001e15)})
    one = replace(fit, law=fit.law.model_copy(update={"support": narrow}))
    assert common_budgets(one, one) == pytest.approx((1e15,), rel=1e-3)


def test_what_is_printed_is_what_is_in_the_json(better):
    document = comparison_json(better)
    assert len(document["contrasts"]) == len(law_rows(better))
    assert len(document["matched"]["pairs"]) == len(pair_rows(better)) == 30
    change = document["contrasts"][5]
    assert change["name"] == "exponent_N"
    assert change["change"] == change["second"] - change["first"]


def test_text_from_a_spec_is_escaped_on_the_page(better):
    rows = {"spec": [["corpus.name", "<script>alert(1)</script>", "b"]]}
    html = page_of(better, Context(rows, [["runs", "6", "6"]], ["a doubt"]))
    assert "<script>alert(1)" not in html
    assert "a doubt" in html


def test_the_verdict_names_the_middle_budget_and_its_sizes_as_other_pages_do(better):
    size = [c for c in better.contrasts if c.name == "n_opt"][1]
    assert f"At {flops(size.flops)} FLOPs the best model of b has" in verdict(better)[1]
    assert f": {short(size.first)} and {short(size.second)}." in verdict(better)[1]
    # The budget is a number beside the words, so that words may change.
    other = replace(better, contrasts=(*better.contrasts[:6], replace(size, where="elsewhere")))
    assert f"At {flops(size.flops)} FLOPs" in verdict(other)[1]
    assert contrast(better, "exponent_N").flops is None
