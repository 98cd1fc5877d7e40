"""Numbers as people write them, read by column, and grouped where they differ by rounding."""

import numpy as np
import polars as pl
import pytest

from analysis.table.numbers import Kind, near_groups, read_numbers
from analysis.table.observations import TableError


def _read(*texts: object, kind: Kind = "count") -> list[float | None]:
    column = pl.Series("theirs", texts)
    return read_numbers(column, pl.DataFrame({"row": range(len(texts))}), kind=kind)[0].to_list()


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (("1.4B", "125M", "70b", "350000000"), (1.4e9, 1.25e8, 7e10, 3.5e8)),
        (("2T", "300 B", "15k"), (2e12, 3e11, 1.5e4)),
        (("300B tokens", "1.5 billion", "20 million params"), (3e11, 1.5e9, 2e7)),
        (("1,400,000", "900,000"), (1.4e6, 9e5)),
        (("1,400,000.5", "12"), (1400000.5, 12.0)),
        (("1 400 000", "900"), (1.4e6, 900.0)),
        (("1\u202f400\u202f000", "1\xa0000"), (1.4e6, 1000.0)),
        (("1_400_000", "1'500'000"), (1.4e6, 1.5e6)),
        (("1.400.000", "104"), (1.4e6, 104.0)),
        (("1.400.000", "1.389"), (1.4e6, 1389.0)),
        (("1.234,5", "1.389"), (1234.5, 1389.0)),
        (("1,4", "20,83"), (1.4, 20.83)),
        (("1,4B", "2,75B"), (1.4e9, 2.75e9)),
        (("1,400", "12,5"), (1.4, 12.5)),
        (("0,125", "1,389"), (0.125, 1.389)),
        (("300e9", "1,4e9"), (3e11, 1.4e9)),
        (('"1.4e9"', "2e9 "), (1.4e9, 2e9)),
        (("5M", None, "7M"), (5e6, None, 7e6)),
    ],
)
def test_the_usual_ways_of_writing_are_read(
    texts: tuple[str, ...], numbers: tuple[float, ...]
) -> None:
    assert _read(*texts) == list(numbers)


@pytest.mark.parametrize(
    "texts", [("1,400", "2,800"), ("104", "1,389"), ("1,400M", "2,800M"), ("15,424", "120,000")]
)
def test_a_comma_that_may_be_either_is_refused_by_name(texts: tuple[str, ...]) -> None:
    with pytest.raises(TableError, match="column 'theirs' is ambiguous"):
        _read(*texts)


@pytest.mark.parametrize(
    "texts", [("1,4", "1.5M"), ("1.234,5", "1,234.5"), ("1,400,000", "1,5"), ("1,400,00", "2")]
)
def test_ways_of_writing_that_contradict_each_other_are_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(TableError, match="column 'theirs' mixes ways of writing"):
        _read(*texts)


def test_a_loss_has_decimals_after_its_comma_and_no_suffix() -> None:
    assert _read("3,759", "3,624", kind="plain") == [3.759, 3.624]
    with pytest.raises(TableError, match=r"'3\.7M'"):
        _read("3.7M", "3.6", kind="plain")


def test_flops_take_the_larger_prefixes() -> None:
    assert _read("5.76 ZFLOPs", "3E", "1e20 FLOP", kind="flops") == [5.76e21, 3e18, 1e20]
    with pytest.raises(TableError, match="'3E'"):
        _read("3E")


@pytest.mark.parametrize("text", ["seven", "12 %", "~1.4B", "1.4X", "-", "1e9 2e9"])
def test_what_is_no_number_is_refused_with_its_row(text: str) -> None:
    with pytest.raises(TableError, match="should hold numbers") as caught:
        _read("1e9", text, "2e9")
    assert caught.value.rows == (1,)


def test_plain_numbers_are_not_remarked_on_and_others_are_shown_as_written() -> None:
    rows = pl.DataFrame({"row": [0, 1]})
    assert read_numbers(pl.Series(["1", "2e9"]), rows, kind="count")[1] == ""
    assert read_numbers(pl.Series(["1", "2B"]), rows, kind="count")[1] == "2B"
    assert read_numbers(pl.Series(["nan", "2B"]), rows, kind="count")[1] == "2B"


def test_a_column_of_another_type_holds_no_numbers() -> None:
    with pytest.raises(TableError, match="holds Boolean"):
        _read(True, False)


def test_neighbours_within_the_factor_are_one_group_in_any_order() -> None:
    values = np.array([1e19, 1.004e18, 0.996e18, 1e20, 1.01e19])
    assert near_groups(values, 1.02).tolist() == [1, 0, 0, 2, 1]
    assert near_groups(values, 1.001).tolist() == [2, 1, 0, 4, 3]


def test_a_group_does_not_cross_the_outer_number() -> None:
    sizes = np.array([7, 7, 2, 2])
    assert near_groups(np.array([1.0, 1.0, 1.0, 5.0]), 1.01, within=sizes).tolist() == [2, 2, 0, 1]


def test_nothing_has_no_groups() -> None:
    assert near_groups(np.array([]), 1.02).tolist() == []


def test_a_run_that_diverged_has_no_number_and_other_words_are_refused() -> None:
    assert _read("3.1", "diverged", "2.9", "OOM") == [3.1, None, 2.9, None]
    assert _read("3.1", "nan", "inf")[2] == np.inf
    for texts in (("3.1", "soon"), ("diverged", "diverged")):
        with pytest.raises(TableError, match="should hold numbers"):
            _read(*texts)
