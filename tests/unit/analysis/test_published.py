# ruff: noqa: SIM300 - N and D are symbols here, not constants
import numpy as np
import polars as pl
import pytest

from analysis import published
from analysis.frontier.allocation import compute_optimal


def test_every_law_says_where_it_comes_from() -> None:
    for name in published.law_names():
        law = published.law(name)
        assert law.name == name
        assert "20" in law.source
        assert law.loss_unit == "nats_per_token"


@pytest.mark.parametrize(
    "name",
    ["besiroglu", "hoffmann_tex", "sardana", "sardana_fit_all", "muennighoff_c4", "gadre_rpj"],
)
def test_the_names_of_the_command_line_exist(name: str) -> None:
    assert name in published.law_names()


def test_an_unknown_law_names_the_nearest_and_all() -> None:
    with pytest.raises(published.UnknownName, match="Did you mean besiroglu") as refused:
        published.law("besirogl")
    assert "kaplan" in str(refused.value)


def test_the_bootstrap_has_the_published_standard_errors() -> None:
    # Besiroglu et al. 2024, table 1, from 4000 resamples: alpha 0.0154, beta 0.0206, E 0.0257.
    draws = published.law("besiroglu").draws
    assert {len(column) for column in draws.values()} == {2000}
    spread = {name: float(np.std(column)) for name, column in draws.items()}
    assert spread["alpha"] == pytest.approx(0.0154, rel=0.05)
    assert spread["beta"] == pytest.approx(0.0206, rel=0.05)
    assert spread["E"] == pytest.approx(0.0257, rel=0.05)


def test_gadres_laws_keep_their_papers_own_parameters() -> None:
    # Gadre et al. 2024 write E + (a·M^eta + b·M^-eta)·C^-eta; M* = (b/a)^(1/(2·eta)).
    for name, best in (
        ("gadre_c4", 3.358401),
        ("gadre_rpj", 7.419131),
        ("gadre_refinedweb", 5.845671),
    ):
        N, D = compute_optimal(published.law(name), 1e21)
        assert D / N == pytest.approx(best, rel=1e-5)


def test_printed_hoffmann_constants_move_the_choice_by_a_fifth() -> None:
    exact, printed = (
        float(compute_optimal(published.law(name), 5.76e23)[0])
        for name in ("hoffmann_tex", "hoffmann_printed")
    )
    assert 1 - printed / exact == pytest.approx(0.2, abs=0.01)


def test_llama_scores_are_complete() -> None:
    llama = published.results().filter(pl.col("model") == "LLaMA-7B")
    assert set(llama["family"]) == {
        "common_sense",
        "closed_book_qa",
        "reading",
        "mathematics",
        "code",
        "mmlu",
    }
    assert llama.filter(pl.col("family") == "common_sense").height == 8
    assert published.results()["value"].is_between(0, 100).all()


def test_every_model_and_device_names_its_source() -> None:
    for table in (published.models(), published.devices(), published.training_speeds()):
        assert table["source"].null_count() == 0
        assert (table["source"].str.len_chars() > 20).all()


def test_llama_took_its_published_time() -> None:
    # Touvron et al. 2023, table 15; the share of the A100's peak follows from 6·N·D.
    row = published.models().row(by_predicate=pl.col("model") == "LLaMA-65B", named=True)
    peak = row["gpu_hours"] * 3600 * 312e12
    assert 6 * row["n_params"] * row["tokens"] / peak == pytest.approx(0.478, abs=0.001)


def test_rules_without_a_law_give_back_their_tables() -> None:
    rules = {row["rule"]: row for row in published.training_rules(5.76e23).to_dicts()}
    # Hoffmann et al. 2022, table 3: 67B at Gopher's budget.
    assert rules["hoffmann_approach1"]["N"] == pytest.approx(67e9, rel=1e-9)
    assert 55e9 < rules["hoffmann_approach2"]["N"] < 67e9
    # Llama 3 (arXiv:2407.21783): at 3.8e25 FLOPs the text extrapolates to 402B on 16.55T.
    llama = published.training_rules(3.8e25).filter(pl.col("rule") == "llama3")
    assert llama["D"][0] == pytest.approx(16.55e12, rel=0.02)
    assert llama["N"][0] == pytest.approx(402e9, rel=0.05)


def test_rules_are_asked_nothing_outside_their_tables() -> None:
    assert published.training_rules(1e15).is_empty()
    assert published.training_rules(1e30)["rule"].to_list() == ["llama3"]
