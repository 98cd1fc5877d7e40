"""Published fits from published points. The files stay outside: ISOFLOP_PUBLISHED names them."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from analysis.fit.answer import fit_table
from analysis.fit.isoflop import fit_isoflop
from analysis.fit.options import FitOptions
from analysis.fit.parametric import fit_parametric
from analysis.fit.records import GroupFit
from analysis.law import LossLaw, Repetition
from analysis.repeated_data import predict
from analysis.solver.objective import Objective
from analysis.table.observations import Table
from analysis.table.read import read_table

WITHOUT_FIVE = "NOT excluded_besiroglu"
UNSURE, SURE = FitOptions(bootstrap=0), FitOptions(bootstrap=200)
_GROUPS = ("marin_comma", "marin_dclm", "marin_nemotron")


def _table(name: str) -> Table:
    folder = os.environ.get("ISOFLOP_PUBLISHED")
    if not folder:
        pytest.skip(f"{name} is read from the folder in ISOFLOP_PUBLISHED, which is not set")
    path = Path(folder) / "published" / name
    return read_table(path if path.is_file() else Path(folder) / name)


@pytest.fixture(scope="module")
def chinchilla() -> Table:
    return _table("chinchilla_epoch.csv")


@pytest.fixture(scope="module")
def all_rows(chinchilla: Table) -> GroupFit:
    return fit_table(chinchilla, SURE)[0]


def test_besiroglus_rows_give_the_optimum_of_hubers_sum(chinchilla: Table) -> None:
    fit = fit_parametric(chinchilla.filter(~pl.col("excluded_besiroglu")), UNSURE)
    assert fit.objective.value == pytest.approx(1.0182740178e-3, rel=1e-6)
    # The digits given.
    assert pytest.approx(1.81722, abs=5e-6) == fit.law.E
    assert pytest.approx(477.826, abs=5e-4) == fit.law.A
    assert pytest.approx(2143.42, abs=5e-3) == fit.law.B
    assert fit.law.alpha == pytest.approx(0.347310, abs=5e-7)
    assert fit.law.beta == pytest.approx(0.367172, abs=5e-7)
    assert (fit.status, len(fit.rows_used)) == ("converged", 240)


def test_the_printed_point_is_the_least_absolute_deviations_optimum(
    chinchilla: Table,
) -> None:
    """Besiroglu et al. print 482.01, 2085.43, 0.3478, 0.3658; their notebook the digits below."""
    options = FitOptions(objective=Objective("lad_log"), bootstrap=0)
    fit = fit_parametric(chinchilla.filter(~pl.col("excluded_besiroglu")), options)
    # A search that stops just short gives 481.999 and 2085.39: 2e-5 away along a flat valley.
    assert pytest.approx(481.999, rel=5e-5) == fit.law.A
    assert pytest.approx(2085.39, rel=5e-5) == fit.law.B
    assert fit.law.alpha == pytest.approx(0.347812, rel=5e-6)
    assert fit.law.beta == pytest.approx(0.365853, rel=5e-6)
    # The linear program's own optimum meets the notebook's logs to their last digits.
    assert np.log(fit.law.A) == pytest.approx(6.17795598, abs=2e-6)
    assert np.log(fit.law.B) == pytest.approx(7.64273236, abs=2e-6)
    assert np.log(fit.law.E) == pytest.approx(0.59711196, abs=2e-7)
    assert fit.law.alpha == pytest.approx(0.34781303, abs=1e-7)
    assert fit.law.beta == pytest.approx(0.36585412, abs=1e-7)
    assert fit.objective.gradient_norm < 1e-9


def test_all_245_rows_and_the_five_that_decide(all_rows: GroupFit) -> None:
    assert all_rows.fit.law.alpha == pytest.approx(0.34931, abs=5e-6)
    assert all_rows.fit.law.beta == pytest.approx(0.45305, abs=5e-6)
    left_out = set(all_rows.used.filter(pl.col("excluded_besiroglu"))["row"])
    assert {influence.row for influence in all_rows.influence[:5]} == left_out


def test_four_thousand_resamples_give_the_published_standard_errors(
    chinchilla: Table,
) -> None:
    options = FitOptions(bootstrap=4000, level=0.95)
    fit = fit_parametric(chinchilla.filter(~pl.col("excluded_besiroglu")), options)
    published = {"A": 124.5, "B": 1293.0, "E": 0.02566, "alpha": 0.01540, "beta": 0.02059}
    for name, value in published.items():
        # The issue asks for 5 %; 4000 draws of the long-tailed B place its own within 4 %.
        assert fit.intervals.standard_errors[name] == pytest.approx(value, rel=0.05), name
    low, high = fit.intervals.values["exponent_N"]
    assert low == pytest.approx(0.4805, abs=0.01)
    assert high == pytest.approx(0.5561, abs=0.01)


def test_llama3s_token_law_comes_from_plain_parabolas() -> None:
    fit = fit_isoflop(_table("llama3_isoflop.csv").used)
    assert [valley.status for valley in fit.valleys] == ["ok"] * 10
    assert fit.D is not None
    assert fit.D.exponent == pytest.approx(0.537, abs=5e-4)
    assert fit.D.coef == pytest.approx(0.299, abs=5e-4)


def test_the_convention_table_shows_three_exponents_for_one_set_of_runs() -> None:
    runs = _table("marin_isoflop.csv")
    [group] = fit_table(runs, UNSURE, where="experiment = 'marin_dclm'", pool=True)
    assert group.fit.law.n_counts == "n_params_total"
    shown = {c.n_counts: c.exponent_N for c in group.conventions if c.c_counts == "flops_6nd"}
    assert shown["n_params_total"] == pytest.approx(0.371, abs=5e-4)
    assert shown["n_params"] == pytest.approx(0.42, abs=5e-3)
    assert shown["n_params_non_embedding"] == pytest.approx(0.57, abs=5e-3)
    assert any("6·N·D" in doubt for doubt in group.doubts)


def test_the_five_good_tables_are_identified(chinchilla: Table) -> None:
    groups = fit_table(chinchilla, SURE, where=WITHOUT_FIVE)
    groups += fit_table(_table("llama3_isoflop.csv"), SURE)
    groups += fit_table(_table("marin_isoflop.csv"), SURE, by="experiment")
    assert [group.group for group in groups[2:]] == list(_GROUPS)
    for group in groups:
        for quantity, judgement in group.verdicts.items():
            assert judgement.verdict == "identified", (group.group, quantity, judgement)


def test_the_smallest_nemotron_budget_has_its_minimum_at_the_edge() -> None:
    used = _table("marin_isoflop.csv").used
    fit = fit_isoflop(used.filter(pl.col("experiment") == "marin_nemotron"))
    assert fit.valleys[0].status == "edge"
    assert "add a size above" in fit.valleys[0].advice
    assert [valley.status for valley in fit.valleys[1:]] == ["ok"] * 7


def test_sardanas_runs_give_sardanas_constants() -> None:
    """Sardana et al. 2024, table 1, row of at most 500 tokens per parameter."""
    folder = os.environ.get("ISOFLOP_PUBLISHED")
    path = Path(folder or "") / "facts" / "sardana2024_runs.csv"
    if not folder or not path.is_file():
        pytest.skip("sardana2024_runs.csv is read from ISOFLOP_PUBLISHED/facts")
    runs = read_table(path, mapping={"val_loss": "Smoothed Loss"})
    fit = fit_parametric(runs.filter(pl.col("Tokens/Params") <= 500), UNSURE)
    # To the digits printed.
    assert pytest.approx(17.07, abs=5e-3) == fit.law.A
    assert pytest.approx(35.81, abs=1.5e-2) == fit.law.B
    assert pytest.approx(0.946, abs=5e-4) == fit.law.E


def test_the_law_of_repeated_data_has_the_published_losses() -> None:
    """Muennighoff et al. 2023 with the constants of their repository, at two of its points."""
    law = LossLaw(
        name="muennighoff",
        form="data_constrained",
        E=1.8691436784054858,
        A=520.8249516599187,
        B=1487.716093782861,
        alpha=0.3526596,
        beta=0.3526596,
        repetition=Repetition(R_D=15.387756, R_N=5.309743),
        n_counts="unknown",
        c_counts="flops_6nd",
        loss_unit="nats_per_token",
        source="huggingface/datablations",
    )
    N, D, U = np.array([6.34e9, 8.67e9]), np.array([242e9, 178e9]), np.array([25e9, 25e9])
    expected = [2.2256440889984477, 2.2269634075087867]
    # R_D and R_N are known to seven digits.
    assert predict(law, N, D, U) == pytest.approx(expected, rel=1e-7)
