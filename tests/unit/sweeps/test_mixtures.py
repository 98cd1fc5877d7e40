"""Mixtures of a spec: which shares they are, and what is refused with its remedy."""

import pytest
from pydantic import ValidationError

from llama_core.mixture import MIXTURE_BLOCK
from sweeps.mixtures import Mixtures, mixtures_of

WEIGHTS = {"prose": 2.0, "code": 1.0, "data": 1.0}
THIRDS = dict.fromkeys(WEIGHTS, 33.3)


def made(**shares):
    return mixtures_of(Mixtures(shares=shares), WEIGHTS)


def test_every_mixture_is_whole_rows_of_a_block_and_sums_to_one():
    for shares in (
        {"kind": "lattice", "parts": 7},
        {"kind": "dirichlet", "count": 20},
        {"kind": "one-up", "factor": 1.7},
        {"kind": "rows", "rows": {"thirds": THIRDS}},
    ):
        for each in made(**shares).values():
            rows = [share * MIXTURE_BLOCK for share in each.values()]
            assert sum(rows) == MIXTURE_BLOCK
            assert rows == [round(row) for row in rows]


def test_a_lattice_has_every_mixture_within_its_bounds():
    assert len(made(kind="lattice", parts=4)) == 15
    bounded = made(kind="lattice", parts=4, at_most={"data": 0.25}, at_least={"prose": 0.5})
    shares = [tuple(each.values()) for each in bounded.values()]
    assert shares == [(1, 0, 0), (0.75, 0.25, 0), (0.75, 0, 0.25), (0.5, 0.5, 0), (0.5, 0.25, 0.25)]
    assert list(bounded) == ["m00", "m01", "m02", "m03", "m04"]


def test_draws_are_of_their_seed_lie_around_the_weights_and_keep_the_bounds():
    first = made(kind="dirichlet", count=200, seed=3, concentration=2)
    assert first == made(kind="dirichlet", count=200, seed=3, concentration=2)
    assert first != made(kind="dirichlet", count=200, seed=4, concentration=2)
    # The mean of 200 draws of concentration 8 in all has a standard error of 0.012.
    assert sum(each["prose"] for each in first.values()) / 200 == pytest.approx(0.5, abs=0.05)
    bounded = made(kind="dirichlet", count=50, at_most={"prose": 0.3})
    assert max(each["prose"] for each in bounded.values()) <= 0.3005


def test_draws_depend_on_the_weights_proportions_alone():
    drawn = Mixtures(shares={"kind": "dirichlet", "count": 5})
    eightfold = {name: 8 * weight for name, weight in WEIGHTS.items()}
    assert mixtures_of(drawn, eightfold) == mixtures_of(drawn, WEIGHTS)


def test_one_up_raises_one_share_and_shrinks_the_others_alike():
    raised = made(kind="one-up", factor=1.5)
    assert list(raised) == ["base", "prose-up", "code-up", "data-up"]
    assert raised["base"] == {"prose": 0.5, "code": 0.25, "data": 0.25}
    assert raised["prose-up"] == {"prose": 0.75, "code": 0.125, "data": 0.125}


def test_rows_may_be_percentages_and_leave_out_sources():
    rows = {"a": {"prose": 50, "code": 50}, "b": {"prose": 0.5, "data": 0.5}}
    assert made(kind="rows", rows=rows) == {
        "a": {"prose": 0.5, "code": 0.5, "data": 0.0},
        "b": {"prose": 0.5, "code": 0.0, "data": 0.5},
    }


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"kind": "lattice", "parts": 60}, r"has 1,891 mixtures.*parts=30 has 496; or draw"),
        (
            {"kind": "lattice", "parts": 2, "at_most": dict.fromkeys(WEIGHTS, 0.3)},
            "none of the 6 mixtures .* keeps mixtures.shares.at_least and at_most. Widen",
        ),
        (
            {"kind": "dirichlet", "at_most": dict.fromkeys(WEIGHTS, 0.3)},
            "1,000 draws gave no mixture beside the 0 before it",
        ),
        ({"kind": "one-up"}, "of 'prose' is 1, and should be below 1.*less than 2,"),
        ({"kind": "rows", "rows": {"half": {"prose": 0.5, "code": 0.4}}}, "half sum to 0.9, and"),
        ({"kind": "rows", "rows": {"a": {"cod": 1}}}, "rows.a names 'cod', and the corpus has"),
        (
            {"kind": "rows", "rows": {"a": {"prose": 1}, "b": {"code": 1}}},
            "source 'data' has no share in any of the 2 mixtures",
        ),
        (
            {"kind": "rows", "rows": {"a": THIRDS, "b": THIRDS}},
            "mixtures a and b have the same shares",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_remedy(shares, message):
    with pytest.raises((ValueError, ValidationError), match=message):
        made(**shares)


def test_a_single_source_and_a_stock_without_a_target_are_refused():
    with pytest.raises(ValueError, match="two sources or more, and the corpus has prose"):
        mixtures_of(Mixtures(shares={"kind": "lattice"}), {"prose": 1.0})
    with pytest.raises(ValidationError, match="its target_tokens is not given"):
        Mixtures(shares={"kind": "lattice"}, stock={"prose": 1e9})
