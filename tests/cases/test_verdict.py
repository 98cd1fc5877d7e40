"""An answer that cannot be trusted says so in its first line, wherever it is shown."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from analysis.fit.answer import fit_table
from analysis.fit.options import FitOptions
from analysis.fit.page import fit_page
from analysis.fit.records import GroupFit
from analysis.fit.text import group_lines
from analysis.table.observations import Doubt
from analysis.table.read import read_table
from tests.cases.conftest import Run
from tests.others_tables import BASE, loss, write_table

HEADER = ("N", "D", "loss")
BUDGETS, SIZES = (1e19, 1e20, 1e21), (1 / 6, 0.4, 1.0, 2.5, 6.0)
UNSURE = FitOptions(bootstrap=0)
Loss = Callable[[float, float], float]


def _grid(loss_of: Loss = loss, budgets=BUDGETS, sizes=SIZES) -> list[tuple[float, float, float]]:
    """Five sizes at each budget around the middle of each valley; luck of 0.2 % by turns."""
    rows = []
    for C in budgets:
        for size in sizes:
            N = size * 0.0788 * C**0.4677
            luck = 1.002 if len(rows) % 2 else 0.998
            rows.append((N, C / 6 / N, loss_of(N, C / 6 / N) * luck))
    return rows


def _ratio() -> list[tuple[float, float, float]]:
    """Every model on twenty tokens a parameter: the shares of N and D cannot be told apart."""
    sizes = (8e7, 1.6e8, 3e8, 6e8, 1.2e9, 2.4e9, 4.8e9)
    return [(N, 20 * N, loss(N, 20 * N) * (1.002 if k % 2 else 0.998)) for k, N in enumerate(sizes)]


# No law of these tables gives an N*: the rows, and how the answer begins.
BARRED = {
    "one ratio": (_ratio(), "NOT IDENTIFIED (exponent of N*): D/N is constant at 20"),
    "one budget": (
        _grid(budgets=(1e20,), sizes=(0.1, 0.2, 0.4, 0.7, 1, 2, 4, 8)),
        "NOT IDENTIFIED (exponent of N*): all rows lie on one budget",
    ),
    "two sizes": (
        [(N, D, loss(N, D)) for N in (1e8, 2e8) for D in (1e9, 3e9, 1e10, 3e10, 1e11)],
        "NOT IDENTIFIED (exponent of N*): only 2 model sizes",
    ),
    "no floor": (_grid(lambda N, D: 320 / N**0.33 + 900 / D**0.29), "AT A BOUND (E): E is driven"),
    "no effect of D": (
        [(N, D, 1.9 + 320 / N**0.33) for N in (1e7, 4e7, 1.6e8, 6e8) for D in (1e9, 1e10, 1e11)],
        "NOT IDENTIFIED (exponent of N*): the fit drives",
    ),
}


@pytest.fixture(params=BARRED)
def barred(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    rows, begins = BARRED[request.param]
    return write_table(tmp_path / "runs.csv", HEADER, rows), begins


def test_fit_begins_with_the_verdict_and_gives_no_optimum(
    run: Run, barred: tuple[Path, str], tmp_path: Path
) -> None:
    table, begins = barred
    law, page = tmp_path / "law.json", tmp_path / "fit.html"
    done = run("fit", table, "--bootstrap", 0, "--json", law, "--report", page)
    # The law is an answer all the same.
    assert done.status == 0
    head = done.stdout.partition("L = ")[0]
    assert head.startswith(begins[:70])
    assert "isoflop fit --anyway" in head
    assert "isoflop forecast may answer" in head
    assert max(map(len, head.splitlines())) <= 80
    assert "D*/N*" not in done.stdout
    [group] = json.loads(law.read_text())["groups"]
    assert group["warnings"][0].startswith(begins)
    assert group["optimal"] == []
    assert {c["n_opt"] for c in group["conventions"]} == {None}
    html = page.read_text()
    assert 0 < html.index("--anyway") < html.index("N* grows as C^")
    assert "D*/N*" not in html


def test_frontier_refuses_such_a_law_unless_asked_for_it_anyway(
    run: Run, barred: tuple[Path, str], tmp_path: Path
) -> None:
    table, begins = barred
    law, page = tmp_path / "law.json", tmp_path / "front.html"
    run("fit", table, "--bootstrap", 0, "--json", law)
    question = ("frontier", "--law", law, "--flops", 1e20, "--inference-tokens", 1e11)
    refused = run(*question, "--json", "-")
    assert refused.status == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith(f"isoflop: {law}: {begins}")
    assert "--anyway" in refused.stderr
    assert refused.stderr.count("\n") == 1
    done = run(*question, "--anyway", "--report", page)
    assert done.status == 0
    assert done.stdout.startswith(begins[:70])
    html = page.read_text()
    assert html.index(begins.partition(":")[0]) < html.index("Train ")


def test_anyway_gives_the_optima_under_the_same_first_line(run: Run, tmp_path: Path) -> None:
    table = write_table(tmp_path / "runs.csv", HEADER, _ratio())
    done = run("fit", table, "--bootstrap", 0, "--anyway")
    assert done.stdout.startswith("NOT IDENTIFIED (exponent of N*): D/N is constant")
    assert "D*/N*" in done.stdout
    assert "--anyway" not in done.stdout
    [group] = json.loads(run("fit", table, "--bootstrap", 0, "--anyway", "--json", "-").stdout)[
        "groups"
    ]
    assert len(group["optimal"]) == 3
    assert group["warnings"][0].startswith("NOT IDENTIFIED")


@pytest.mark.parametrize(
    "rows",
    [
        BASE,
        _grid(),
        # A few thousand parameters.
        _grid(
            lambda N, D: 2 + 500 / N**0.6 + 3000 / D**0.6,
            (1e10, 1e11, 1e12),
            [2.4 * size for size in SIZES],
        ),
    ],
    ids=["base", "grid", "small models"],
)
def test_a_law_that_its_table_identifies_has_no_warning(run: Run, tmp_path: Path, rows) -> None:
    table, law = write_table(tmp_path / "runs.csv", HEADER, rows), tmp_path / "law.json"
    done = run("fit", table, "--bootstrap", 20, "--json", law)
    assert done.stdout.startswith("Forecast at ")
    assert "D*/N*" in done.stdout
    [group] = json.loads(law.read_text())["groups"]
    assert group["warnings"] == []
    assert group["loss_law"]["trust"] == {"bars": [], "warnings": []}
    (_, _, _), (N, D, _), *_ = rows
    answer = run("frontier", "--law", law, "--like", f"{N},{D}")
    assert answer.status == 0
    assert "NOT IDENTIFIED" not in answer.stdout


def test_a_weak_law_warns_first_and_still_answers(run: Run, tmp_path: Path) -> None:
    rows = _grid(budgets=(1e19, 1e21), sizes=(0.2, 0.5, 1, 2, 5))
    table, law = write_table(tmp_path / "runs.csv", HEADER, rows), tmp_path / "law.json"
    done = run("fit", table, "--bootstrap", 0, "--json", law)
    assert done.stdout.startswith("WEAK (exponent of N*): two budgets")
    assert "D*/N*" in done.stdout
    answer = run("frontier", "--law", law, "--flops", 1e20, "--inference-tokens", 0)
    assert answer.status == 0
    assert answer.stdout.startswith("WEAK (exponent of N*): two budgets")


def test_an_assumed_exponent_is_said_first(run: Run, tmp_path: Path) -> None:
    table = write_table(tmp_path / "runs.csv", HEADER, BASE)
    done = run("fit", table, "--form", "tied", "--bootstrap", 0)
    assert done.stdout.startswith("WEAK (exponent of N*): form tied sets it to 0.5")
    assert "D*/N*" in done.stdout


@pytest.fixture
def doubtful(tmp_path: Path) -> GroupFit:
    """The base table, with a doubt about its units as a reader of tables would make it."""
    table = read_table(write_table(tmp_path / "runs.csv", HEADER, BASE))
    doubt = Doubt("C is a million times 6·N·D: N seems to be in millions.", bars_optimum=True)
    [group] = fit_table(replace(table, doubts=(doubt, Doubt("The day was hot."))), UNSURE)
    return group


def test_a_doubt_that_bars_the_optimum_comes_first_and_once(doubtful: GroupFit) -> None:
    assert "identified" not in {each.verdict for each in doubtful.verdicts.values()}
    first, *others = group_lines(doubtful)
    assert first == "DOUBTFUL: C is a million times 6·N·D: N seems to be in millions."
    text = "\n".join(others)
    assert "in millions" not in text
    assert "D*/N*" not in text
    assert "N* = " not in text
    assert "The day was hot." in text
    assert "isoflop forecast may answer" not in text
    html = fit_page([doubtful], title="A table").html()
    assert html.index("in millions") < html.index("N* grows as C^")
    assert html.count("in millions") == 1


def test_the_doubt_travels_with_the_law(run: Run, doubtful: GroupFit, tmp_path: Path) -> None:
    path = tmp_path / "law.json"
    doubtful.fit.law.save(path)
    refused = run("frontier", "--law", path, "--flops", 1e20)
    assert refused.status == 2
    assert "DOUBTFUL: C is a million times" in refused.stderr
    assert run("frontier", "--law", path, "--flops", 1e20, "--anyway").status == 0


def test_a_law_file_of_an_earlier_version_is_read(run: Run, tmp_path: Path) -> None:
    [group] = fit_table(read_table(write_table(tmp_path / "runs.csv", HEADER, BASE)), UNSURE)
    path = tmp_path / "law.json"
    path.write_text(json.dumps(group.fit.law.model_dump(exclude={"trust"})))
    assert run("frontier", "--law", path, "--flops", 1e20).status == 0


def test_an_extrapolation_is_said_first(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    far = run("frontier", "--flops", 1e26, "--report", page)
    assert far.stdout.startswith("EXTRAPOLATION: the optimum lies outside")
    assert far.stdout.count("outside the FLOPs") == 1
    html = page.read_text()
    assert html.index("EXTRAPOLATION") < html.index("Train ")
    document = json.loads(run("frontier", "--flops", 1e26, "--json", "-").stdout)
    assert document["warnings"][0].startswith("EXTRAPOLATION")
    near = run("frontier", "--flops", 1e21)
    assert "EXTRAPOLATION" not in near.stdout
    table = write_table(tmp_path / "runs.csv", HEADER, BASE)
    fit = run("fit", table, "--bootstrap", 0, "--target-flops", 1e24)
    assert fit.stdout.startswith("EXTRAPOLATION: the target of 1.00e+24 FLOPs is 10k times")
    assert not re.search(r"at the target +identified", fit.stdout)


def test_the_optimum_of_approach_2_stands_below_that_of_approach_3(
    run: Run, tmp_path: Path
) -> None:
    table, law = write_table(tmp_path / "runs.csv", HEADER, BASE), tmp_path / "law.json"
    done = run("fit", table, "--bootstrap", 0, "--target-flops", 1e20, "--json", law)
    [line] = [line for line in done.stdout.splitlines() if line.endswith("by approach 2")]
    assert line.split()[:2] == ["1.00e+20", "232M"]
    [group] = json.loads(law.read_text())["groups"]
    isoflop = group["isoflop"]
    expected = isoflop["coef_N"] * 1e20 ** isoflop["exponent_N"]
    assert group["optimal"][-1]["n_opt_isoflop"] == pytest.approx(expected)


def test_a_sweep_of_ours_on_the_page_of_a_retrodiction_gives_no_size(
    run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "home" / "sweeps" / "mine"
    folder.mkdir(parents=True)
    table = read_table(write_table(tmp_path / "runs.csv", HEADER, _ratio()))
    [group] = fit_table(table, UNSURE)
    group.fit.law.save(folder / "law.json")
    table.frame.select("n_params", "tokens", pl.col("val_loss")).write_parquet(
        folder / "observations.parquet"
    )
    page = tmp_path / "page.html"
    assert run("retrodict", "--experiment", "mine", "--report", page).status == 0
    section = page.read_text().partition("The same analysis on our own sweep")[2]
    assert 0 < section.index("NOT IDENTIFIED") < section.index("Sweep mine:")
    assert "--law mine --anyway" in section
    assert 'id="own"' not in page.read_text()
    assert "Under besiroglu" in section
    refused = run("frontier", "--law", "mine", "--flops", 1e20)
    assert refused.status == 2
    assert refused.stderr.startswith("isoflop: mine: NOT IDENTIFIED")
