"""N and D are read as people write them, from the command line and from a table."""

import numpy as np
import pytest

from analysis.forecast.points import read_number, read_option, read_pair, read_points
from analysis.table.observations import TableError


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("7B,2T", (7e9, 2e12)),
        ("7e9,2e12", (7e9, 2e12)),
        ("1.4b, 30 B", (1.4e9, 3e10)),
        ("350M;7G", (3.5e8, 7e9)),
    ],
)
def test_a_pair_is_read_as_people_write_it(text, pair):
    assert read_pair(text) == pytest.approx(pair)


@pytest.mark.parametrize("text", ["7B", "7B,2T,3T", "7B,x", "0,2T", "-7B,2T", "7B,nan", ""])
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(TableError, match=r"--at .* should read N,D.*--at 7B,2T"):
        read_pair(text)


def test_flops_take_their_own_suffixes():
    assert read_number("3.8e25", "flops") == 3.8e25
    assert read_number("10Z", "flops") == 1e22


@pytest.mark.parametrize("number", ["1e21", 1e21, 10**21, np.float64(1e21)])
def test_an_option_s_number_may_be_a_number_of_any_kind(number):
    assert read_option("--flops", number, "flops", "1e20") == 1e21


def test_points_come_from_a_table_by_the_usual_names(tmp_path):
    file = tmp_path / "runs.csv"
    file.write_text("row,model_size,training_tokens,who\n1,7B,2T,a\n2,70B,1.4T,b\n")
    points = read_points(file, "unknown")
    assert points == [pytest.approx((7e9, 2e12)), pytest.approx((70e9, 1.4e12))]


def test_of_several_counts_of_n_the_table_s_own_is_taken(tmp_path):
    file = tmp_path / "runs.csv"
    file.write_text("params_total,params_non_embedding,tokens\n8e9,7e9,2e12\n")
    assert read_points(file, "n_params_non_embedding") == [(7e9, 2e12)]
    assert read_points(file, "n_params_total") == [(8e9, 2e12)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tokens\n1e9\n", r"--points .*n_params .* among tokens\."),
        ("N,D\n1e9,\n2e9,1e10\n", "column 'D' should hold positive numbers"),
        ("N,D\n1e9,0\n", "column 'D' should hold positive numbers. Line 2"),
    ],
)
def test_a_table_that_names_no_runs_is_refused(tmp_path, text, says):
    file = tmp_path / "runs.csv"
    file.write_text(text)
    with pytest.raises(TableError, match=says):
        read_points(file, "unknown")
