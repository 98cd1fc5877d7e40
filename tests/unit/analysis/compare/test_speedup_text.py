"""What a variant is worth in words: shown, shown to be worse, or not shown, and why."""

from math import inf

import pytest

from analysis.compare.speedup import Answer, AtBudget, Multiplier, Projection, Speedup
from analysis.compare.speedup_text import budget_table, lead_lines, rank_rows, speedup_json
from analysis.compare.variants import Variant, Variants

GAIN = Multiplier(1.25, 1.1, 1.4)
LOSS = Multiplier(0.8, 0.5, 0.9)


def worth(
    name: str,
    pooled: Multiplier,
    *,
    time: Multiplier | None = None,
    projection: Projection | None = None,
    others: tuple[Answer, ...] = (),
) -> Variant:
    at = (AtBudget(1e18, pooled), AtBudget(1e19, pooled))
    lead = Answer("shared", (1.7, 1.7), None, pooled, at, projection)
    # The laws are on the page alone.
    return Variant(name, Speedup(name, lead, others, time, "not timed", 6, 6, ()), "", None)


def variants(*ranked: Variant) -> Variants:
    return Variants("plain", 0.9, "nats", ranked)


@pytest.mark.parametrize(
    ("pooled", "words"),
    [
        (GAIN, "new needs 1.250 [1.100, 1.400] times less compute than plain for the same loss."),
        (LOSS, "new needs 1.250 [1.111, 2.000] times more compute than plain for the same loss."),
        (
            Multiplier(1.1, 0.9, 1.3),
            "No change is shown: new needs 1.100 [0.900, 1.300] times",
        ),
        (Multiplier(1.1, None, None), "No change is shown: too few runs for an interval. By the"),
        (Multiplier(inf, 1.2, None), "No change is shown: by the fit new reaches losses that no"),
    ],
)
def test_a_change_is_called_shown_only_where_its_interval_lies_on_one_side_of_1(
    pooled: Multiplier, words: str
) -> None:
    [line] = lead_lines(variants(worth("new", pooled)))
    assert line.startswith(words)


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (GAIN, "and 1.250 [1.100, 1.400] times less time."),
        (LOSS, "1.250 [1.111, 2.000] times more"),
    ],
)
def test_time_is_said_beside_compute(time: Multiplier, words: str) -> None:
    [line] = lead_lines(variants(worth("new", GAIN, time=time)))
    assert words in line


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (GAIN, "2 of 2 variants are shown to need less compute than plain for the same loss."),
        (LOSS, "1 of 2 variants is shown to need less compute than plain for the same loss."),
    ],
)
def test_of_several_variants_those_shown_to_need_less_are_counted_first(
    second: Multiplier, words: str
) -> None:
    none = Variant("broken", None, "it has two budgets", None)
    several = variants(worth("new", GAIN), worth("other", second), none)
    assert lead_lines(several)[0] == words
    assert [row[0] for row in rank_rows(several)] == ["new", "other", "broken"]
    assert rank_rows(several)[-1] == ["broken", "–", "–", "–", "none"]
    header, rows = budget_table(several)
    assert header == ["variant", "C = 1.00e+18", "C = 1.00e+19"]
    assert [row[0] for row in rows] == ["new", "other"]
    assert budget_table(variants(worth("new", GAIN)))[0] == ["C, FLOPs", "new"]


def test_a_projection_that_hangs_on_the_irreducible_loss_says_so() -> None:
    ahead = Projection(1e21, GAIN, "holds")
    free = Answer("free", (1.7, 1.6), None, GAIN, (), Projection(1e21, LOSS, "shrinks with scale"))
    same = Answer("free", (1.7, 1.6), None, GAIN, (), ahead)
    told, silent = (
        lead_lines(variants(worth("new", GAIN, projection=ahead, others=(other,))))[1]
        for other in (free, same)
    )
    assert silent == "At 1.00e+21 FLOPs the multiplier is 1.250 [1.100, 1.400]: holds."
    assert told == (
        f"{silent} It hangs on the irreducible loss (one for both): shrinks with scale with one "
        "for each."
    )


def test_without_a_projection_or_a_time_the_json_has_nulls() -> None:
    known = worth("new", GAIN).speedup
    assert known is not None
    document = speedup_json(known)
    assert document["time"] is None
    assert document["projection"] is None
    assert document["compute"] == {"value": 1.25, "lower": 1.1, "upper": 1.4}
