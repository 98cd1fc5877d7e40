"""A number without end is refused before it is reckoned with."""

import math

import pytest

from analysis.frontier.answer import Demand
from analysis.frontier.decision import AtLoss
from flows.answers.frontier import frontier
from flows.answers.question import Priced, demand_of, serving_of

TOKENS = (1e12, 1e12)
ENDLESS = (1e9, math.inf)


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ((ENDLESS, None, None), "--inference-tokens inf"),
        ((None, ENDLESS, None), "--prompt-tokens inf"),
        ((None, TOKENS, (math.nan, math.nan)), "--generated-tokens nan"),
    ],
)
def test_a_demand_without_end_is_refused(given, option):
    with pytest.raises(ValueError, match=f"{option}: give a finite number of tokens"):
        demand_of(*given)


@pytest.mark.parametrize("option", ["gpus", "batch", "context", "bits", "days", "price"])
def test_a_serving_without_end_is_refused(option):
    options = dict.fromkeys(("gpus", "batch", "context", "bits", "days", "price"), 1.0)
    options[option] = math.inf
    price = options.pop("price")
    with pytest.raises(ValueError, match=f"--{option} inf must be a finite number"):
        serving_of("h100", price, Demand(generated=TOKENS), **options)


def test_an_endless_stock_of_text_is_no_stock():
    priced = Priced(Demand(generated=TOKENS), unique_tokens=math.inf)
    with pytest.raises(ValueError, match="--unique-tokens inf: leave the option out"):
        frontier("besiroglu", AtLoss(2.0), priced, level=0.9)
