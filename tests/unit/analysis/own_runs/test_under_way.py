"""The end of a training under way, from simulated curves whose ends are known."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from analysis.own_runs.under_way import Horizon, Trunk, ends, learn
from analysis.table.runs import own_table
from tests.simulated import CHINCHILLA

BUDGETS = np.geomspace(1e18, 3e19, 5)
SIZES = np.geomspace(6e7, 8e8, 7)
COOLDOWN = 0.3
BINS = 1.03 ** np.arange(560, 900)


def sweep(seed, *, of_run=0.003, of_batch=0.004, drop=0.07):
    """Trunks of an IsoFLOP sweep with all ends known.

    A run's own luck `of_run` is in its whole curve and in all its ends; the noise of batches is
    the same in every curve, as where all see the same text in the same order.
    """
    rng = np.random.default_rng(seed)
    batches = of_batch * rng.standard_normal(len(BINS))
    trunks = []
    for N in SIZES:
        D = [C / 6 / N for C in BUDGETS if 4 < C / 6 / N**2 < 200]
        luck = of_run * rng.standard_normal()
        horizons = tuple(
            Horizon(
                int(d), int((1 - COOLDOWN) * d),
                float(CHINCHILLA.loss(N, d) * np.exp(luck + 0.001 * rng.standard_normal())),
            )
            for d in D
        )  # fmt: skip
        tokens = BINS[horizons[-1].start >= BINS]
        lost = drop + 0.004 * np.log(N / SIZES[0]) + 0.002 * np.log(tokens / 1e9)
        losses = CHINCHILLA.loss(N, tokens / (1 - COOLDOWN))
        losses = losses * np.exp(luck + lost + batches[: len(tokens)])
        trunks.append(Trunk(int(N), tokens, losses, np.full(len(tokens), 30.0), horizons))
    return trunks


def until(trunk, share):
    """The trunk when `share` of its tokens are behind."""
    now = share * trunk.horizons[-1].tokens
    kept = trunk.tokens <= now
    horizons = tuple(
        horizon if horizon.tokens <= now else replace(horizon, loss=None)
        for horizon in trunk.horizons
    )
    return replace(
        trunk, tokens=trunk.tokens[kept], losses=trunk.losses[kept], steps=trunk.steps[kept],
        horizons=horizons,
    )  # fmt: skip


def table(trunks):
    rows = [
        {
            "run_id": f"{number}@{D}", "parent_run_id": f"{number}", "n_params": trunk.n_params,
            "tokens": int(D), "val_loss": loss, "flops_6nd": 6 * trunk.n_params * D,
            "train_flops": 6 * trunk.n_params * D,
        }
        for number, trunk in enumerate(trunks) for D, loss in trunk.recorded
    ]  # fmt: skip
    return own_table(pl.DataFrame(rows))


def last_end(learnt, trunk):
    """The last end of a trunk that is under way."""
    foretold = ends(learnt, trunk)
    assert foretold.reason == ""
    assert all(end.by_curve for end in foretold.ends)
    [*_, end] = foretold.ends
    assert end.tokens == trunk.horizons[-1].tokens
    return end


def bare(trunk):
    """The trunk without its curve."""
    return replace(trunk, tokens=trunk.tokens[:0], losses=trunk.losses[:0], steps=trunk.steps[:0])


def by_others(learnt, trunk):
    """The last end as the other runs alone foretell it."""
    return ends(learnt, bare(trunk)).ends[-1].interval


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_nine_of_ten_ends_lie_inside_and_the_curve_helps(share):
    rows = []
    for seed in range(4):
        whole = sweep(seed)
        trunks = [until(trunk, share) if at % 2 else trunk for at, trunk in enumerate(whole)]
        learnt = learn(table(trunks), trunks)
        for trunk, known in zip(trunks[1::2], whole[1::2], strict=True):
            truth = known.horizons[-1].loss
            end, law = last_end(learnt, trunk).interval, by_others(learnt, trunk)
            errors = [abs(np.log(each.loss / truth)) for each in (end, law)]
            widths = [np.log(each.upper / each.lower) for each in (end, law)]
            rows.append((end.lower <= truth <= end.upper, *errors, *widths))
    inside, error, law_error, width, law_width = np.array(rows).mean(axis=0)
    # Of twelve ends nine or more lie inside with a chance of 0.97, where intervals are right.
    assert inside >= 9 / 12
    assert width < law_width
    if share == 0.9:
        # A run's own luck is 0.3 %, and the law cannot know it.
        assert error < 0.6 * law_error
        assert width < 0.7 * law_width


def test_a_trunk_that_runs_low_ends_low_by_as_much():
    whole = sweep(1)
    lucky = replace(
        whole[3], losses=whole[3].losses * 0.98,
        horizons=tuple(replace(h, loss=h.loss * 0.98) for h in whole[3].horizons),
    )  # fmt: skip
    trunks = [*whole[:3], until(lucky, 0.75), *whole[4:]]
    learnt = learn(table(trunks), trunks)
    end, truth = last_end(learnt, trunks[3]).interval, lucky.horizons[-1].loss
    # Two per cent is more than law and luck allow, so the law still pulls a little.
    without = by_others(learnt, trunks[3]).loss
    assert abs(end.loss / truth - 1) < 0.5 * abs(without / truth - 1)


def test_a_curve_that_contradicts_all_others_widens_the_interval():
    whole = sweep(1)
    at = until(whole[3], 0.75)
    trunks = [*whole[:3], at, *whole[4:]]
    learnt = learn(table(trunks), trunks)
    plain = last_end(learnt, at).interval
    spike = last_end(learnt, replace(at, losses=1.2 * at.losses)).interval
    assert spike.upper - spike.lower > 2 * (plain.upper - plain.lower)


def test_a_cosine_run_is_measured_at_the_same_share_of_its_tokens():
    whole = [
        replace(
            trunk, cosine=True, horizons=(replace(end, start=end.tokens),),
            # The whole curve, which comes down to the end's loss.
            losses=end.loss * (end.tokens / trunk.tokens) ** 0.08,
        )
        for trunk in sweep(2) for end in trunk.horizons[-1:]
    ]  # fmt: skip
    more = [replace(trunk, n_params=int(1.3 * trunk.n_params)) for trunk in whole]
    at = until(whole[3], 0.5)
    trunks = [*whole[:3], at, *whole[4:], *more]
    learnt = learn(table(trunks), trunks)
    end = last_end(learnt, at)
    truth = whole[3].horizons[-1].loss
    assert end.interval.lower < truth < end.interval.upper


def test_without_enough_losses_or_curves_nothing_is_made_up():
    whole = sweep(3)
    assert learn(table(whole[:2]), whole[:2]) == (
        "a forecast needs losses at 10 pairs of N and D and 3 sizes or more, "
        f"and {len(table(whole[:2]).used)} of 2 are recorded"
    )
    assert learn(table(whole), whole) == "no loss is ahead"
    at = until(whole[-1], 0.5)
    trunks = [*map(bare, whole[:-1]), at]
    learnt = learn(table(trunks), trunks)
    foretold = ends(learnt, at)
    assert not any(end.by_curve for end in foretold.ends)
    assert foretold.reason == "no other run shows how far such a curve still drops"


def test_an_end_far_beyond_the_data_is_not_foretold():
    whole = sweep(4)
    far = Trunk(
        int(1e11), np.array([1e9]), np.array([3.0]), np.array([9.0]),
        (Horizon(10**13, 7 * 10**12, None),),
    )  # fmt: skip
    learnt = learn(table(whole), [*whole, far])
    foretold = ends(learnt, far)
    assert foretold.ends == ()
    assert "times the table's largest" in foretold.reason


def test_sizes_whose_luck_is_larger_than_the_noise_of_their_losses_widen_every_interval():
    def widened(of_run):
        trunks = [until(trunk, 0.9) for trunk in sweep(5, of_run=of_run)]
        return learn(table(trunks), trunks).widened

    assert widened(0.015) > 1.25 * widened(0.0)


def test_ends_are_shown_with_a_word_where_the_losses_so_far_stray_from_any_law():
    trunks = sweep(0)
    trunks[-1] = until(trunks[-1], 0.6)
    assert ends(learn(table(trunks), trunks), trunks[-1]).reason == ""
    rows = table(trunks).frame
    C = pl.col("n_params") * pl.col("tokens")
    step = pl.when(C.log() < C.log().median()).then(1.15).otherwise(1.0)
    strayed = own_table(rows.with_columns(pl.col("val_loss") * step))
    foretold = ends(learn(strayed, trunks), trunks[-1])
    assert foretold.reason.startswith("the losses so far follow no law closely")
    assert foretold.ends[-1].tokens == trunks[-1].horizons[-1].tokens
