"""`isoflop frontier` and `isoflop retrodict` as a person runs them."""

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from analysis import published
from analysis.frontier.decision import AtBudget, frontier
from analysis.law import LossLaw, Support

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(in_process: Run, tmp_path: Path) -> Run:
    """The command in this process, in the test's own folder."""
    return partial(in_process, home=tmp_path / ".isoflop", folder=tmp_path)


def answer(result: subprocess.CompletedProcess[str]) -> Any:
    """Standard output holds exactly one JSON document."""
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def toy_law() -> LossLaw:
    rng = np.random.default_rng(0)
    return LossLaw(
        name="toy",
        form="chinchilla",
        E=1.1,
        A=30,
        B=80,
        alpha=0.33,
        beta=0.34,
        n_counts="n_params",
        c_counts="train_flops",
        loss_unit="nats_per_token",
        source="a test",
        support=Support(flops=(1e11, 1e13), tokens_per_param=(2, 300)),
        draws={"E": tuple(rng.normal(1.1, 0.02, 50)), "A": tuple(rng.normal(30, 0.5, 50))},
    )


def test_the_answer_holds_what_it_promises(isoflop: Run) -> None:
    told = answer(
        isoflop(
            "frontier",
            "--law",
            "besiroglu",
            "--like",
            "7e9,1.4e11",
            "--inference-tokens",
            "1e12",
            "--json",
            "-",
        )
    )
    assert set(told["compute_optimal"]) >= {"N", "D", "train_flops", "loss"}
    optimum = told["optimum"]
    assert optimum["total"] == pytest.approx(optimum["train_flops"] + optimum["inference_flops"])
    assert optimum["train_flops"] == pytest.approx(6 * optimum["N"] * optimum["D"])
    assert optimum["inference_flops"] == pytest.approx(2 * optimum["N"] * 1e12)
    assert optimum["tokens_per_param"] == pytest.approx(optimum["D"] / optimum["N"])
    assert optimum["saving"] == pytest.approx(
        1 - optimum["total"] / told["compute_optimal"]["total"]
    )
    low, high = told["intervals"]["N"]
    assert low < optimum["N"] < high
    assert [row["law"] for row in told["spread_over_laws"]] == list(published.SIX_LAWS)
    assert told["support"]["extrapolation"] is False
    assert told["regret"]["extra"][3][3] == 0


def test_the_readme_example_of_sardana_from_the_command_line(run: Run) -> None:
    told = answer(
        run(
            "frontier",
            "--law",
            "sardana",
            "--loss",
            "1.947",
            "--inference-tokens",
            "2e12",
            "--json",
            "-",
        )
    )
    assert told["optimum"]["N"] == pytest.approx(2.418e10, rel=5e-4)
    assert told["optimum"]["D"] == pytest.approx(2.657e12, rel=5e-4)
    assert told["intervals"] is None


def test_no_demand_answers_with_the_training_optimum(run: Run) -> None:
    told = answer(run("frontier", "--law", "besiroglu", "--flops", "1e21", "--json", "-"))
    assert told["optimum"]["N"] == pytest.approx(told["compute_optimal"]["N"], rel=1e-9)
    assert told["compute_optimal"]["train_flops"] == pytest.approx(1e21, rel=1e-9)
    assert told["optimum"]["saving"] == pytest.approx(0, abs=1e-12)


def test_hardware_and_stock_are_answered_beside(run: Run) -> None:
    told = answer(
        run(
            "frontier",
            "--like",
            "7e9,1e12",
            "--prompt-tokens",
            "1e12",
            "--generated-tokens",
            "1e11:1e12",
            "--gpu",
            "h100",
            "--price",
            "2.5",
            "--batch",
            "32",
            "--bits",
            "8",
            "--unique-tokens",
            "5e11",
            "--json",
            "-",
        )
    )
    serving = told["serving"]
    assert 0 < serving["eta"] < 1
    assert abs(serving["condition_residual"]) < 2e-3
    assert serving["usd_per_gb"] == 0
    assert 0 < serving["decode_mfu"] < 1
    assert serving["menu"][0]["total_usd"] <= serving["menu"][1]["total_usd"]
    low, high = serving["intervals"]["N"]
    assert low < serving["N"] < high
    assert told["stock"]["half_lives_borrowed"] is True
    assert told["stock"]["over_fresh"] >= 0
    assert told["demand"]["low"] == 1.1e12
    assert told["demand"]["low"] < told["demand"]["planned"] < told["demand"]["high"]


def test_a_law_of_our_own_comes_from_a_file(run: Run, tmp_path: Path) -> None:
    toy_law().save(tmp_path / "law.json")
    told = answer(
        run(
            "frontier",
            "--law",
            "law.json",
            "--flops",
            "1e12",
            "--inference-tokens",
            "1e7",
            "--json",
            "-",
        )
    )
    assert told["law"]["name"] == "toy"
    assert told["intervals"]["draws"] == 50
    assert told["support"]["compute_optimal_inside"] is True


def test_what_fit_writes_is_read_by_frontier(run: Run, tmp_path: Path) -> None:
    law = toy_law()
    C = np.repeat(np.geomspace(1e11, 1e13, 4), 7)
    N = np.round((C / 120) ** 0.5 * np.tile(np.geomspace(0.3, 3, 7), 4))
    D = np.round(C / 6 / N)
    noisy = law.loss(N, D) * np.exp(np.random.default_rng(0).normal(0, 1e-3, N.size))
    runs = {"n_params": N.astype(int), "tokens": D.astype(int), "val_loss": noisy}
    pl.DataFrame(runs).write_csv(tmp_path / "runs.csv")
    fitted = run("fit", "runs.csv", "--bootstrap", "100", "--json", "fit.json")
    assert fitted.returncode == 0, fitted.stderr
    ask = ("--flops", "1e12", "--inference-tokens", "1e7", "--json", "-")
    told = answer(run("frontier", "--law", "fit.json", *ask))
    assert told["intervals"]["draws"] == 100
    truth = frontier(law, AtBudget(1e12), 1e7).optimum
    assert told["optimum"]["N"] == pytest.approx(float(truth.N[0]), rel=0.1)
    constants = json.loads((tmp_path / "fit.json").read_text())["groups"][0]["law"]
    (tmp_path / "bare.json").write_text(json.dumps({"groups": [{"law": constants}]}))
    bare = answer(run("frontier", "--law", "bare.json", *ask))
    assert bare["optimum"]["N"] == pytest.approx(told["optimum"]["N"], rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--loss", "1.5"], "Ask for a loss above 1.81686"),
        (["--loss", "2.1", "--inference-tokens=-5"], "below zero"),
        (["--law", "besirogl", "--loss", "2.1"], "Did you mean besiroglu"),
        (["--law", "none.json", "--loss", "2.1"], "no file none.json"),
        ([], "one of --loss L, --flops C or --like N,D"),
        (["--loss", "2.1", "--flops", "1e22"], "got --loss and --flops"),
        (["--like", "7e9"], "give parameters and tokens"),
        (["--like", "7e9,many"], "is not a number"),
        (["--loss", "2.1", "--inference-tokens", "1e13:1e12"], "low is above high"),
        (["--loss", "2.1", "--inference-tokens", "1", "--prompt-tokens", "1"], "not both"),
        (["--loss", "2.1", "--price", "2"], "need --gpu"),
        (["--loss", "2.1", "--gpu", "h100"], "--gpu prices serving"),
        (["--loss", "2.1", "--gpu", "tpu", "--inference-tokens", "1e12"], "no GPU is called"),
        (
            ["--loss", "1.9", "--gpu", "a100", "--gpus", "1", "--inference-tokens", "1e12"],
            "Use more GPUs",
        ),
        (["--loss", "2.1", "--inference-tokens", "1e12", "--unique-tokens", "1e9"], "Add data"),
        (["--loss", "2.1", "--batch", "4"], "need --gpu"),
        (["--flops", "0"], "not above zero"),
        (["--loss", "inf"], "finite"),
        (["--like", "1e9,nan"], "not finite"),
        (["--loss", "2.1", "--gpu", "a100", "--days", "0", "--inference-tokens", "1"], "--days 0"),
        (["--loss", "2.1", "--level", "1.5"], "--level 1.5 must lie between 0 and 1"),
    ],
)
def test_unusable_input_is_refused_in_one_line(run: Run, arguments: list[str], said: str) -> None:
    result = run("frontier", *arguments, "--json", "-")
    assert result.returncode == 2
    assert result.stdout == ""
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "is not JSON"), ("[]", "holds no law"), ('{"name": 1}', "not a law")],
)
def test_a_file_that_is_no_law_is_refused(
    run: Run, tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "law.json").write_text(content)
    result = run("frontier", "--law", "law.json", "--loss", "2.1")
    assert result.returncode == 2
    assert said in result.stderr


def test_a_page_that_cannot_be_written_is_refused_in_one_line(run: Run) -> None:
    result = run("frontier", "--flops", "1e21", "--report", "no/such/folder/page.html")
    assert result.returncode == 2
    assert "--report no/such/folder/page.html: there is no folder" in result.stderr


def test_one_answer_becomes_one_page(run: Run, tmp_path: Path) -> None:
    result = run(
        "frontier",
        "--like",
        "7e9,1.4e11",
        "--inference-tokens",
        "1e12",
        "--gpu",
        "a100",
        "--unique-tokens",
        "1e11",
        "--report",
        "page.html",
    )
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "page.html").read_text()
    for words in (
        "Where the bill is least",
        "What a wrong guess of demand costs",
        "In dollars",
        "With the data there is",
        "Not modelled",
    ):
        assert words in page


def test_the_text_has_the_choice_and_its_interval(run: Run) -> None:
    result = run("frontier", "--like", "7e9,1.4e11", "--inference-tokens", "1e11:1e13")
    assert result.returncode == 0
    printed = " ".join(result.stdout.split())
    for words in (
        "inference-optimal",
        "90% interval",
        "fewer FLOPs than the compute-optimal",
        "worst regret is least",
        "gadre_rpj",
    ):
        assert words in printed


def test_retrodiction_is_a_list_with_intervals(run: Run) -> None:
    rows = answer(run("retrodict", "--json", "-"))
    assert len(rows) == 6 * 16
    first = rows[0]
    assert first["model"] == "LLaMA-7B"
    assert first["law"] == "besiroglu"
    assert first["spend_ratio"] == pytest.approx(1.06, abs=0.01)
    low, high = first["intervals"]["spend_ratio"]
    assert (low, high) == (pytest.approx(0.745, abs=0.02), pytest.approx(1.57, abs=0.03))
    assert set(first) >= {"implied_inference_tokens", "break_even_tokens", "training_overhead"}
    gpt3 = next(row for row in rows if row["model"] == "GPT-3")
    assert gpt3["implied_inference_tokens"] is None
    beat = next(row for row in rows if row["model"] == "LLaMA-13B")["beat"]
    assert (beat["rival"], beat["worth"]["value"]) == ("GPT-3", pytest.approx(2.90, abs=0.01))
    assert gpt3["beat"] is None


def test_a_sweep_of_ours_appears_beside_the_published(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / ".isoflop" / "sweeps" / "mine"
    folder.mkdir(parents=True)
    law = toy_law()
    law.save(folder / "law.json")
    N, D = np.array([2e5, 1e5, 4e5]), np.array([5e6, 2e7, 2e6])
    frame = pl.DataFrame({"n_params": N, "tokens": D, "val_loss": law.loss(N, D)})
    frame.write_parquet(folder / "observations.parquet")
    result = run("retrodict", "--experiment", "mine", "--report", "page.html")
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "page.html").read_text()
    assert "Sweep mine: 3 observations" in page
    missing = run("retrodict", "--experiment", "other", "--report", "page.html")
    assert missing.returncode == 2
    assert "Sweeps with one: mine." in missing.stderr
