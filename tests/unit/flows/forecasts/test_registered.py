"""Forecasts of a home are written once, their scores appended."""

from datetime import UTC, datetime

import pytest

from flows.forecasts.registered import (
    ForetoldPoint,
    Registered,
    own_forecasts,
    read_forecast,
    read_forecasts,
    read_scores,
    score,
    write_forecast,
)
from flows.settings import Home

POINT = ForetoldPoint(
    n_params=1e9, tokens=2e10, loss=2.5, lower=2.4, upper=2.6, level=0.9, calibrated=True
)


def forecast(name: str, day: int = 1, run_id: str | None = None) -> Registered:
    return Registered(
        name=name, source="runs.csv", table_sha256="0" * 64, rows=20, form="gamma", sigma=0.003,
        tau=0.004, points=(POINT,), isoflop="1", git_commit=None,
        written_at=datetime(2026, 1, day, tzinfo=UTC), run_id=run_id,
    )  # fmt: skip


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def test_a_forecast_comes_back_as_it_was_written_and_the_oldest_first(home):
    later, earlier = forecast("a", day=2), forecast("b", day=1, run_id="r")
    for each in (later, earlier):
        write_forecast(each, home)
    assert read_forecasts(home) == [earlier, later]
    assert own_forecasts(home) == {"r": earlier}
    assert read_forecast("c", home) is None


def test_a_name_that_is_taken_is_refused_and_the_first_stays(home):
    write_forecast(forecast("a"), home)
    with pytest.raises(ValueError, match=r"is not overwritten.*--check a"):
        write_forecast(forecast("a", day=3), home)
    assert read_forecast("a", home) == forecast("a")


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a b", "-x", "n" * 101, "a\n"])
def test_a_name_that_is_no_file_is_refused(home, name):
    with pytest.raises(ValueError, match="a name has up to 100 letters"):
        write_forecast(forecast(name), home)


def test_a_loss_by_hand_may_be_scored_again_and_a_run_once(home):
    write_forecast(forecast("a"), home)
    first = score(forecast("a"), 0, 2.45, home)
    second = score(forecast("a"), 0, 2.7, home)
    own = score(forecast("a"), 0, 2.5, home, run_id="r", reached_at=datetime.now(UTC))
    again = score(forecast("a"), 0, 2.5, home, run_id="r", reached_at=datetime.now(UTC))
    assert again == own
    assert read_scores("a", home) == [first, second, own]
    assert [each.inside for each in read_scores("a", home)] == [True, False, True]


def test_a_score_that_was_torn_or_damaged_is_skipped(home):
    write_forecast(forecast("a"), home)
    path = home.forecasts / "a.scores.jsonl"
    first = score(forecast("a"), 0, 2.5, home)
    with path.open("a") as file:
        file.write('{"point": 0}\n{"point": 0, "lo')
    assert read_scores("a", home) == [first]
    second = score(forecast("a"), 0, 2.6, home)
    assert read_scores("a", home) == [first, second]


@pytest.mark.parametrize(
    ("n_params", "tokens", "same"),
    [(1e9, 2e10, True), (1.009e9, 1.99e10, True), (1.02e9, 2e10, False), (1e9, 1.97e10, False)],
)
def test_a_point_is_that_of_a_run_within_a_per_cent(n_params, tokens, same):
    assert POINT.is_of(n_params, tokens) is same
