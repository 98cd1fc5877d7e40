"""The dollars of a page are those of the device, the model and the way of serving."""

import pytest

from analysis import published
from analysis.frontier.overtraining import implied_spend_ratio
from analysis.frontier.serving import Device, Serving, Shape
from analysis.page import Page
from analysis.retrodict.dollar_figures import price_of_a_point, results_data, serving_data
from analysis.retrodict.dollars import add_results, add_serving, published_size
from analysis.words import dollars, short

A100 = Device.named("a100")


@pytest.fixture
def tables(monkeypatch):
    """Every table of a page, as header and rows."""
    found = []
    monkeypatch.setattr(Page, "table", lambda page, header, rows: found.append((header, rows)))
    return found


def test_the_size_of_a_published_model_is_its_parameters_and_tokens():
    assert published_size("LLaMA-7B") == (6_738_415_616.0, 1e12)


def test_a_bill_buys_its_price_of_tokens_at_every_batch(tables):
    page = Page("x")
    add_serving(page, A100)
    law, shape = published.law("besiroglu"), Shape.published("LLaMA-7B")
    # Touvron et al. 2023, table 15: 82,432 GPU-hours.
    training = 82_432 * A100.usd_per_hour
    bill = float(implied_spend_ratio(law, *published_size("LLaMA-7B"))) * training
    html = page.html()
    assert f"82,432 A100-hours; at {dollars(A100.usd_per_hour)} an hour that is" in html
    assert f"{dollars(training)}, and the implied inference bill is {dollars(bill)}" in html
    (_, batches), (_, choices) = tables
    for row, batch in zip(batches, (1, 8, 32), strict=True):
        serving = Serving(A100, batch=batch)
        price = float(serving.usd_per_generated_token(shape))
        assert row == (
            str(batch),
            dollars(1e6 * price),
            dollars(1e6 * float(serving.usd_per_prompt_token(shape))),
            f"{float(serving.decode_mfu(shape)):.1%}",
            short(bill / price),
        )
    loss = float(law.loss(*published_size("LLaMA-7B")))
    data = serving_data(law, loss, prompt_tokens=0.25e12, generated_tokens=0.75e12, device=A100)
    for row, best in zip(choices, data.iter_rows(named=True), strict=True):
        assert row[:3] == (best["serving"], short(best["N"]), short(best["D"]))
        assert row[5:] == (dollars(best["total_usd"]), f"{best['saving']:.1%}")


def test_a_point_costs_more_training_and_more_serving_in_every_task(tables):
    add_results(Page("x"), A100)
    [(_, rows)] = tables
    prices = price_of_a_point(results_data(A100))
    assert [row[2:] for row in rows] == [
        (f"+{price['more_training']:.0%}", f"+{price['more_serving']:.0%}")
        for price in prices.iter_rows(named=True)
    ]
