"""A frontier read off runs has the forecast's intervals, and its verdict comes first."""

import json
from pathlib import Path

import polars as pl
import pytest

from analysis.fit.answer import fit_table
from analysis.fit.options import FitOptions
from analysis.table.read import read_table
from analysis.words import short
from tests.cases.conftest import Run
from tests.others_tables import BASE, DISAGREEING, loss, write_table
from tests.simulated import repeated_law, repeated_table

HEADER = ("N", "D", "loss")
ASK = ("--flops", 1e21, "--inference-tokens", 1e12)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "runs.csv", HEADER, BASE)


def test_a_table_is_answered_under_its_forecast(run: Run, table: Path) -> None:
    done = run("frontier", "--law", table, *ASK)
    assert done.status == 0
    assert done.stdout.startswith("Train ")
    assert "In FLOPs, by runs: loss " in done.stdout
    document = json.loads(run("frontier", "--law", table, *ASK, "--json", "-").stdout)
    assert document["intervals"]["method"] == "forecast"
    assert document["law"]["source"] == "the forecast from 15 runs"
    low, high = document["intervals"]["N"]
    assert low < document["optimum"]["N"] < high


def test_its_compute_optimal_size_is_the_forecasts(run: Run, table: Path) -> None:
    document = json.loads(run("frontier", "--law", table, *ASK, "--json", "-").stdout)
    foretold = json.loads(run("forecast", table, "--flops", 1e21, "--json", "-").stdout)
    expected = foretold["optimum"][0]["n_opt"]
    assert document["compute_optimal"]["N"] == pytest.approx(expected, rel=1e-6)


def test_a_choice_far_beyond_the_runs_begins_with_not_calibrated(
    run: Run, table: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    ask = ("frontier", "--law", table, "--flops", 1e25)
    done = run(*ask, "--report", page)
    assert done.status == 0
    assert done.stdout.startswith("NOT CALIBRATED: N = ")
    assert "EXTRAPOLATION" not in done.stdout
    html = page.read_text()
    assert 0 < html.index("NOT CALIBRATED") < html.index("Train ")
    document = json.loads(run(*ask, "--json", "-").stdout)
    size = short(document["compute_optimal"]["N"])
    assert document["warnings"][0].startswith(f"NOT CALIBRATED: N = {size}, ")


def test_methods_that_disagree_on_n_star_are_named_as_in_the_forecast(
    run: Run, tmp_path: Path
) -> None:
    table = write_table(tmp_path / "runs.csv", HEADER, DISAGREEING)
    budget = ("--flops", 1.2e12)
    foretold = json.loads(run("forecast", table, *budget, "--json", "-").stdout)
    [sentence] = [each for each in foretold["doubts"] if each.startswith("Methods disagree")]
    document = json.loads(run("frontier", "--law", table, *budget, "--json", "-").stdout)
    assert sentence in document["warnings"]


def test_runs_that_do_not_tell_n_from_d_are_refused_unless_asked_for(
    run: Run, tmp_path: Path
) -> None:
    sizes = [8e7 * 1.6**k for k in range(12)]
    rows = [(N, 20 * N, loss(N, 20 * N)) for N in sizes]
    table = write_table(tmp_path / "runs.csv", HEADER, rows)
    refused = run("frontier", "--law", table, *ASK)
    assert refused.status == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith(f"isoflop: {table}: NOT IDENTIFIED (N*): D/N is constant")
    assert "--anyway" in refused.stderr
    page = tmp_path / "page.html"
    done = run("frontier", "--law", table, *ASK, "--anyway", "--report", page)
    assert done.status == 0
    assert done.stdout.startswith("NOT IDENTIFIED (N*): D/N is constant")
    html = page.read_text()
    assert html.index("NOT IDENTIFIED") < html.index("Train ")


def test_too_few_runs_in_a_table_are_refused(run: Run, tmp_path: Path) -> None:
    table = write_table(tmp_path / "runs.csv", HEADER, BASE[:9])
    refused = run("frontier", "--law", table, *ASK)
    assert refused.status == 2
    assert "a forecast needs losses at 10 pairs of N and D and 3 sizes or more" in refused.stderr


def test_a_table_that_needs_an_option_of_fit_says_where_it_is(run: Run, tmp_path: Path) -> None:
    rows = [(N, D, L + off, lr) for N, D, L in BASE for off, lr in ((0, 1e-3), (0.1, 3e-3))]
    table = write_table(tmp_path / "runs.csv", (*HEADER, "lr"), rows)
    refused = run("frontier", "--law", table, *ASK)
    assert refused.status == 2
    assert "--best-of lr" in refused.stderr
    assert "options of isoflop fit: --law takes what its --json wrote" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_sweep_of_few_runs_is_answered_under_its_fit_and_says_so(
    run: Run, tmp_path: Path
) -> None:
    table = read_table(write_table(tmp_path / "runs.csv", HEADER, BASE[:9]))
    [group] = fit_table(table, FitOptions(bootstrap=20))
    folder = tmp_path / "home" / "sweeps" / "mine"
    folder.mkdir(parents=True)
    group.fit.law.save(folder / "law.json")
    columns = table.frame.select("n_params", "tokens", pl.col("val_loss"))
    columns.write_parquet(folder / "observations.parquet")
    done = run("frontier", "--law", "mine", *ASK, "--anyway")
    assert done.status == 0
    head = " ".join(done.stdout.partition("\nTrain ")[0].split())
    assert "No forecast: a forecast needs losses at 10 pairs" in head
    assert "The intervals are those of the fitted law." in head


def test_a_name_of_a_file_that_is_missing_says_so(run: Run) -> None:
    refused = run("frontier", "--law", "none.csv", *ASK)
    assert refused.status == 2
    assert refused.stderr == "isoflop: there is no file none.csv.\n"


def test_a_stock_is_answered_by_the_law_of_repeats_that_the_runs_chose(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "repeats.csv"
    repeated_table(repeated_law("penalty"), (1, 4, 16), noise=0.002).write_csv(path)
    ask = ("--law", path, "--flops", 1e20, "--unique-tokens", 1e10, "--json", "-")
    document = json.loads(run("frontier", *ask).stdout)
    assert document["stock"]["form"] == document["law"]["repeated"]["form"] == "penalty"
    assert document["stock"]["chosen_on"] == "repeats"
    assert not document["stock"]["half_lives_borrowed"]
    assert any("rows are left out: tokens repeat" in line for line in document["warnings"])
    done = run("frontier", *ask[:-2])
    assert "repetition costs as repeats has it: additive penalty" in " ".join(done.stdout.split())
    fresh = json.loads(run("frontier", *ask[:4], "--json", "-").stdout)
    assert fresh["stock"] is None
    assert fresh["optimum"]["N"] == document["optimum"]["N"]
    # A table without repeats borrows.
    base = write_table(tmp_path / "base.csv", HEADER, BASE)
    done = run("frontier", "--law", base, "--flops", 1e21, "--unique-tokens", 1e11)
    assert "half-lives borrowed from C4" in " ".join(done.stdout.split())
