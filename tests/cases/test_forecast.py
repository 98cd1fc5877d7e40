"""A forecast answers in numbers as people write them, and refuses what it cannot answer."""

import json
from pathlib import Path

import polars as pl
import pytest

from tests.cases.conftest import Run
from tests.others_tables import BASE, TRUE_N_AT_1E20, loss, write_table
from tests.simulated import repeated_law, repeated_table

HEADER = ("N", "D", "loss")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "runs.csv", HEADER, BASE)


def test_points_and_budgets_are_foretold_with_their_record(run: Run, table: Path) -> None:
    done = run("forecast", table, "--at", "1B,1T", "2e9,20B", "--flops", "3e21", "--json", "-")
    assert done.status == 0, done.stderr
    document = json.loads(done.stdout)
    for point, (N, D) in zip(document["points"], ((1e9, 1e12), (2e9, 2e10)), strict=True):
        assert (point["n_params"], point["tokens"]) == (N, D)
        assert point["lower"] < loss(N, D) < point["upper"]
        assert point["calibrated"]
    [best] = document["optimum"]
    assert best["n_lower"] < TRUE_N_AT_1E20 * 30**0.4677 < best["n_upper"]
    assert document["status"] == "calibrated"
    assert document["record"]["cuts"]
    text = run("forecast", table, "--at", "1B,1T")
    assert "Cmax/2" in text.stdout
    assert f"{document['points'][0]['loss']:.4f}" in text.stdout


def test_points_come_from_a_file(run: Run, table: Path, tmp_path: Path) -> None:
    points = write_table(tmp_path / "next.csv", ("params", "tokens"), [("1B", "1T")])
    document = json.loads(run("forecast", table, "--points", points, "--json", "-").stdout)
    assert [(p["n_params"], p["tokens"]) for p in document["points"]] == [(1e9, 1e12)]


def test_a_page_and_a_file_are_written(run: Run, table: Path, tmp_path: Path) -> None:
    page, law = tmp_path / "page.html", tmp_path / "answer.json"
    done = run("forecast", table, "--report", page, "--json", law)
    assert done.status == 0
    assert 'id="forecast0-path"' in page.read_text()
    assert json.loads(law.read_text())["optimum"]


def test_several_groups_are_foretold_apart(run: Run, tmp_path: Path) -> None:
    rows = [(*row, name) for name in ("a", "b") for row in BASE]
    both = write_table(tmp_path / "both.csv", (*HEADER, "dataset"), rows)
    refused = run("forecast", both)
    assert refused.status == 2
    assert "--by dataset" in refused.stderr
    document = json.loads(run("forecast", both, "--by", "dataset", "--json", "-").stdout)
    assert [group["group"] for group in document["groups"]] == ["a", "b"]
    first, second = (group["optimum"][0]["n_opt"] for group in document["groups"])
    assert first == pytest.approx(second, rel=1e-12)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--at", "7B"), "--at '7B' should read N,D, for example --at 7B,2T."),
        (("--flops", "much"), "--flops 'much' should be a positive number"),
        (("--flops", "0"), "--flops '0' should be a positive number"),
        (("--points", "no.csv"), "--points no.csv: there is no such file"),
        (
            ("--where", "N > 5e7"),
            "a forecast needs losses at 10 pairs of N and D and 3 sizes or more",
        ),
        (("--where", "N > 1e12"), "no row is left to fit"),
        (("--level", "2"), "--level 2.0 must lie between 0 and 1"),
    ],
)
def test_what_cannot_be_answered_is_refused(run: Run, table: Path, options, says: str) -> None:
    refused = run("forecast", table, *options)
    assert refused.status == 2
    assert says in refused.stderr
    assert refused.stdout == ""
    assert refused.stderr.count("\n") == 1


def test_a_target_too_far_is_marked_in_the_first_line(run: Run, table: Path) -> None:
    done = run("forecast", table, "--flops", "1e24")
    assert done.status == 0
    assert done.stdout.startswith("NOT CALIBRATED: N* at 1.00e+24 FLOPs: its compute is 10k times")
    document = json.loads(run("forecast", table, "--flops", "1e24", "--json", "-").stdout)
    assert document["status"] == "not_calibrated"
    assert not document["optimum"][0]["calibrated"]


def test_one_ratio_gives_losses_and_withholds_n_star(run: Run, tmp_path: Path) -> None:
    rows = [(N, 20 * N, loss(N, 20 * N)) for N in (1e7 * 1.8**k for k in range(12))]
    table = write_table(tmp_path / "runs.csv", HEADER, rows)
    done = run("forecast", table, "--at", "20B,400B", "--flops", "1e23")
    assert done.stdout.startswith("NOT IDENTIFIED (N*): D/N is constant at 20")
    assert "--anyway" in done.stdout
    assert "The best N and D" not in done.stdout
    assert "Loss with its 90% interval" in done.stdout
    assert "The best N and D" in run("forecast", table, "--flops", "1e23", "--anyway").stdout


def test_a_sweep_is_foretold_by_its_name(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "sweeps" / "mine"
    folder.mkdir(parents=True)
    names = ["n_params", "tokens", "val_loss"]
    pl.DataFrame(BASE, schema=names, orient="row").write_parquet(folder / "observations.parquet")
    assert run("forecast", "mine", "--at", "1B,1T").status == 0


def test_fit_leads_with_the_forecast_and_keeps_its_keys(run: Run, table: Path) -> None:
    done = run("fit", table, "--bootstrap", 0, "--target-flops", 1e20)
    assert done.stdout.startswith("Forecast at 1.00e+20 FLOPs (6ND): N* = 2")
    [group] = json.loads(
        run("fit", table, "--bootstrap", 0, "--target-flops", 1e20, "--json", "-").stdout
    )["groups"]
    assert {"law", "optimal", "isoflop", "loss_law", "doubts", "warnings"} <= set(group)
    best = group["forecast"]["optimum"]
    assert best["n_lower"] < TRUE_N_AT_1E20 < best["n_upper"]
    few = run("fit", table, "--bootstrap", 0, "--where", "N > 5e7")
    assert "No forecast: a forecast needs losses at 10" in few.stdout or "--anyway" in few.stdout


def test_rows_that_repeat_their_tokens_change_no_number_and_are_counted(
    run: Run, tmp_path: Path
) -> None:
    rows = repeated_table(repeated_law("half_lives"), (1, 4), noise=0.003)
    once = pl.col("tokens") == pl.col("unique_tokens")
    tables = {
        "fresh": rows.filter(once).drop("unique_tokens"),
        "named": rows,
        "spelt": rows.rename({"unique_tokens": "U"}),
    }
    for name, table in tables.items():
        (tmp_path / name).mkdir()
        table.write_csv(tmp_path / name / "runs.csv")
    line = (
        "12 of 24 rows are left out: tokens repeat. To count every token as fresh: "
        "--map unique_tokens=tokens."
    )

    def numbers(name: str, *command: object) -> dict:
        done = run(*command, tmp_path / name / "runs.csv", "--flops", 1e22, "--json", "-")
        assert done.status == 0, done.stderr
        document = json.loads(done.stdout)
        assert (line in document["warnings"]) == (name != "fresh")
        for words in ("warnings", "doubts"):
            document.pop(words, None)
        return document

    assert numbers("named", "forecast") == numbers("spelt", "forecast")
    for command in (("forecast",), ("next", "--runs", 1)):
        assert numbers("spelt", *command) == numbers("fresh", *command)


def test_rows_left_out_and_rows_off_the_law_are_in_the_first_lines_of_every_answer_from_them(
    run: Run, tmp_path: Path
) -> None:
    rows = [
        (N, D, 7.9 if line == 14 else loss, "crashed" if line == 5 else "finished")
        for line, (N, D, loss) in enumerate(BASE, 2)
    ]
    path = write_table(tmp_path / "runs.csv", (*HEADER, "state"), rows)
    left_out = "1 of 15 rows is left out: status is crashed. Line 14 lies 155 % off the law"
    filtered = "--where 'source_line <> 14'."
    for command in (
        ("forecast", path, "--flops", 1e21),
        ("next", path, "--flops", 1e21),
        ("frontier", "--law", path, "--flops", 1e21),
    ):
        words = " ".join(run(*command).stdout.split())
        assert words.startswith(left_out)
        assert filtered in words
        options_of_fit = "These are options of isoflop fit: --law takes what its --json wrote."
        assert (options_of_fit in words) == (command[0] == "frontier")
    done = run("forecast", path, "--flops", 1e21, "--where", "source_line <> 14")
    assert "1 of 15 rows is left out: not where source_line <> 14." in done.stdout
    assert "off the law" not in done.stdout
    # An offered filter can follow one that is there already.
    both = ("--where", "source_line <> 14 OR N > 1e12", "--where", "N > 1e7")
    fewer = json.loads(run("forecast", path, "--flops", 1e21, *both, "--json", "-").stdout)
    whole = json.loads(run("forecast", path, "--flops", 1e21, "--json", "-").stdout)
    small = sum(N <= 1e7 for N, _, _ in BASE)
    assert small > 0
    assert fewer["data"]["rows"] == whole["data"]["rows"] - small - 1


def test_too_few_fresh_rows_are_the_first_line_of_a_forecast(run: Run, tmp_path: Path) -> None:
    rows = repeated_table(repeated_law("half_lives"), (2, 4), noise=0.003)
    path = tmp_path / "runs.csv"
    rows.rename({"unique_tokens": "U"}).write_csv(path)
    words = " ".join(run("forecast", path, "--flops", 1e21).stdout.split())
    assert words.startswith("24 of 24 rows repeat their tokens, and the law counts all as fresh")
    assert words.count("24 of 24 rows") == 1
