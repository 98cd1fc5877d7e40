"""What a sweep of mixtures says: the best shares for its target, or that it cannot tell."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

import flows.results.mixtures as module
from flows.results.mixtures import asked, mixed, repetition_sentences
from flows.runs.table import observations_frame
from flows.settings import Home
from sweeps.plan import Plan, plan
from sweeps.spec import DataRef, SweepSpec
from tests.unit.analysis.mixtures.simulated import SOURCES, true_best, true_losses

TOKENS = dict.fromkeys(SOURCES, 3_000_000)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Home:
    monkeypatch.setattr(module, "find_corpus", lambda *_: SimpleNamespace(source_tokens=TOKENS))
    return Home(tmp_path)


def planned(shares=None, **mixtures) -> Plan:
    spec = SweepSpec(
        name="mine",
        corpus={"sources": [{"kind": "files", "path": "x", "name": name} for name in SOURCES]},
        ladder={"widths": [24]},
        grid={"kind": "tokens", "tokens": [500_000]},
        mixtures={"shares": shares or {"kind": "dirichlet", "count": 30}, **mixtures},
    )
    return plan(spec, DataRef(digest="x"), source_tokens=TOKENS)


def trained(whole: Plan, home: Home, form="exponential") -> pl.DataFrame:
    """The observations, as if every run had ended with the losses of a known law."""
    frame = observations_frame(whole.runs, home)
    shares = frame.select([f"share_{name}" for name in SOURCES]).to_numpy()
    losses = true_losses(shares, form) * np.exp(
        0.003 * np.random.default_rng(0).normal(size=(len(shares), 3))
    )
    ended = pl.lit("finished").alias("status"), pl.lit(None, pl.String).alias("excluded_reason")
    columns = {f"loss_{name}": pl.Series(c) for name, c in zip(SOURCES, losses.T, strict=True)}
    return frame.with_columns(*ended, **columns)


def test_observations_name_the_mixture_of_each_run_and_its_shares(home):
    whole = planned()
    frame = observations_frame(whole.runs, home)
    assert frame["mixture"].to_list() == [run.mixture for run in whole.runs]
    [run, *_] = whole.runs
    row = frame.row(0, named=True)
    assert {name: row[f"share_{name}"] for name in SOURCES} == run.run.data.mixture.shares


def test_the_best_shares_are_those_of_the_law_behind_the_losses(home):
    found = mixed(whole := planned(), trained(whole, home), home)
    best = np.array([found.numbers[f"best_share_{name}"] for name in SOURCES])
    # The valley is flat: shares 0.06 from the best lose a thousandth of the loss.
    assert np.abs(best - true_best()).max() < 0.06
    assert found.document["best"]["shares"]["prose"] == best[0]
    assert found.sentences[-2].startswith("Best shares: prose 0.")
    assert "How it was made" in found.page("mine", ["a fact"]).html()


def test_target_stock_and_epochs_of_the_spec_are_asked(home):
    shares = {"kind": "dirichlet", "count": 30, "at_most": dict.fromkeys(SOURCES, 0.5)}
    target = {"code": 2, "prose": 1}
    whole = planned(shares=shares, target=target, target_tokens=12e6, max_epochs=2)
    assert len(whole.runs) == 30
    question = asked(whole, home)
    assert (question.target, question.epochs) == (target, 2)
    assert (question.stock, question.tokens) == (TOKENS, 12e6)
    assert "12,000,000 tokens reads the whole" in repetition_sentences(whole)[0]
    assert repetition_sentences(planned()) == []
    found = mixed(whole, trained(whole, home), home)
    # The runs have 500k tokens, and are for a training of 12M.
    assert "Losses in nats per token at N 27.8k, D 500k." in found.page("mine", []).html()
    # Two epochs of 3M tokens are half of 12M.
    assert found.document["best"]["limits"] == dict.fromkeys(SOURCES, 0.5)
    assert max(found.document["best"]["shares"].values()) <= 0.5 + 1e-6
    assert found.document["target"] == pytest.approx({"prose": 1 / 3, "code": 2 / 3, "wiki": 0})


def test_a_sweep_that_cannot_tell_says_so_first(home):
    whole = planned()
    nothing = mixed(whole, observations_frame(whole.runs, home), home)
    assert nothing.answer is None
    assert nothing.warnings[0].startswith("There is no law of the shares. ")
    assert nothing.numbers == nothing.document == {}
    assert "There is no law of the shares." in nothing.page("mine", []).html()
    noise = trained(whole, home).with_columns(
        pl.Series(f"loss_{name}", np.random.default_rng(k).uniform(2, 3, len(whole.runs)))
        for k, name in enumerate(SOURCES)
    )
    assert mixed(whole, noise, home).sentences[0].startswith("NOT RELIABLE: the law foretells")
