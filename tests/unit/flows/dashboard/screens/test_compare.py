"""The view of sweeps side by side."""

from dataclasses import replace

import polars as pl

from flows.dashboard.address import Address
from flows.results.compare import compared_table
from tests.dashboards import desk_of, text_of


def test_sweeps_are_compared_with_the_first(desk):
    address = Address(("compare",), {"sweeps": "made,beside"})
    text = text_of(desk, address)
    assert text.index("beside needs") < text.index("What it did to the law")
    assert "Choose two sweeps or more." in text_of(desk, Address(("compare",)))


def test_sweeps_are_compared_by_bits_per_byte_where_the_address_asks(desk):
    asked = {"sweeps": "made,beside"}
    by_token, by_byte = (
        text_of(desk, Address(("compare",), query)) for query in (asked, asked | {"loss": "byte"})
    )
    # The switch alone names the other unit.
    assert (by_byte.count("nats per token"), by_token.count("bits per byte")) == (1, 1)


def test_other_tokenizers_lead_to_the_switch_beside_the_refusal(root, monkeypatch):
    def of_its_own(plan, home):
        runs = compared_table(plan, home)
        return replace(runs, frame=runs.frame.with_columns(tokenizer=pl.lit(plan.spec.name)))

    monkeypatch.setattr("flows.dashboard.screens.compare.compared_table", of_its_own)
    text = text_of(desk_of(root), Address(("compare",), {"sweeps": "made,beside"}))
    assert "which do compare: choose them above." in text
    assert "--" not in text


def test_a_sweep_that_is_not_compared_is_named(desk):
    address = Address(("compare",), {"sweeps": "made,gone,begun"})
    text = text_of(desk, address)
    assert "Left out: gone." in text
    assert "begun" in text
