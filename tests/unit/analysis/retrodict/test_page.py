"""The page of a retrodiction has every section, and its tables the numbers they are named after."""

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from analysis import published
from analysis.frontier.allocation import (
    compute_optimal,
    compute_optimal_counted,
    inference_optimal,
)
from analysis.frontier.figures import DEMANDS
from analysis.frontier.overtraining import tokens_multiple
from analysis.frontier.pairs import equal_loss_pair, observed_pairs
from analysis.law import Support
from analysis.page import Page
from analysis.retrodict.answer import range_over_laws, retrodict
from analysis.retrodict.own_sweep import (
    OwnSweep,
    add_own_sweep,
    add_pairs,
    counted_flops_per_token,
)
from analysis.retrodict.page import LIFE_DAYS, retrodict_page
from analysis.words import between, flops, short


@pytest.fixture(scope="module")
def own():
    """Pairs of equal loss: compute-optimal models, and half their size on more data."""
    box = Support(flops=(1e13, 1e17), tokens_per_param=(1, 1000))
    law = published.law("besiroglu").model_copy(update={"support": box})
    N0, D0 = compute_optimal(law, np.geomspace(1e13, 1e17, 9))
    N = np.concatenate([N0, N0 / 2])
    D = np.concatenate([D0, D0 * tokens_multiple(law, 0.5)])
    loss = law.loss(N, D) * np.tile([1.0, 1.001], 9)
    frame = pl.DataFrame({"n_params": N, "tokens": D, "val_loss": loss, "train_flops": 18 * N * D})
    return OwnSweep("mine", law, frame)


@pytest.fixture
def tables(monkeypatch):
    found = []
    monkeypatch.setattr(Page, "table", lambda page, header, rows: found.append(rows))
    return found


def test_the_page_has_eight_sections_in_order_and_its_three_answers():
    rows = retrodict(published.six_laws())
    html = retrodict_page(rows, level=0.9).html()
    numbers = [int(number) for number in re.findall(r"<h2[^>]*>(\d) ", html)]
    assert numbers == [1, 2, 3, 4, 5, 6, 7, 8]
    names = ("bill", "contour", "serving", "results")
    places = [html.index(f'id="{name}"') for name in names]
    assert places == sorted(places)
    model = rows.filter(pl.col("model") == "LLaMA-7B").row(0, named=True)
    spread = range_over_laws(rows).row(by_predicate=pl.col("model") == "LLaMA-7B", named=True)
    assert f"{model['spend_ratio']:.2f}×" in html
    assert f"(90% interval {model['spend_ratio_low']:.2f} to" in html
    assert between(spread["break_even_tokens_least"], spread["break_even_tokens_most"]) in html
    assert short(model["implied_inference_tokens"]) in html
    assert "A model can be made as good by making it larger" in html
    assert re.findall(r"<h2[^>]*>([A-Z][^<]*)", html) == ["How far to trust this", "Sources"]
    assert all(f"{law.name}: " in html for law in published.six_laws())


def test_break_even_is_told_under_the_first_law_and_over_all_of_them(tables):
    rows = retrodict(published.six_laws())
    html = retrodict_page(rows, level=0.9).html()
    [told] = [table for table in tables if len(table) == published.models().height]
    for row in told:
        own = rows.filter(pl.col("model") == row[0])
        first = own.row(0, named=True)
        pays = own["break_even_tokens"].drop_nulls().sort().to_list()
        over = between(pays[0], pays[-1]) if pays else "never"
        if pays and len(pays) < 6:
            over += f" ({6 - len(pays)} of them never)"
        assert row[1:] == (
            short(first["tokens"] / first["n_params"]),
            short(first["compute_optimal_N"]),
            f"{first['training_overhead']:+.1%}",
            short(first["break_even_tokens"]) if first["break_even_tokens"] else "never",
            over,
            short(pays[-1] / LIFE_DAYS) if pays else "–",
        )
    assert {row[5] for row in told} >= {"never"}
    # The implied bills inside a family, from its smallest model to its largest.
    first = dict(rows.filter(pl.col("law") == "besiroglu").select("model", "spend_ratio").rows())
    family = ("LLaMA-7B", "LLaMA-13B", "LLaMA-33B", "LLaMA-65B")
    assert f"LLaMA: {' → '.join(f'{first[name]:.2f}' for name in family)}" in html


def test_runs_that_repeat_their_tokens_are_in_no_pair(own, tables):
    fresh = own.observations.with_columns(unique_tokens=pl.col("tokens"))
    repeats = fresh.with_columns(unique_tokens=pl.col("tokens") / 4, val_loss=9.0)
    pages = []
    for rows in (fresh, pl.concat([fresh, repeats])):
        pages.append(Page("x"))
        add_pairs(pages[-1], replace(own, observations=rows))
    assert tables[0] == tables[1]
    line = "Pairs are of fresh tokens: 18 rows that repeat theirs are left out."
    assert [line in page.html() for page in pages] == [False, True]


def test_a_sweeps_own_frontier_saves_against_its_compute_optimal_model(own, tables):
    page = Page("x")
    add_own_sweep(page, own)
    N0, D0 = (float(value) for value in compute_optimal(own.law, 1e17))
    [rows] = tables
    for row, ratio in zip(rows, DEMANDS, strict=True):
        loss = float(own.law.loss(N0, D0))
        best = inference_optimal(own.law, loss=loss, inference_tokens=ratio * D0)
        alone = 6 * N0 * D0 + 2 * N0 * ratio * D0
        assert row == (
            f"{ratio:g} × {short(D0)}" if ratio else "none",
            short(float(best.N)),
            short(float(best.D)),
            short(float(best.D / best.N)),
            f"{abs(1 - float(best.total) / alone):.1%}",
        )
    assert rows[0][-1] == "0.0%"
    assert float(rows[-1][-1][:-1]) > 1
    html = page.html()
    assert f"The runs cover {flops(1e13)} to {flops(1e17)} FLOPs and" in html
    per_token, sizes = counted_flops_per_token(own.observations)
    N, D = compute_optimal_counted(own.law, 1e17, per_token, sizes=sizes)
    assert f"{short(float(N))} on {short(float(D))} tokens instead of {short(N0)}." in html


def test_pairs_of_a_sweep_are_listed_with_what_they_miss_by(own, tables):
    page = Page("x")
    add_pairs(page, own)
    observed = observed_pairs(own.law, own.observations)
    [rows] = tables
    assert len(rows) == min(6, observed.height)
    first = observed.row(0, named=True)
    assert rows[0] == (
        short(first["N_large"]), short(first["D_large"]), f"{first['loss_large']:.4f}",
        short(first["N_small"]), short(first["D_small"]), f"{first['loss_small']:.4f}",
        f"{first['miss_loss']:+.4f}", f"{first['miss_tokens']:+.0%}",
    )  # fmt: skip
    html = page.html()
    pair = equal_loss_pair(own.law, 1e17)
    assert f"({pair.D_small / pair.D_large:.2f} times as many)" in html
    assert "Under our own law, " in html
    assert ("miss by more than twice" in html) is bool(observed["surprising"].sum())


def test_without_a_sweep_the_pair_is_of_the_published_law(tables):
    page = Page("x")
    add_pairs(page, None)
    law = published.law("besiroglu")
    pair = equal_loss_pair(law, law.support.flops[1] if law.support else 1e21)
    assert f"Under {law.name}, {short(pair.N_large)} parameters" in page.html()
    assert tables == []
