"""Tables of a dozen rows: noise is not an outlier, and two budgets are no interval."""

import re
from pathlib import Path

from tests.cases.conftest import Run
from tests.others_tables import BASE, loss, write_table

# Deviations of 0.2 % drawn once, for the rows of `_at_two_budgets`.
_NOISE = (-0.4, 1.1, -0.6, 0.2, 2.1, -1.3, 0.7, -0.9, 1.6, 0.1)


def test_noise_of_fifteen_rows_is_not_called_an_outlier(run: Run, tmp_path: Path) -> None:
    table = write_table(tmp_path / "base.csv", ("N", "D", "loss"), BASE)
    done = run("fit", table, "--bootstrap", 0)
    assert done.status == 0
    assert "median deviation" not in done.stdout


def test_a_row_five_percent_off_is_called_an_outlier(run: Run, tmp_path: Path) -> None:
    for row in (3, 7, 12):
        rows = [(N, D, L * (1.05 if k == row else 1)) for k, (N, D, L) in enumerate(BASE)]
        table = write_table(tmp_path / "wild.csv", ("N", "D", "loss"), rows)
        words = " ".join(run("fit", table, "--bootstrap", 0).stdout.split())
        off = rf"Line {row + 2} lies [45]\.?\d* % off the law, more than 8 times the median"
        assert re.search(off, words)
        assert f"leave it out: --where 'source_line <> {row + 2}'" in words


def test_approach_2_on_two_budgets_is_said_to_rest_on_two(run: Run, tmp_path: Path) -> None:
    sizes = {1e18: (8e6, 16e6, 27e6, 50e6, 100e6), 1e20: (60e6, 120e6, 230e6, 450e6, 900e6)}
    places = [(N, C / 6 / N) for C, row in sizes.items() for N in row]
    rows = [
        (N, D, loss(N, D) * (1 + 0.002 * noise))
        for (N, D), noise in zip(places, _NOISE, strict=True)
    ]
    table = write_table(tmp_path / "two.csv", ("N", "D", "loss"), rows)
    words = " ".join(run("fit", table, "--bootstrap", 50, "--level", 0.1).stdout.split())
    assert "Approach 2 rests on two budgets, too few for an interval: N* grows as" in words
    assert "intervals do not meet" not in words
