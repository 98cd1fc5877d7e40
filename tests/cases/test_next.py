"""`isoflop next`: runs after a table, after a sweep, their files, and refusals."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from analysis.table.runs import own_table
from flows.plans.next_candidates import of_sweep
from sweeps.load import load_spec
from sweeps.plan import Plan, plan
from sweeps.spec import DataRef
from tests.cases.conftest import Run
from tests.others_tables import BASE, write_table


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_table(tmp_path / "base.csv", ("N", "D", "loss"), BASE)


@pytest.fixture
def sweep(tmp_path: Path) -> Plan:
    """A demo sweep in the test's home, its losses those of a law with 0.2 % of noise."""
    planned = plan(load_spec("demo"), DataRef(digest="x"))
    rng = np.random.default_rng(0)
    rows = [
        {
            "run_id": f"{run.id}@{cell.tokens}",
            "n_params": run.n_params,
            "tokens": cell.tokens,
            "train_flops": float(cell.train_flops),
            "flops_6nd": 6.0 * run.n_params * cell.tokens,
            "flops_budget": cell.flops_budget,
            "val_loss": (2.4 + 300 / run.n_params**0.58 + 6900 / cell.tokens**0.7)
            * float(np.exp(0.002 * rng.normal())),
        }
        for run in planned.runs
        for cell in run.cells
    ]
    folder = tmp_path / "home" / "sweeps" / "demo"
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(planned.model_dump_json())
    pl.DataFrame(rows).write_parquet(folder / "observations.parquet")
    return planned


def _document(run: Run, *arguments: object) -> dict:
    done = run("next", *arguments, "--json", "-")
    assert done.status == 0, done.stderr
    return json.loads(done.stdout)


def test_runs_after_a_table_stay_within_the_budget_and_are_written_as_a_table(
    run: Run, base: Path, tmp_path: Path
) -> None:
    answer = _document(
        run, base, "--flops", "1e22", "--budget", "4e19", "--runs", 4, "--to", tmp_path / "to.csv"
    )
    assert 1 <= len(answer["runs"]) <= 4
    assert answer["runs"][-1]["spent"] <= 4e19
    assert answer["runs"][-1]["together"]["n_factor"] < answer["today"]["n_factor"]
    written = pl.read_csv(tmp_path / "to.csv")
    assert written["n_params"].to_list() == [round(r["n_params"]) for r in answer["runs"]]
    # The file has no losses that a fit could take for measured.
    assert run("fit", tmp_path / "to.csv").status == 2


def test_a_verdict_and_both_intervals_are_printed_for_a_person(
    run: Run, base: Path, tmp_path: Path
) -> None:
    options = ("--flops", "1e23", "--budget", "1e19", "--report", tmp_path / "next.html")
    done = run("next", base, *options)
    assert done.status == 0, done.stderr
    for words in ("Worth it: ", "is known to a factor", "90% intervals", "--to next.csv"):
        assert words in " ".join(done.stdout.split())
    page = (tmp_path / "next.html").read_text()
    assert "train next, in this order" in page


def test_the_chosen_runs_are_among_the_candidates_given(
    run: Run, base: Path, tmp_path: Path
) -> None:
    answer = _document(run, base, "--flops", "1e22", "--candidates", "30M,1B@10,40", "--runs", 9)
    places = {(r["n_params"], r["tokens"]) for r in answer["runs"]}
    assert places == {(3e7, 3e8), (3e7, 1.2e9), (1e9, 1e10), (1e9, 4e10)}
    rows = [("3e8", "6e9"), ("1e8", "2e10")]
    file = write_table(tmp_path / "offered.csv", ("params", "tokens"), rows)
    answer = _document(run, base, "--flops", "1e22", "--candidates", file, "--runs", 1)
    assert answer["candidates"] == 2
    assert answer["runs"][0]["n_params"] in (3e8, 1e8)


def test_runs_after_a_sweep_are_a_spec_that_plans_to_them_within_the_budget(
    run: Run, sweep: Plan, tmp_path: Path
) -> None:
    answer = _document(
        run, "demo", "--flops", "1e14", "--budget", "6e12", "--to", tmp_path / "next.yaml"
    )
    again = plan(load_spec(str(tmp_path / "next.yaml")), DataRef(digest="x"))
    planned = {(r.n_params, cell.tokens) for r in again.runs for cell in r.cells}
    assert planned == {(r["n_params"], r["tokens"]) for r in answer["runs"]}
    assert again.flops_spent <= answer["runs"][-1]["spent"] <= 6e12
    had = {(r.n_params, cell.tokens) for r in sweep.runs for cell in r.cells}
    assert not planned & had
    assert again.spec.recipe == sweep.spec.recipe


def test_cells_after_a_sweep_lie_about_its_fresh_runs(sweep: Plan, tmp_path: Path) -> None:
    rows = pl.read_parquet(tmp_path / "home" / "sweeps" / "demo" / "observations.parquet")
    fresh = rows.with_columns(unique_tokens=pl.col("tokens"))
    longer = fresh.with_columns(tokens=50 * pl.col("tokens"))
    cells = [
        of_sweep(sweep, own_table(table), None, 6e12)[0]
        for table in (rows, pl.concat([fresh, longer]))
    ]
    assert cells[0] == cells[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--flops", "zero"), "--flops 'zero' should be a positive number"),
        (("--flops", "1e22", "--budget", "-1"), "--budget '-1' should be a positive number"),
        (("--flops", "1e22", "--budget", "1"), "--budget"),
        (("--flops", "1e22", "--runs", "0"), "--runs 0 is less than one"),
        (("--flops", "1e22", "--to", "next.yaml"), "written as a table; name it *.csv"),
        (("--flops", "1e22", "--candidates", "nowhere"), "neither a file nor a grid"),
        (("--flops", "1e22", "--candidates", "1e7@"), "--candidates '1e7@'"),
    ],
)
def test_unusable_input_is_refused_in_a_line_that_names_the_option(
    run: Run, base: Path, options: tuple[str, ...], words: str
) -> None:
    done = run("next", base, *options)
    assert done.status == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_table_that_bars_N_star_gets_runs_that_mend_it(run: Run, tmp_path: Path) -> None:
    rows = [(n, 20 * n, 1.9 + 320 / n**0.33 + 900 / (20 * n) ** 0.29) for n in
            np.geomspace(1e7, 1e9, 12).astype(int).tolist()]  # fmt: skip
    table = write_table(tmp_path / "ray.csv", ("N", "D", "loss"), rows)
    done = run("next", table, "--flops", "1e22", "--runs", 2, "--json", tmp_path / "next.json")
    assert done.status == 0, done.stderr
    assert done.stdout.startswith("NOT IDENTIFIED (N*)")
    ratios = [r["tokens"] / r["n_params"] for r in json.loads(
        (tmp_path / "next.json").read_text())["runs"]]  # fmt: skip
    assert max(abs(np.log(ratio / 20)) for ratio in ratios) > np.log(1.5)
