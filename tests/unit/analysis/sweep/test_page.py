"""The report says what was found, how sure it is, and what is doubtful, in escaped text."""

import re

import numpy as np
import polars as pl
import pytest

from analysis.page import Page
from analysis.sweep.answer import find, numbers, verdict
from analysis.sweep.page import sweep_page
from analysis.table.observations import SCHEMA
from analysis.table.runs import own_table
from analysis.words import short


def observations(noise=0.002, budgets=(1e12, 2e12, 4e12, 8e12), sizes=12, name="d{}"):
    """A sweep simulated from a known law, in the columns our own tracker writes."""
    rng = np.random.default_rng(0)
    rows = []
    for budget in budgets:
        for index, N in enumerate(np.geomspace(2e4, 2e6, sizes)):
            D = budget / (6 * N)
            loss = 2.0 + 500 / N**0.6 + 3000 / D**0.6
            rows.append(
                {
                    "run_id": f"r{index}@{D:.0f}",
                    "parent_run_id": f"r{index}",
                    "sweep": "simulated",
                    "name": name.format(index),
                    "n_params": int(N),
                    "n_params_total": int(N * 1.2),
                    "n_params_non_embedding": int(N * 0.8),
                    "tokens": int(D),
                    "horizon": int(D),
                    "train_flops": budget,
                    "flops_6nd": 6.0 * N * D,
                    "flops_budget": budget,
                    "val_loss": loss * np.exp(noise * rng.standard_normal()),
                    "val_bpb": loss,
                    "loss_unit": "nats_per_token",
                    "lr": 1e-3,
                    "batch_tokens": 1024,
                    "status": "finished",
                    "excluded_reason": None,
                }
            )
    return pl.DataFrame(rows, schema_overrides=SCHEMA)


@pytest.fixture(scope="module")
def findings():
    return find(own_table(observations()), source="simulated", bootstrap=100)


def curves():
    return pl.DataFrame(
        {
            "run_id": ["a"] * 5,
            "name": ["d16"] * 5,
            "n_params": [20_000] * 5,
            "horizon": [None] * 5,
            "tokens": [1, 2, 3, 4, 5],
            "train_flops": [1e9, 2e9, 3e9, 4e9, 5e9],
            "train_loss": [6.0, 5.0, 4.5, 4.2, 4.0],
        }
    )


def test_the_verdict_leads_with_the_forecast_and_goes_on_with_the_exponents(findings):
    forecast, first, second = verdict(findings).splitlines()[:3]
    best = findings.lead.answer.optimum[0].best
    assert forecast.startswith(f"Forecast at 8.00e+13 FLOPs (6ND): N* = {short(best.n_opt)} [")
    exponent = findings.group.isoflop.N.exponent
    assert first.startswith(f"IsoFLOP: the best size grows as N* ~ C^{exponent:.2f} [")
    assert "the minimum lies inside the grid at 4 of 4 budgets" in first
    assert f"{findings.group.leave_one_out_percent:.2f} % rms (48 points)" in second
    # The simulated law has alpha = beta, so both exponents are one half.
    assert exponent == pytest.approx(0.5, abs=0.05)


def test_every_doubt_of_the_fit_stands_in_the_page(findings):
    html = sweep_page("simulated", findings, curves(), facts=["A fact."]).html()
    for doubt in findings.group.doubts:
        assert doubt.split("<")[0][:40] in html
    for name in ("isoflop", "fit", "frontier", "loss-curves", "forecast-path", "forecast-record"):
        assert f'id="{name}"' in html
    assert "A fact." in html


def test_a_table_too_small_for_a_law_gets_a_page_that_says_so():
    few = find(own_table(observations().head(3)), source="simulated")
    assert few.group is None
    assert "No law" in verdict(few)
    assert numbers(few) == {}
    assert "There is no law yet" in sweep_page("few", few, pl.DataFrame(), facts=[]).html()


def test_a_run_that_failed_stays_in_the_table_with_its_reason():
    frame = observations().with_columns(
        pl.when(pl.int_range(pl.len()) == 5)
        .then(pl.lit("diverged: loss is nan"))
        .otherwise(None)
        .alias("excluded_reason")
    )
    found = find(own_table(frame), source="simulated", bootstrap=0)
    html = sweep_page("failed", found, pl.DataFrame(), facts=[]).html()
    assert "48 observations, 1 left out of the fits." in html
    assert "diverged: loss is nan" in html
    assert len(found.group.fit.rows_used) == 47


def test_a_loss_that_no_fit_can_use_is_a_finding_and_no_error():
    frame = observations().with_columns(
        pl.when(pl.int_range(pl.len()) == 5).then(0.0).otherwise("val_loss").alias("val_loss")
    )
    found = find(own_table(frame), source="simulated", bootstrap=0)
    assert found.group is None
    assert "val_loss is not positive" in found.refusal
    assert "There is no law yet" in sweep_page("zero", found, pl.DataFrame(), facts=[]).html()


def test_names_out_of_runs_are_escaped():
    found = find(
        own_table(observations(name="<script>alert({})</script>")), source="x", bootstrap=0
    )
    html = sweep_page("<b>bold</b>", found, curves(), facts=["<i>"]).html()
    assert "<script>alert" not in html
    assert "<b>bold" not in html
    assert "&lt;b&gt;bold" in html


def test_a_table_row_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="row of 1 cells under a header of 2"):
        Page("x").table(["a", "b"], [["1"]])


def test_a_page_needs_no_network(findings):
    html = sweep_page("simulated", findings, curves(), facts=[]).html()
    assert html.endswith("</html>")
    assert "src=" not in html.split("<body>")[0]


def test_a_sweep_whose_law_is_not_identified_begins_with_that_and_names_no_size():
    frame = observations(budgets=(1e12,), sizes=8)
    found = find(own_table(frame), source="simulated", bootstrap=0)
    first, second, *_ = verdict(found).splitlines()
    assert first.startswith("NOT IDENTIFIED (exponent of N*): all rows lie on one budget")
    assert "Add rows at ten times this compute." in first
    assert "--anyway" in second
    assert "the best model has" not in verdict(found)
    html = sweep_page("one-budget", found, pl.DataFrame(), facts=[]).html()
    assert html.index("NOT IDENTIFIED") < html.index("Parametric law")
    assert 'id="frontier"' not in html
    assert "D*/N*</th><th>loss" not in html


def test_an_identified_sweep_has_no_warning_before_its_answer(findings):
    assert findings.group.warnings == ()
    assert "the best model has" in verdict(findings)


def test_a_page_of_more_curves_than_a_browser_draws_says_that_they_are_thinned(findings):
    runs = [curves().with_columns(run_id=pl.lit(f"r{k}"), horizon=None) for k in range(150)]
    html = sweep_page("mine", findings, pl.concat(runs), facts=[]).html()
    assert "Every loss curve" not in html
    assert re.search(r"Thinned: \d\d of 150 curves are drawn", html)
