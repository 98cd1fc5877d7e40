"""One loss beside its forecast."""

import numpy as np
import pytest

from analysis.own_runs.outcome import Interval, outcome

FORETOLD = Interval(2.0, 2.0 * np.exp(-0.01), 2.0 * np.exp(0.02))


@pytest.mark.parametrize(
    ("off", "inside", "winkler"),
    [(0.0, True, 3.0), (0.019, True, 3.0), (0.05, False, 3.0 + 20 * 3.0), (-0.02, False, 23.0)],
)
def test_a_loss_outside_costs_its_distance_by_the_level(off, inside, winkler):
    result = outcome(2.0 * np.exp(off), FORETOLD, 0.9)
    assert result.inside is inside
    # Logs and exponentials lose the last digits alone.
    assert result.error_percent == pytest.approx(100 * off, abs=1e-10)
    assert result.winkler == pytest.approx(winkler)


def test_a_narrower_level_asks_less_for_a_miss():
    at_half = outcome(2.1, FORETOLD, 0.5).winkler
    assert at_half < outcome(2.1, FORETOLD, 0.9).winkler
