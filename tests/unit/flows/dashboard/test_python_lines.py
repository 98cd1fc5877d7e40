"""The Python beside a figure, run: it gives the figure's data."""

import pytest

from flows.dashboard.address import Address
from flows.dashboard.screens.at import screen_at
from tests.dashboards import (
    Never,
    assert_python_gives_the_data,
    desk_of,
    text_of,
    words,
    write_tables,
)
from tests.simulated_home import simulated_sweep


def figures_of(screen):
    return [part.name for part in screen.page().parts if hasattr(part, "figure")]


@pytest.mark.parametrize(
    ("address", "names", "word"),
    [
        (Address(("sweep", "made")), {"fit"}, "isoflop.sweep('made'"),
        (
            Address(("sweep", "made", "frontier"), {"target": "14"}),
            {"frontier", "life", "regret"},
            "isoflop.frontier(isoflop.sweep('made'",
        ),
        (
            Address(("sweep", "made", "frontier"), {"gpu": "H100-80GB", "demand": "9"}),
            {"frontier"},
            "gpu='H100-80GB', price=",
        ),
        (
            Address(("sweep", "made", "next"), {"runs": "2"}),
            {"next-runs"},
            "isoflop.next(isoflop.sweep('made'",
        ),
        pytest.param(
            Address(("compare",), {"sweeps": "made,beside"}),
            {"speedup", "best-size", "pairs"},
            "isoflop.compare('made', 'beside')",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            Address(("compare",), {"sweeps": "made,beside", "loss": "byte"}),
            {"speedup"},
            "isoflop.compare('made', 'beside', bpb=True)",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_python_of_a_figure_gives_its_data(desk, address, names, word, monkeypatch):
    # A comparison's lines name the home in the environment.
    monkeypatch.setenv("ISOFLOP_HOME", "elsewhere")
    screen = screen_at(desk, address)
    assert names <= set(figures_of(screen))
    assert all(word in screen.python(name) for name in names)
    assert_python_gives_the_data(screen, *names)


def test_a_frontier_of_too_few_losses_for_a_forecast_has_python_too(tmp_path):
    grid = "grid.budgets=[1.6e11, 2.9e11]"
    write_tables(tmp_path, simulated_sweep(tmp_path, "few", grid, finished=4, noise=1e-5))
    screen = screen_at(desk_of(tmp_path), Address(("sweep", "few", "frontier")))
    assert "No forecast" in " ".join(words(screen.body()))
    names = ("frontier", "life", "regret")
    assert all(".law, flops=" in screen.python(name) for name in names)
    assert_python_gives_the_data(screen, *names)


def test_five_losses_that_a_law_fits_exactly_have_no_frontier(tmp_path):
    simulated_sweep(tmp_path, "few", "grid.budgets=[1.6e11, 2.9e11, 5.2e11]", finished=3)
    desk = desk_of(tmp_path)
    law = text_of(desk, Address(("sweep", "few")))
    assert "With 5 points for its constants it fits exactly" in law
    assert "5 rows for 5 constants" in text_of(desk, Address(("sweep", "few", "frontier")))


@pytest.mark.parametrize("view", [(), ("frontier",), ("next",)])
def test_python_without_a_report_of_all_losses_begins_with_how_to_write_one(root, view):
    screen = screen_at(desk_of(root, Never), Address(("sweep", "beside", *view)))
    lines = screen.python("isoflop").splitlines()
    assert lines[1] == "# its losses are newer than its report: isoflop report beside"
    made = screen_at(desk_of(root, Never), Address(("sweep", "made", *view)))
    assert "isoflop report" not in made.python("isoflop")


@pytest.mark.parametrize("counts", [{}, {"n": "n_params_total"}])
def test_the_curves_of_a_sweep_have_python_without_a_report(root, counts):
    address = Address(("sweep", "beside"), counts)
    assert_python_gives_the_data(screen_at(desk_of(root, Never), address), "loss-curves")


def test_the_python_of_a_figure_counts_N_as_the_address_does(root):
    screen = screen_at(desk_of(root, Never), Address(("sweep", "made"), {"n": "n_params_total"}))
    assert_python_gives_the_data(screen, "isoflop")
