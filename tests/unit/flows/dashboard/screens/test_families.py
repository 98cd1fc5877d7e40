"""The views of variants and of mixtures."""

from io import StringIO
from types import SimpleNamespace

import polars as pl

from flows.dashboard.address import Address
from flows.dashboard.app import shown
from flows.dashboard.screens.at import screen_at
from flows.plans.stored import write_plan
from flows.settings import Home
from tests.dashboards import Never, desk_of, text_of, words
from tests.simulated_home import simulated_sweep
from tests.unit.flows.results import test_mixtures as mixture_sweeps


def test_variants_of_a_sweep_have_laws_of_their_own(tmp_path):
    change = 'variants={"gelu": {"block": {"ffn": "gelu"}}}'
    write_plan(simulated_sweep(tmp_path, "arch", change, rows=10), Home(tmp_path))
    desk = desk_of(tmp_path, Never)
    text = text_of(desk, Address(("sweep", "arch")))
    assert " base finished no law yet" in text
    assert " gelu finished no law yet" in text
    assert "Choose which of them are compared" in text
    assert "Frontier" not in text
    assert words(shown(desk, Address(("sweep", "arch")))[1])[0] == "Variants"
    assert "/sweep/arch.base/frontier" in text_of(desk, Address(("sweep", "arch", "frontier")))
    one = text_of(desk, Address(("sweep", "arch.gelu")))
    assert "8 of 8" not in one
    assert "IsoFLOP valleys" in one
    assert "All variants of arch" in one


def test_a_sweep_of_mixtures_shows_its_best_shares(tmp_path, monkeypatch):
    home, whole = Home(tmp_path), mixture_sweeps.planned()
    write_plan(whole, home)
    losses = mixture_sweeps.trained(whole, home)
    corpus = SimpleNamespace(source_tokens=mixture_sweeps.TOKENS)
    monkeypatch.setattr("flows.results.mixtures.find_corpus", lambda *_: corpus)
    monkeypatch.setattr("flows.dashboard.answers.observations_frame", lambda *_: losses)
    desk = desk_of(tmp_path)
    assert "mine planned a law of shares, on its page" in text_of(desk, Address())
    screen = screen_at(desk, Address(("sweep", "mine")))
    text = " ".join(words(screen.body()))
    assert text.index("with the shares below") < text.index("The best shares")
    assert "Frontier" not in text_of(desk, Address(("sweep", "mine")))
    assert screen.csv("effects").startswith("source,loss,factor")
    runs = Address(("sweep", "mine", "runs"), {"sort": "-share_code"})
    assert words(shown(desk, runs)[1])[0] == "Best shares"
    assert "+ mine" not in text_of(desk, Address(("compare",)))
    assert "share of code ▼" in text_of(desk, runs)
    rows = pl.read_csv(StringIO(screen_at(desk, runs).csv("runs")))
    assert rows["share_code"].is_sorted(descending=True)
