import numpy as np
import pytest

from analysis.law import Support, Trust
from analysis.sweep.brief import brief
from tests.simulated import CHINCHILLA

SUPPORT = Support(flops=(1e18, 1e21), tokens_per_param=(1, 100))


def test_a_law_in_brief_has_its_exponent_and_its_size_at_ten_times_its_data():
    short = brief(CHINCHILLA.model_copy(update={"support": SUPPORT}))
    assert short.verdict == "supports N*"
    assert short.exponent == pytest.approx(0.37 / 0.72)
    assert short.flops == 1e22
    # dL/dN = 0 along C = 6·N·D (Hoffmann et al. 2022, eq. 4).
    G = (0.35 * 480 / (0.37 * 2000)) ** (1 / 0.72)
    assert short.n_opt == pytest.approx(G * (1e22 / 6) ** (0.37 / 0.72))
    assert short.n_interval is None


def test_intervals_come_from_the_draws_and_hold_the_middle():
    spread = np.linspace(0.33, 0.37, 41)
    draws = {name: (getattr(CHINCHILLA, name),) * 41 for name in ("E", "A", "B", "beta", "gamma")}
    law = CHINCHILLA.model_copy(
        update={"support": SUPPORT, "draws": draws | {"alpha": tuple(spread)}}
    )
    short = brief(law)
    low, high = short.exponent_interval
    assert low < short.exponent < high
    # The middle 90 % of evenly spaced draws leaves a twentieth at both ends.
    assert low == pytest.approx(0.37 / (0.37 + 0.368))
    assert short.n_interval[0] < short.n_opt < short.n_interval[1]


def test_a_law_that_bars_N_gives_none_and_says_why_first():
    trust = Trust(bars=("NOT IDENTIFIED: few rows.",), warnings=("far away",))
    short = brief(CHINCHILLA.model_copy(update={"support": SUPPORT, "trust": trust}))
    assert short.verdict == "NOT IDENTIFIED: few rows."
    assert short.n_opt is None
    assert short.exponent > 0
