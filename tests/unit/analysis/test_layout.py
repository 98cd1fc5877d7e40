"""A table fits its width with every number whole, and sentences break between words."""

import pytest

from analysis.layout import cell, hanging, is_number, table_lines, wrapped

HEADER = ["run", "at", "N*", "loss", "state"]
ROWS = [
    ["d16", "N = 38.2k, D = 697k", "1.14M [887k, 1.45M]", "2.5551 [2.5183, 2.5924]", "finished"],
    ["d1024x24", "C = 1.60e+11", "–", "3.1", "out of memory"],
]
NUMBERS = ("N = 38.2k,", "D = 697k", "1.14M", "[887k, 1.45M]", "2.5551", "[2.5183, 2.5924]")


@pytest.mark.parametrize("width", [200, 80, 70, 66])
def test_no_number_is_cut_at_any_width_and_no_line_is_too_long(width):
    lines = table_lines(HEADER, ROWS, width=width, indent="")
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert all(number in text for number in (*NUMBERS, "C = 1.60e+11", "d1024x24"))
    assert len(lines) == (3 if width == 200 else len(lines))


def test_spare_columns_go_in_their_order_and_are_named():
    def lines(width):
        return table_lines(HEADER, ROWS, width=width, spare=("[loss]", "at", "state"), indent="")

    assert not any("no room" in line for line in lines(80))
    assert "no room in 58 columns for: intervals of loss" in " ".join(lines(58))
    text = " ".join(" ".join(lines(34)).split())
    assert "no room in 34 columns for: at, state, intervals of loss" in text
    assert "1.14M" in text
    assert "finished" not in text


def test_numbers_stand_right_and_words_left_with_the_header_at_their_foot():
    rows = [["a", 1_234, 0.000123, ""], ["bcd", 5, 12.5, ""]]
    assert table_lines(["name", "count", "loss in nats", "none"], rows, width=27, indent="") == [
        "              loss in",
        "name  count      nats  none",
        "a     1,234  0.000123",
        "bcd       5      12.5",
    ]
    assert table_lines(["a", "b"], [], width=80, indent="") == ["a  b"]


def test_a_name_wider_than_its_column_goes_on_in_the_next_line():
    lines = table_lines(["run", "D"], [["d640x10-D1703706624", "1.7B"]], width=16, indent="")
    assert "".join(line.split()[0] for line in lines[1:]) == "d640x10-D1703706624"
    assert max(map(len, lines)) <= 16


@pytest.mark.parametrize(
    ("value", "numeric"),
    [
        (1, True), (2.5, True), ("1,234", True), ("11B", True), ("$12", True), ("1.00e+23", True),
        ("16.3%", True), ("-0.5", True), ("+0.01 [0, 1]", True), ("–", True), ("d16", False),
        ("", False), ("3 sizes", True), ("planned", False), ("< 1 s", True),
    ],
)  # fmt: skip
def test_numbers_are_told_from_words(value, numeric):
    assert is_number(value) is numeric


def test_a_cell_shows_whole_numbers_in_groups_and_others_with_four_digits():
    assert [cell(value) for value in (1_234, 2.34567, "x")] == ["1,234", "2.346", "x"]


def test_sentences_break_between_words_and_a_command_stays_whole():
    command = "  isoflop sweep mine.yaml --set grid.budgets=[1e12] --set seeds=[0]"
    lines = wrapped(f"the learning-rate of d16 was not checked\n\n{command}", 20, " ")
    assert lines[-2:] == ["", command]
    assert max(map(len, lines[:-2])) <= 20
    assert " ".join(" ".join(lines[:-2]).split()) == "the learning-rate of d16 was not checked"
    assert list(hanging("- ", "one two three", 26)) == ["   - one two three"]
