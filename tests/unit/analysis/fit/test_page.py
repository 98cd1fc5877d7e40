"""The page of a fit has its sections in order, and every table the numbers of the fit."""

import re

import polars as pl
import pytest

from analysis.fit.answer import fit_table
from analysis.fit.options import FitOptions
from analysis.fit.page import fit_page
from analysis.fit.text import convention_rows, optimal_rows, verdict_rows
from analysis.page import Page
from analysis.table.columns import normalise
from tests.simulated import isoflops, table


@pytest.fixture(scope="module")
def group():
    frame = table(*isoflops(), noise=0.005)
    [group] = fit_table(normalise(frame), FitOptions(bootstrap=20))
    return group


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        ("nats_per_token", ", nats per token"),
        ("bits_per_byte", ", bits per byte"),
        ("unknown", ""),
    ],
)
def test_every_axis_of_losses_names_their_unit_where_it_is_known(unit, words, monkeypatch):
    frame = table(*isoflops(), noise=0.005).with_columns(loss_unit=pl.lit(unit))
    groups = fit_table(normalise(frame), FitOptions(bootstrap=0))
    drawn = {}
    monkeypatch.setattr(
        Page, "figure", lambda page, figure, *, name, **more: drawn.update({name: figure})
    )
    fit_page(groups, title="runs")
    fitted = drawn["fit0-fit"].layout
    assert drawn["fit0-isoflop"].layout.yaxis.title.text == f"loss{words}"
    assert (fitted.xaxis.title.text, fitted.yaxis.title.text) == (
        f"fitted loss{words}",
        f"observed loss{words}",
    )
    bar = drawn["fit0-contours"].data[0].colorbar.title.text
    assert bar.replace("<br>", " ") == f"loss{words}"


def test_a_page_has_its_sections_figures_and_tables_in_order(group, monkeypatch):
    tables, figures = [], []
    drawn = Page.figure
    monkeypatch.setattr(Page, "table", lambda page, header, rows: tables.append((header, rows)))
    monkeypatch.setattr(
        Page, "figure",
        lambda page, figure, *, name, **more: figures.append(name)
        or drawn(page, figure, name=name, **more),
    )  # fmt: skip
    html = fit_page([group, group], title="runs").html()
    headings = re.findall(r"<h2[^>]*>([^<]*)", html)
    assert headings[: len(headings) // 2] == [
        "Can the table carry it?", "The law and the runs", "IsoFLOP valleys", "How sure",
        "Which N, which C", "The constants and their intervals", "Rows that move the answer most",
    ]  # fmt: skip
    assert headings[len(headings) // 2 :] == headings[: len(headings) // 2]
    parts = ("contours", "fit", "isoflop", "profiles", "cloud")
    assert figures == [f"fit{place}-{part}" for place in (0, 1) for part in parts]
    optimal, verdicts, conventions, constants, influence = (rows for _, rows in tables[:5])
    assert optimal == optimal_rows(group)
    assert verdicts == verdict_rows(group)
    assert conventions == convention_rows(group)
    law, intervals = group.fit.law, group.fit.intervals
    first = dict(intervals.values)
    for row, name in zip(constants, ("E", "A", "B", "alpha", "beta", "exponent_N"), strict=True):
        assert row[:2] == [name, f"{getattr(law, name):.6g}"]
        assert row[2] == f"{first[name][0]:.5g} to {first[name][1]:.5g}"
    assert influence == [
        [str(moved.row + 1), f"{moved.effect_on_exponent_N:+.4f}", f"{moved.effect_alone:+.4f}"]
        for moved in group.influence
    ]
    low, high = first["exponent_N"]
    assert (
        f"N* grows as C^{law.exponent_N:.2f} (between {low:.2f} and {high:.2f}): {law.formula}"
    ) in html
    assert f"{intervals.level:.0%} intervals: " in html
