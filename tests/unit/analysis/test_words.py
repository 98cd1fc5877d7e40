"""The same number reads the same wherever a person meets it."""

import pytest

from analysis.words import between, dollars, flops, short


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (7, "7"), (0.0123456, "0.0123"), (999, "999"), (999.6, "1k"), (1000, "1k"),
        (1234, "1.23k"), (999_499, "999k"), (999_500, "1M"), (6.97e9, "6.97B"), (1e9, "1B"),
        (1.4e12, "1.4T"), (999e12, "999T"), (1e15, "1e+15"), (1.2345e18, "1.23e+18"),
        (-2.5e6, "-2.5M"), (float("inf"), "inf"), (None, "–"),
    ],
)  # fmt: skip
def test_a_count_has_three_digits_and_a_letter(value: float | None, text: str) -> None:
    assert short(value) == text


def test_flops_are_powers_of_ten_at_every_size() -> None:
    assert [flops(value) for value in (1e10, 5.764e23)] == ["1.00e+10", "5.76e+23"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(123456.7, "$123,457"), (100, "$100"), (2.5, "$2.50"), (0.02671, "$0.0267"), (None, "–")],
)
def test_dollars_have_cents_only_where_they_matter(value: float | None, text: str) -> None:
    assert dollars(value) == text


def test_a_range_of_counts() -> None:
    assert between(12.3e9, 1.5e12) == "12.3B to 1.5T"
