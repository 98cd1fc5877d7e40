"""Tables of sweeps, studies and forecasts."""

from datetime import UTC, datetime

from flows.dashboard.screens.lists import forecasts_table
from flows.forecasts.registered import ForetoldPoint, Registered, Scored
from tests.dashboards import words

_AT = datetime(2026, 1, 1, tzinfo=UTC)


def test_every_point_of_a_forecast_has_a_row_with_its_own_outcome():
    points = tuple(
        ForetoldPoint(
            n_params=N, tokens=2e9, loss=3.0, lower=2.9, upper=3.1, level=0.9, calibrated=True
        )
        for N in (1e6, 2e6, 4e6)
    )
    forecast = Registered(
        name="mine", source="sweep demo", table_sha256="0", rows=9, form="gamma", sigma=0.1,
        tau=0.1, points=points, isoflop="1", git_commit=None, written_at=_AT,
    )  # fmt: skip
    scores = [
        Scored(
            point=point, loss=loss, run_id="abc", inside=inside, error_percent=1, winkler=1,
            reached_at=_AT, scored_at=_AT,
        )
        for point, loss, inside in ((0, 3.05, True), (2, 3.2, False), (2, 3.0, True))
    ]  # fmt: skip
    table = forecasts_table([(forecast, scores)], {"demo"})
    cells = words(table)
    rows = [cells[place : place + 8] for place in range(8, len(cells), 8)]
    assert [(row[1], row[2], row[5]) for row in rows] == [
        ("hit", "1M on 2B", "3.0500"),
        ("waits for its run", "2M on 2B", "–"),
        ("1 of 2 hit", "4M on 2B", "3.1000, mean of 2"),
    ]
    assert [each.href for each in table._traverse() if hasattr(each, "href")].count("/run/abc") == 1
