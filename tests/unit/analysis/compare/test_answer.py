"""Two tables of known laws: what is found to differ differs, and what is the same does not."""

import numpy as np
import polars as pl
import pytest

from analysis.compare.answer import common_budgets, compare, match
from analysis.compare.figures import best_size_data
from analysis.compare.page import compare_page
from analysis.compare.text import comparison_json, law_rows, pair_rows, verdict
from analysis.law import LossLaw
from analysis.observations import own_table

LAW = LossLaw(
    name="true",
    form="chinchilla",
    E=1.8,
    A=300.0,
    B=2000.0,
    alpha=0.45,
    beta=0.45,
    n_counts="n_params",
    c_counts="flops_6nd",
    loss_unit="nats_per_token",
    source="made up",
)
SIZES = (1e6, 2e6, 4e6, 8e6, 16e6, 32e6)
RATIOS = (5.0, 10.0, 20.0, 40.0, 80.0)


def observed(law, *, name, seed=0, noise=1e-3, sizes=SIZES, shift=0.0):
    rng = np.random.default_rng(seed)
    rows = []
    for N in sizes:
        for ratio in RATIOS:
            D = ratio * N
            loss = float(law.loss(N, D)) * np.exp(noise * rng.standard_normal()) + shift
            rows.append(
                {
                    "run_id": f"{name}-{N:g}@{D:g}",
                    "parent_run_id": f"{name}-{N:g}",
                    "n_params": int(N),
                    "tokens": int(D),
                    "train_flops": 6 * N * D,
                    "flops_6nd": 6 * N * D,
                    "val_loss": loss,
                    "loss_unit": "nats_per_token",
                    "status": "finished",
                }
            )
    return own_table(pl.DataFrame(rows))


@pytest.fixture(scope="module")
def same():
    tables = observed(LAW, name="a"), observed(LAW, name="b", seed=1)
    return compare(*tables, ("a", "b"), bootstrap=300)


@pytest.fixture(scope="module")
def better():
    other = LAW.model_copy(update={"beta": 0.52, "B": 5200.0})
    tables = observed(LAW, name="a"), observed(other, name="b", seed=1)
    return compare(*tables, ("a", "b"), bootstrap=300)


def contrast(found, name):
    return next(c for c in found.contrasts if c.name == name)


def test_two_draws_of_one_law_do_not_differ(same):
    assert same.paired
    for name in ("exponent_N", "E", "n_opt", "loss"):
        assert contrast(same, name).shown is False, name
    assert "may be no change" in verdict(same)[0]


def test_another_exponent_is_found_with_the_truth_in_its_interval(better):
    change = contrast(better, "exponent_N")
    true = 0.52 / (0.45 + 0.52) - 0.5
    assert change.shown
    assert change.interval[0] <= true <= change.interval[1]
    assert "a real change" in verdict(better)[0]


def test_a_constant_shift_moves_every_matched_loss_and_the_predicted_one():
    tables = observed(LAW, name="a"), observed(LAW, name="b", shift=0.05)
    found = compare(*tables, ("a", "b"), bootstrap=300)
    assert found.matched.pairs["difference"].to_list() == pytest.approx([0.05] * 30, abs=1e-12)
    assert found.matched.mean == pytest.approx(0.05)
    low, high = contrast(found, "loss").interval
    assert low <= 0.05 <= high
    assert contrast(found, "loss").change == pytest.approx(0.05, abs=0.005)


def test_tables_of_other_sizes_are_resampled_each_by_itself():
    tables = observed(LAW, name="a"), observed(LAW, name="b", sizes=SIZES[1:])
    found = compare(*tables, ("a", "b"), bootstrap=100)
    assert not found.paired
    assert found.matched.pairs.height == 25


def test_runs_of_both_are_matched_but_say_nothing():
    table = observed(LAW, name="a").used
    found = match(table, table, draws=100, level=0.9)
    assert found.pairs["same_run"].all()
    assert found.mean is None


def test_a_repeated_size_is_matched_once_each():
    table = observed(LAW, name="a").used
    seeds = pl.concat([observed(LAW, name=name).used for name in ("b", "c")])
    assert match(table, seeds, draws=0, level=0.9).pairs.height == 30
    assert match(seeds, seeds, draws=0, level=0.9).pairs.height == 60


def test_a_table_too_small_for_a_law_still_has_its_losses_compared():
    small = observed(LAW, name="b", shift=-0.01).filter(pl.col("row") < 3)
    found = compare(observed(LAW, name="a"), small, ("a", "b"), bootstrap=50)
    assert found.contrasts == ()
    assert found.refusals[0].startswith("no law of b")
    assert found.matched.mean == pytest.approx(-0.01)
    page = compare_page(found, differences={"spec": []}, facts=[["runs", "6", "1"]], doubts=[])
    assert "no law of b" in page.html()


def test_a_table_that_does_not_identify_the_growth_of_N_gives_no_N_to_compare():
    # One ratio only: along it N and D cannot be told apart.
    thin = observed(LAW, name="b", noise=0.02, sizes=SIZES[:3]).filter(pl.col("tokens") < 3e7)
    found = compare(observed(LAW, name="a"), thin, ("a", "b"), bootstrap=100)
    assert "does not identify how N* grows" in found.refusals[0]
    assert not [c for c in found.contrasts if c.name == "n_opt"]
    losses = [c for c in found.contrasts if c.name == "loss"]
    assert all(1.0 < c.first < 10.0 and 1.0 < c.second < 10.0 for c in losses)


def test_budgets_are_those_both_tables_cover(same):
    low, middle, high = common_budgets(same.laws[0].fit, same.laws[1].fit)
    assert low == pytest.approx(6 * 1e6 * 5e6)
    assert high == pytest.approx(6 * 32e6 * 80 * 32e6)
    assert middle == pytest.approx(np.sqrt(low * high))
    assert best_size_data(same)["common"].all()


def test_what_is_printed_is_what_is_in_the_json(better):
    document = comparison_json(better)
    assert len(document["contrasts"]) == len(law_rows(better))
    assert len(document["matched"]["pairs"]) == len(pair_rows(better)) == 30
    change = document["contrasts"][5]
    assert change["name"] == "exponent_N"
    assert change["change"] == change["second"] - change["first"]


def test_text_from_a_spec_is_escaped_on_the_page(better):
    rows = {"spec": [["corpus.name", "<script>alert(1)</script>", "b"]]}
    page = compare_page(better, differences=rows, facts=[["runs", "6", "6"]], doubts=["a doubt"])
    html = page.html()
    assert "<script>alert(1)" not in html
    assert "a doubt" in html
