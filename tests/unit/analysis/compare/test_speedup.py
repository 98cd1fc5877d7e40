"""Multipliers of pairs of tables whose truth is known, and pairs that are refused."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from analysis.compare.comparable import in_bits_per_byte
from analysis.compare.problem import NoSpeedup
from analysis.compare.speedup import speedup
from analysis.table.observations import TableError
from analysis.table.runs import own_table
from bench.speedup_coverage import CASES, coverage
from tests.pairs_of_tables import BUDGETS, SIZES, E, pair


def named(tables):
    return [("a", tables[0]), ("b", tables[1])]


def changed(table, **columns):
    return replace(table, frame=table.frame.with_columns(**columns))


@pytest.fixture(scope="module")
def gain():
    return pair(np.random.default_rng(4), 1.2)


def ladder(level, speed):
    """One run at each budget on Marin's L = E + 87.65·C^-0.0941, but for its first loss."""
    C = np.array([3.82e17, 3.82e18, 3.82e19])
    frame = pl.DataFrame(
        {
            "n_params": np.sqrt(C / 120),
            "tokens": 20 * np.sqrt(C / 120),
            "train_flops": C,
            "flops_6nd": C,
            "val_loss": 1.6 + (level - 1.6) * (C / C[0]) ** -0.0941,
            "tokens_per_s": float(speed),
            "device": "H100",
            "status": "finished",
        }
    )
    return own_table(frame)


def test_runs_at_one_size_a_budget_give_the_same_multipliers():
    worth = speedup(("a", ladder(3.5422, 433_986)), ("b", ladder(3.52, 410_000)), asymptote=1.6)
    assert worth.lead.pooled.value == pytest.approx(1.130, abs=0.0005)
    assert [at.flops for at in worth.lead.by_budget] == pytest.approx([3.82e17, 3.82e18, 3.82e19])
    assert worth.lead.by_budget[0].compute.value == pytest.approx(1.130, abs=0.0005)
    assert worth.time.value == pytest.approx(1.067, abs=0.0005)
    assert worth.lead.E == (1.6, 1.6)
    # The losses lie on their curves, so under a free asymptote the same one is found.
    [shared, free] = worth.others
    assert (shared.asymptote, free.asymptote) == ("shared", "free")
    assert shared.E[0] == pytest.approx(1.6, abs=1e-3)


def test_equal_tables_give_exactly_one(gain):
    worth = speedup(("a", gain[0]), ("again", gain[0]), draws=50)
    for answer in (worth.lead, *worth.others):
        for multiplier in (answer.pooled, *(at.compute for at in answer.by_budget)):
            # Gauss-Newton's tolerance moves a logarithm by far less than a thousandth.
            assert multiplier.lower == pytest.approx(1.0, abs=1e-3)
            assert multiplier.upper == pytest.approx(1.0, abs=1e-3)
    assert worth.lead.projection.verdict == "not shown"


def test_a_gain_at_every_scale_holds_with_the_truth_in_every_interval(gain):
    worth = speedup(*named(gain), at=1e19, draws=200)
    lead = worth.lead
    assert [at.flops for at in lead.by_budget] == pytest.approx(BUDGETS)
    assert worth.matched == worth.units == len(SIZES) * len(BUDGETS)
    for multiplier in (lead.pooled, lead.projection.compute, *(a.compute for a in lead.by_budget)):
        assert multiplier.lower < 1.2 < multiplier.upper
    assert lead.E_interval[0] < E < lead.E_interval[1]
    assert (lead.projection.flops, lead.projection.verdict) == (1e19, "holds")
    # The other way round the same is a loss, which no verdict calls a gain.
    back = speedup(("b", gain[1]), ("a", gain[0]), draws=200).lead
    assert back.pooled.value == pytest.approx(1 / lead.pooled.value, rel=0.01)
    assert back.projection.verdict == "not shown"


def test_a_gain_that_fades_shrinks_with_scale():
    rng = np.random.default_rng(0)
    baseline, variant = pair(rng, 1.3, noise=5e-4)
    # A frontier that falls more slowly: 1.3 times less at 1e16 is 1.13 times at 1e17.
    slower = 1 + (pl.col("val_loss") - E) * 0.03 * (pl.col("train_flops") / 1e16).log() / pl.col(
        "val_loss"
    )
    faded = changed(variant, val_loss=pl.col("val_loss") * slower)
    worth = speedup(("a", baseline), ("b", faded), draws=200)
    values = [at.compute.value for at in worth.lead.by_budget]
    assert values == sorted(values, reverse=True)
    assert worth.lead.projection.verdict == "shrinks with scale"


def test_what_both_tables_share_cancels_and_horizons_of_a_training_do_not():
    def width(seed=1, **case):
        tables = pair(np.random.default_rng(seed), 1.2, **case)
        pooled = speedup(*named(tables), draws=100).lead.pooled
        return np.log(pooled.upper / pooled.lower)

    apart, alike = width(shared=0.0), width(shared=0.99)
    # A tenth of the standard deviation is left; the misfit of the law cancels as well.
    assert alike < 0.3 * apart
    assert np.median([width(shared=0.0, of_training=0.9, seed=k) for k in range(3)]) > 1.5 * apart


def test_intervals_of_few_pairs_hold_the_truth_and_no_gain_is_made_up():
    # Of 16 at 90 %, 12 or more are held in 98 % of trials.
    shares = coverage(16, draws=60, **CASES["no gain, 3 sizes × 3 budgets"])
    assert shares["shared: pooled"] >= 12 / 16
    assert shares["shared: target"] >= 12 / 16
    # Three false gains of 16 have a chance of 0.4 % where one in fifty is made up.
    assert shares["shared: verdict holds"] <= 2 / 16


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_ninety_per_cent_intervals_hold_the_truth_in_85_to_95_per_cent_of_200(case):
    shares = coverage(200, **case)
    assert 0.85 <= shares["shared: pooled"] <= 0.95
    # Where nearly all noise is of a training, intervals of one budget err towards the wide side,
    # and under an E for each table all of them.
    for name in ("shared: largest budget", "shared: target", "free: pooled", "free: target"):
        assert 0.85 <= shares[name] <= 0.98, name
    if case["multiplier"] == 1.0:
        assert shares["shared: verdict holds"] < 0.05
        assert shares["free: verdict holds"] < 0.05


def test_the_shift_of_the_best_size_belongs_to_the_multiplier():
    # A variant whose parameters are worth k times more: K ~ A^(beta/(alpha + beta)).
    baseline, variant = pair(np.random.default_rng(2), 1.0, noise=1e-5)
    N, C = pl.col("n_params"), pl.col("train_flops")
    better = E + 0.6 * 300.0 / N**0.45 + 2000.0 / (C / (6 * N)) ** 0.45
    worth = speedup(("a", baseline), ("b", changed(variant, val_loss=better)), draws=20)
    # 0.6^(-0.5/0.225); at the baseline's own best sizes it would be 2.7.
    assert worth.lead.pooled.value == pytest.approx(0.6 ** (-0.5 / 0.225), rel=2e-3)


def test_a_single_common_budget_has_a_multiplier_and_no_projection():
    baseline, variant = pair(np.random.default_rng(0), 1.2)
    alone = variant.filter(pl.col("train_flops") < 2e15)
    lead = speedup(("a", baseline), ("b", alone), draws=100).lead
    assert [at.flops for at in lead.by_budget] == pytest.approx([1e15])
    assert lead.pooled.lower < 1.2 < lead.pooled.upper
    assert lead.projection is None


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_few_runs_of_the_baseline_itself_are_no_change(gain, rows):
    # The smallest size is far from the best one: its losses are no frontier of their own.
    few = gain[0].filter(pl.col("row") < rows)
    lead = speedup(("a", gain[0]), ("few", few), draws=50).lead
    # 0.2 % of noise in one loss is 2 to 5 % of compute here.
    assert lead.pooled.value == pytest.approx(1.0, abs=0.08)
    assert not lead.pooled.gain
    assert (lead.pooled.lower is None) == (rows < 3)


def test_time_counts_only_on_one_device(gain):
    baseline, variant = (
        changed(table, tokens_per_s=pl.lit(speed) / pl.col("n_params"), device=pl.lit("H100"))
        for table, speed in zip(gain, (1000.0, 900.0), strict=True)
    )
    worth = speedup(("a", baseline), ("b", variant), draws=50)
    assert worth.time.value == pytest.approx(0.9 * worth.lead.pooled.value)
    assert worth.time.lower == pytest.approx(0.9 * worth.lead.pooled.lower)
    other = speedup(("a", baseline), ("b", changed(variant, device=pl.lit("A100"))), draws=5)
    assert other.time is None
    assert other.no_time == "they ran on different devices: a on H100 and b on A100"
    nameless = replace(variant, frame=variant.frame.drop("device"))
    assert speedup(("a", baseline), ("b", nameless), draws=5).no_time.startswith("b does not say")
    assert "a has no measured tokens per second" in speedup(*named(gain), draws=5).no_time


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_flops": 3 * pl.col("train_flops"), "flops_budget": 3 * pl.col("flops_budget")},
         "no common budget: a at 1.00e+15, 4.64e+15, 2.15e+16, 1.00e+17 and b at 3.00e+15"),
        ({"loss_unit": pl.lit("bits_per_byte")},
         "the losses are nats per token in a and bits per byte in b"),
        ({"vocab_size": pl.lit(32_000)},
         "the tokenizers differ (vocab_size 512 in a and 32000 in b)"),
    ],
)  # fmt: skip
def test_losses_that_do_not_compare_are_refused_by_name(gain, change, message):
    baseline = changed(gain[0], vocab_size=pl.lit(512))
    with pytest.raises(TableError) as refusal:
        speedup(("a", baseline), ("b", changed(gain[1], **change)))
    assert not isinstance(refusal.value, NoSpeedup)
    assert message in str(refusal.value)


def test_bits_per_byte_are_offered_where_both_have_them_and_then_compare(gain):
    baseline, variant = (
        changed(table, val_bpb=pl.col("val_loss") / 3, vocab_size=pl.lit(size))
        for table, size in zip(gain, (512, 1024), strict=True)
    )
    with pytest.raises(TableError, match=r"Both have bits per byte, which do compare: --bpb\."):
        speedup(("a", baseline), ("b", variant))
    tables = [(name, in_bits_per_byte(name, t)) for name, t in named((baseline, variant))]
    worth = speedup(*tables, draws=50)
    assert worth.lead.pooled.value == pytest.approx(
        speedup(*named(gain), draws=50).lead.pooled.value, rel=1e-3
    )
    with pytest.raises(TableError, match=r"^a has no bits per byte"):
        in_bits_per_byte("a", gain[0])


def test_six_n_d_of_different_n_is_refused(gain):
    bare = [replace(t, frame=t.frame.drop("train_flops", "flops_budget")) for t in gain]
    other = replace(bare[1], n_counts="n_params_non_embedding")
    with pytest.raises(TableError, match="N counts all but the input embedding in a and without"):
        speedup(*named((bare[0], other)))
    assert speedup(*named(bare), draws=5).lead.pooled.value == pytest.approx(
        speedup(*named(gain), draws=5).lead.pooled.value, rel=1e-4
    )


def test_a_given_asymptote_above_a_loss_is_refused(gain):
    with pytest.raises(TableError, match="--asymptote 9 is not below every loss"):
        speedup(*named(gain), asymptote=9.0)


def test_two_budgets_of_one_size_ask_for_the_asymptote():
    tables = [ladder(level, 1.0).filter(pl.col("train_flops") < 1e19) for level in (3.54, 3.52)]
    with pytest.raises(NoSpeedup, match=r"the 2 budgets of a cannot show .*give --asymptote E"):
        speedup(*named(tables))
    lead = speedup(*named(tables), asymptote=1.6).lead
    assert lead.pooled.value > 1
    assert lead.pooled.lower is None
