"""What the laws give N and D of two models, what a block takes off, and what is left."""

import numpy as np
import polars as pl
import pytest

from analysis import published
from analysis.frontier.allocation import compute_optimal
from analysis.retrodict.gap import PAIRS, Ratio, benchmarks, block_speedup, gaps
from analysis.retrodict.gap_text import gap_json, lines, rows

SPEEDUPS = {
    "baseline": ["llama"], "variant": ["gpt3"], "compute": [0.8], "lower": [0.75], "upper": [0.9],
    "flops_low": [1e12], "flops_high": [1e14], "source": ["made up"],
}  # fmt: skip


def none_measured():
    return pl.DataFrame(SPEEDUPS).clear()


def test_gpt_3_is_worth_more_than_llama_13b_by_n_and_d_alone_under_every_law():
    found = [gap for gap in gaps(published.six_laws(), speedups=none_measured())]
    first = [gap for gap in found if gap.pair == PAIRS[0]]
    assert len(first) == 6
    assert all(gap.worth.value > 1 for gap in first)
    assert first[0].parameters == pytest.approx(13.4, abs=0.05)
    assert first[0].spent == pytest.approx(174.6e9 * 3e11 / (13015864320 * 1e12))
    assert first[0].won_back == pytest.approx(first[0].spent / first[0].worth.value)
    assert first[0].worth.low < first[0].worth.value < first[0].worth.high
    assert {gap.rest for gap in found} == {None}


def test_worth_is_the_ratio_of_the_compute_optimal_trainings_of_both_losses():
    law = published.law("hoffmann_tex")
    gap = gaps([law], speedups=none_measured())[0]
    reached = []
    for loss in gap.losses:
        flops = np.geomspace(1e21, 1e25, 40_001)
        best = law.loss(*compute_optimal(law, flops))
        reached.append(float(np.interp(-loss, -best, flops)))
    # The grid's steps are 2e-4 of ln C.
    assert gap.worth.value == pytest.approx(reached[1] / reached[0], rel=1e-3)


def test_a_block_takes_its_multiplier_off_whichever_was_the_baseline():
    measured = pl.DataFrame(SPEEDUPS)
    block = block_speedup("gpt3", measured)
    assert block.worth == Ratio(1 / 0.8, 1 / 0.9, 1 / 0.75)
    turned = measured.rename({"baseline": "variant", "variant": "baseline"})
    assert block_speedup("gpt3", turned).worth == Ratio(0.8, 0.75, 0.9)
    assert block_speedup("palm", measured) is None
    gap = gaps(published.six_laws(), speedups=measured)[0]
    assert gap.rest.value == pytest.approx(gap.worth.value * 0.8)
    assert gap.rest.low == pytest.approx(gap.worth.low * 0.75)
    assert gap.rest.high == pytest.approx(gap.worth.high * 0.9)
    # The law's loss at 1.25 times the compute along the frontier.
    law = published.law(gap.law)
    slope = law.alpha * law.beta / (law.alpha + law.beta)
    assert gap.losses[0] - gap.block_loss == pytest.approx(
        law.E + (gap.losses[0] - law.E) * 1.25**-slope
    )
    text = " ".join(lines(gaps(published.six_laws(), speedups=measured), PAIRS[0]))
    assert "Block: 1.25 [1.11, 1.33] times less compute" in text
    assert "1.00e+14 FLOPs; whether it holds 9 decades further up is not known" in text


def test_what_is_not_measured_is_said_and_the_rest_goes_with_the_block():
    found = gaps(published.six_laws(), speedups=none_measured())
    for pair in PAIRS:
        text = " ".join(lines(found, pair))
        assert "Block: not measured; " in text
        assert "Block, data, tokenizer and recipe of" in text
    assert "does not build its block" in " ".join(lines(found, PAIRS[2]))
    assert {row[-1] for row in rows(found)} == {"block not measured"}
    assert gap_json(found[0])["block"] is None


def test_benchmarks_are_those_both_models_have_without_averages():
    counts = benchmarks(PAIRS[0])
    # Touvron et al. 2023, Tables 3, 4, 6 and 9: seven, three, two and four results.
    assert (counts.count, counts.led) == (16, 13)


def test_the_recorded_speedups_are_read_as_numbers_and_name_their_source():
    recorded = published.block_speedups()
    assert recorded.columns == list(SPEEDUPS)
    assert recorded["compute"].dtype == pl.Float64
    for row in recorded.iter_rows(named=True):
        assert row["lower"] <= row["compute"] <= row["upper"]
        assert row["source"]
