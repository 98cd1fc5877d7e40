"""`isoflop fit`: the JSON contract, exit statuses, and one clear line for unusable input."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from analysis.law import LossLaw
from flows.cli import app
from tests.simulated import CHINCHILLA, grid, isoflops, law_of, table

KEYS = {
    "group", "form", "law", "objective", "status", "rows", "exponents", "intervals", "verdicts",
    "isoflop", "influence",
}  # fmt: skip


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Isoflop = Callable[..., Done]


def _in_its_own_process(*arguments: str | Path) -> Done:
    """As a user runs it; any warning is an error."""
    code = "import warnings; warnings.simplefilter('error'); from flows.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "fit", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def isoflop(capsys: pytest.CaptureFixture[str]) -> Isoflop:
    """The same in this process, which has the imports behind it."""

    def run(*arguments: str | Path) -> Done:
        code: object = 0
        try:
            app(["fit", *map(str, arguments)], result_action="return_value")
        except SystemExit as ended:
            code = ended.code
        out, err = capsys.readouterr()
        return Done(int(code) if isinstance(code, int) else 1, out, err)

    return run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    path = tmp_path / "runs.csv"
    table(*isoflops(), noise=0.002).rename(
        {"n_params": "params", "tokens": "D", "val_loss": "loss"}
    ).write_csv(path)
    return path


def test_json_on_standard_output_is_one_document_of_the_contract(runs: Path) -> None:
    done = _in_its_own_process(runs, "--json", "-", "--bootstrap", "100")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert list(document) == ["groups"]
    (group,) = document["groups"]
    assert set(group) >= KEYS
    assert group["form"] == "chinchilla"
    assert set(group["law"]) == {"E", "A", "B", "alpha", "beta"}
    assert group["law"]["alpha"] == pytest.approx(CHINCHILLA.alpha, abs=0.03)
    objective = group["objective"]
    assert (objective["name"], objective["delta"]) == ("huber_log", 0.001)
    assert objective["reduction"] == "sum"
    assert objective["gradient_norm"] < 1e-9
    assert group["rows"]["used"] == 35
    assert group["exponents"]["N"] + group["exponents"]["D"] == pytest.approx(1)
    assert (group["intervals"]["level"], group["intervals"]["method"]) == (0.9, "bootstrap_rows")
    low, high = group["intervals"]["exponent_N"]
    assert low < group["exponents"]["N"] < high
    assert group["verdicts"]["exponent_N"]["verdict"] == "identified"
    assert len(group["isoflop"]["budgets"]) == 5
    assert {"flops", "n_opt", "d_opt", "loss", "status"} <= set(group["isoflop"]["budgets"][0])
    assert group["isoflop"]["exponent_N"] == pytest.approx(CHINCHILLA.exponent_N, abs=0.03)
    assert {"row", "effect_on_exponent_N"} <= set(group["influence"][0])
    # Every digit is there: the law comes back and predicts the same.
    law = LossLaw.model_validate(group["loss_law"])
    assert law.alpha == group["law"]["alpha"]
    assert len(law.draws["alpha"]) == 100


def test_the_terminal_shows_law_optimum_and_verdicts(isoflop: Isoflop, runs: Path) -> None:
    done = isoflop(runs, "--bootstrap", "50")
    assert done.returncode == 0, done.stderr
    for words in ("L = 1.", "N* grows as C^0.5", "D*/N*", "identified", "approach 2"):
        assert words in done.stdout


def test_groups_are_fitted_apart_and_pooling_is_refused(isoflop: Isoflop, tmp_path: Path) -> None:
    both = pl.concat(
        [
            table(*grid(), law, noise=0.001).with_columns(experiment=pl.lit(name))
            for name, law in (("a", CHINCHILLA), ("b", law_of("chinchilla", alpha=0.4, A=1400.0)))
        ]
    )
    path = tmp_path / "both.parquet"
    both.write_parquet(path)
    refused = isoflop(path)
    assert refused.returncode == 2
    assert "--by experiment" in refused.stderr
    done = isoflop(path, "--by", "experiment", "--json", "-", "--bootstrap", "0")
    groups = json.loads(done.stdout)["groups"]
    assert [group["group"] for group in groups] == ["a", "b"]
    assert [group["law"]["alpha"] for group in groups] == pytest.approx([0.35, 0.4], abs=0.02)
    assert groups[0]["intervals"]["method"] == "none"
    where = isoflop(path, "--where", "experiment = 'b'", "--pool", "--json", "-")
    rows = json.loads(where.stdout)["groups"][0]["rows"]
    assert rows["used"] == 36
    assert rows["excluded"][0] == {
        "row": 0,
        "reason": "not where experiment = 'b'",
        "line": None,
    }


@pytest.mark.parametrize("form", ["chinchilla", "gamma", "tied", "kaplan", "data_constrained"])
def test_every_form_answers(isoflop: Isoflop, tmp_path: Path, form: str) -> None:
    path = tmp_path / "runs.csv"
    table(*grid(6, 8), law_of(form), noise=0.002).write_csv(path)  # type: ignore[arg-type]
    page = tmp_path / "fit.html"
    arguments = (path, "--form", form, "--json", "-", "--bootstrap", "20", "--report", page)
    done = isoflop(*arguments)
    assert done.returncode == 0, done.stderr
    group = json.loads(done.stdout)["groups"][0]
    assert group["form"] == form
    assert group["status"] == "converged"
    assert "Plotly.newPlot" in page.read_text()


def test_a_table_that_identifies_nothing_is_an_answer(isoflop: Isoflop, tmp_path: Path) -> None:
    N, _ = grid(16, 1)
    path = tmp_path / "line.csv"
    table(N, 20 * N, noise=0.001).write_csv(path)
    done = isoflop(path, "--json", "-", "--bootstrap", "50")
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)["groups"][0]["verdicts"]["exponent_N"]
    assert verdict["verdict"] == "not_identified"
    assert "D/N is constant" in verdict["reason"]


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("N,D,loss\n", (), "no rows"),
        ("N,D,los\n1e8,1e9,3\n", (), "Did you mean 'los'"),
        ("N,D,loss\n1e8,1e9,nan\n", (), "Line 2."),
        ("N,D,loss\n1e8,1e9,3\n2e8,-1,3\n", (), "Line 3."),
        ("N,D,loss\n1e8,1e9,3\n2e8,1e9,3\n", (), "5 free constants"),
        ("N,D,loss\n1e8,1e9,3\n", ("--by", "family"), "'family'"),
        ("N,D,loss\n1e8,1e9,3\n", ("--where", "nope > 1"), "--where"),
        ("N,D,loss\n1e8,1e9,3\n", ("--where", "N"), "true or false"),
        ("N,D,loss\n1e8,1e9,3\n", ("--map", "val_loss"), "NAME=COLUMN"),
        ("N,D,loss\n1e8,1e9,3\n", ("--map", "val_loss=nope"), "no column 'nope'"),
        ("N,D,loss\n1e8,1e9,3\n", ("--delta", "0"), "--delta"),
        ("N,D,loss\n1e8,1e9,3\n", ("--level", "90"), "--level"),
        ("N,D,loss\n1e8,1e9,3\n", ("--bootstrap", "-1"), "--bootstrap"),
    ],
)
def test_unusable_input_is_one_line_and_status_two(
    isoflop: Isoflop, tmp_path: Path, text: str, arguments: tuple[str, ...], words: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    done = isoflop(path, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_file_is_one_line_and_status_two(isoflop: Isoflop, tmp_path: Path) -> None:
    done = isoflop(tmp_path / "none.csv")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "none.csv" in done.stderr


def test_names_from_the_table_are_escaped_in_the_page(isoflop: Isoflop, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    path, page = tmp_path / "runs.parquet", tmp_path / "fit.html"
    table(*isoflops(), noise=0.002).with_columns(
        name=pl.lit(evil), experiment=pl.lit(evil)
    ).write_parquet(path)
    done = isoflop(path, "--by", "experiment", "--report", page, "--bootstrap", "20")
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text
    assert 'src="http' not in text


def test_unknown_forms_and_objectives_are_refused(isoflop: Isoflop, runs: Path) -> None:
    for option, value in (("--form", "linear"), ("--objective", "hubert")):
        done = isoflop(runs, option, value)
        assert done.returncode != 0
        assert value in done.stderr + done.stdout


def test_a_sweep_is_fitted_by_its_name_with_its_curves(
    isoflop: Isoflop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sweeps" / "mine"
    folder.mkdir(parents=True)
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path))
    missing = isoflop("mine")
    assert missing.returncode == 2
    assert "mine is neither a file nor a sweep with observations" in missing.stderr
    table(*isoflops(), noise=0.002).write_parquet(folder / "observations.parquet")
    curves = [
        table(np.full(80, N), np.geomspace(1, 300, 80) * N).with_columns(run_id=pl.lit(f"{N:.2e}"))
        for N in np.geomspace(3e7, 3e9, 7)
    ]
    pl.concat(curves).select(
        "run_id",
        "n_params",
        "tokens",
        train_flops=6 * pl.col("n_params") * pl.col("tokens"),
        train_loss="val_loss",
    ).write_parquet(folder / "curves.parquet")
    page = tmp_path / "fit.html"
    done = isoflop("mine", "--json", "-", "--bootstrap", "20", "--report", page)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["groups"][0]["rows"]["used"] == 35
    assert document["envelope"]["exponent_N"] == pytest.approx(CHINCHILLA.exponent_N, abs=0.05)
    assert 'id="envelope"' in page.read_text()
