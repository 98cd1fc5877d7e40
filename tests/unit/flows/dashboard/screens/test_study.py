"""The view of a study, while it trains and after."""

import json

import pytest

from analysis.words import rate
from flows.dashboard.address import Address
from flows.dashboard.app import shown, ticked
from flows.dashboard.screens.at import screen_at
from tests.dashboards import assert_python_gives_the_data, desk_of, text_of, words
from tests.simulated_home import simulated_study

# A page without parts, in whose place a whole body comes.
NO_PARTS = ([], [])


def test_a_study_has_its_best_rate_and_batch_on_the_first_view_and_a_page(tmp_path):
    simulated_study(tmp_path)
    desk = desk_of(tmp_path)
    law = desk.library.study("tuned").law
    low, high = law.lr.interval
    # The trials' noise is a thousandth, and the surface a quadratic.
    assert law.lr.value == pytest.approx(0.012, rel=0.1)
    assert f"tuned finished {law.verdict}" in " ".join(text_of(desk, Address()).split())
    assert f"{rate(law.lr.value)} [{rate(low)} to {rate(high)}]" in text_of(desk, Address())
    screen = screen_at(desk, Address(("study", "tuned")))
    text = " ".join(words(screen.body()))
    assert text.index("lr* =") < text.index("The best rate and batch") < text.index("Surfaces")
    assert "/run/" in json.dumps(screen.body(), default=lambda each: each.to_plotly_json())
    trial = desk.library.study("tuned").runs[0].progress.run_id
    assert words(shown(desk, Address(("run", trial)))[1]) == ["Study tuned"]
    assert_python_gives_the_data(screen, "law", "surface-1", "loss-curves")
    assert "no study 'gone'" in text_of(desk, Address(("study", "gone")))


def test_a_study_that_trains_shows_its_trials_with_the_losses_that_are_there(tmp_path):
    spec = simulated_study(tmp_path, finished=3)
    desk = desk_of(tmp_path)
    address = Address(("study", "tuned"))
    text = text_of(desk, address)
    total = spec.trials * len(spec.ladder.widths)
    assert f"3 of {total} trials finished" in text
    assert "No law yet:" in text
    assert f"{total * 2} losses, {(total - 3) * 2} left out" in text
    stamp = shown(desk, address)[4]
    simulated_study(tmp_path, finished=4)
    body, *_ = ticked(desk, address, stamp, NO_PARTS)
    assert f"4 of {total}" in " ".join(words(body))
