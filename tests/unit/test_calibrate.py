"""An estimate adds up what was timed, on the slots there are."""

import pytest

from flows.calibrate import estimate, makespan
from llama_core.config import Placement
from tests.fakes import planned_run


@pytest.mark.parametrize(
    ("durations", "slots", "expected"),
    [([3, 2, 2, 1], 2, 4), ([5, 1, 1], 3, 5), ([2, 2, 2], 1, 6)],
)
def test_each_duration_goes_to_the_first_free_slot(durations, slots, expected):
    assert makespan(durations, slots) == expected


def test_a_longer_run_is_estimated_longer_in_proportion():
    short, long = planned_run(steps=(100, 200)), planned_run(steps=(1000, 2000))
    found = estimate([short, long], Placement(), slots=2)
    fixed = 4.0
    ratio = (found.per_run_s[long.id] - fixed) / (found.per_run_s[short.id] - fixed)
    # The same shape is timed once, so the ratio is that of the steps exactly.
    assert ratio == pytest.approx((2000 + 300) / (200 + 30), rel=1e-9)
    assert found.elapsed_s == max(found.per_run_s.values())
