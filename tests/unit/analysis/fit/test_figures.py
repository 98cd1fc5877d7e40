"""Figures of fits and runs hold the rows, lines and numbers that their titles tell."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from analysis.fit.answer import fit_table
from analysis.fit.envelope import fit_envelope
from analysis.fit.figures import (
    contour_data,
    draw_cloud,
    draw_contours,
    draw_fit,
    draw_profiles,
    fit_data,
)
from analysis.fit.isoflop import fit_isoflop
from analysis.fit.options import FitOptions
from analysis.fit.run_figures import (
    draw_isoflop,
    draw_loss_curves,
    envelope_data,
    isoflop_data,
    loss_curves_data,
    power,
    thinned_curves,
)
from analysis.law import Constants
from analysis.table.columns import normalise
from tests.simulated import isoflops, table


@pytest.fixture(scope="module")
def runs():
    """IsoFLOP runs with their budgets, without noise."""
    N, D = isoflops()
    frame = table(N, D).with_columns(flops_budget=np.repeat(np.geomspace(1e18, 1e21, 5), 7))
    return normalise(frame).frame


@pytest.fixture(scope="module")
def group():
    [group] = fit_table(normalise(table(*isoflops(), noise=0.005)), FitOptions(bootstrap=0))
    return group


def test_a_valley_has_its_runs_its_parabola_and_its_minimum(runs):
    fit = fit_isoflop(runs)
    data = isoflop_data(runs, fit)
    kinds = data.group_by("kind").len().sort("kind").rows()
    assert dict(kinds)["run"] == runs.height
    minima = data.filter(pl.col("kind") == "minimum")
    assert minima["n_params"].to_list() == [valley.n_opt for valley in fit.valleys]
    for valley, row in zip(fit.valleys, minima.iter_rows(named=True), strict=True):
        assert (row["low"], row["high"]) == valley.n_interval
        line = data.filter(
            pl.col("kind") == "parabola", pl.col("flops_budget") == valley.flops
        )  # fmt: skip
        assert line["loss"].min() == pytest.approx(valley.loss, rel=1e-3)
    figure = draw_isoflop(data, fit)
    assert figure.layout.title.text.startswith(f"N* grows as C^{fit.N.exponent:.2f} [")
    inside, beside = (trace for trace in figure.data if trace.name == "minimum")
    first = fit.valleys[0]
    assert inside.error_x.array[0] == pytest.approx(first.n_interval[1] - first.n_opt)
    assert inside.error_x.arrayminus[0] == pytest.approx(first.n_opt - first.n_interval[0])
    assert (inside.showlegend, beside.showlegend) == (True, False)
    law = figure.data[-1]
    assert law.y == pytest.approx(fit.N.coef * np.array(law.x) ** fit.N.exponent)
    assert law.x[0] == pytest.approx(first.flops)
    axes = figure.layout
    assert [axes.xaxis.type, axes.xaxis2.type, axes.yaxis2.type] == ["log"] * 3
    assert axes.yaxis2.title.text == "N*, parameters"
    # Within a decade Plotly writes 0.5×10¹⁹ aslant.
    near = runs.filter(pl.col("flops_budget") < 1e19)
    few = fit_isoflop(near)
    ticks = draw_isoflop(isoflop_data(near, few), few).layout.xaxis2.ticktext
    assert axes.xaxis2.ticktext is None
    assert len(ticks) == 3
    assert all(tick.endswith("e+18") for tick in ticks)
    flat = replace(fit.N, exponent_interval=(-0.1, 0.9))
    title = draw_isoflop(data, replace(fit, N=flat)).layout.title.text
    assert title.startswith("N* is not shown to grow with C: C^")
    told = draw_isoflop(data, replace(fit, N=None)).layout.title.text
    assert told == f"A minimum at {len(fit.valleys)} of {len(fit.valleys)} budgets"


def test_a_budget_without_a_minimum_is_counted_and_none_hides_the_axes(runs):
    falling = runs.with_columns(val_loss=10.0 - pl.col("n_params").log() / 10)
    fit = fit_isoflop(falling)
    data = isoflop_data(falling, fit)
    assert data.filter(pl.col("kind") == "minimum").is_empty()
    figure = draw_isoflop(data, fit)
    assert figure.layout.title.text == "No budget shows a minimum inside its grid"
    assert (figure.layout.xaxis2.visible, figure.layout.yaxis2.visible) == (False, False)
    budgets = runs["flops_budget"].unique().sort()
    some = runs.with_columns(
        val_loss=pl.when(pl.col("flops_budget") > budgets[1] * 1.01)
        .then("val_loss")
        .otherwise(10.0 - pl.col("n_params").log() / 10)
    )
    fit = fit_isoflop(some)
    figure = draw_isoflop(isoflop_data(some, fit), replace(fit, N=None))
    assert figure.layout.title.text == "A minimum at 3 of 5 budgets"
    assert figure.layout.xaxis2.visible is None


def test_an_exponent_is_written_with_its_interval():
    law = SimpleNamespace(exponent=0.4567, exponent_interval=(0.41, 0.519))
    assert power(law) == "0.46 [0.41, 0.52]"
    assert power(SimpleNamespace(exponent=0.4567, exponent_interval=None)) == "0.46"
    assert power(None) == "?"


def curves(count=3, steps=200, loss="train_loss"):
    rows = []
    for run in range(count):
        N = 1e5 * 4**run
        for step in range(1, steps + 1):
            D = 1e4 * step
            rows.append(
                {"run_id": f"r{run}", "name": f"n{run}", "n_params": N, "tokens": D,
                 "train_flops": 6 * N * D, loss: 2 + 400 / N**0.4 + 300 / D**0.4}
            )  # fmt: skip
    return pl.DataFrame(rows)


def test_of_many_curves_the_extremes_of_each_size_the_first_and_the_last_are_drawn():
    rows = [
        {"run_id": f"r{run}", "n_params": 1e5 * (1 + run % 4), "tokens": D,
         "train_flops": D, "name": f"n{run}", "loss": 9 / D + run * 37 % 101}
        for run in range(100) for D in (1.0, 2.0, 3.0)
    ]  # fmt: skip
    data = pl.DataFrame(rows)
    thin = thinned_curves(data, 20)
    ends = data.filter(pl.col("tokens") == 3)
    extremes = ends.filter(
        (pl.col("loss") == pl.col("loss").min().over("n_params"))
        | (pl.col("loss") == pl.col("loss").max().over("n_params"))
    )
    assert {*extremes["run_id"], "r0", "r99"} <= set(thin["run_id"])
    assert 15 <= thin["run_id"].n_unique() <= 20
    assert (thin.group_by("run_id").len()["len"] == 3).all()
    assert thinned_curves(data, 100).equals(data)


def test_of_many_curves_those_of_diverged_runs_are_drawn():
    """One ends high and four rise; each size has others that end higher, as short runs do."""
    losses = {7: (4.0, 3.0, 3.5), 23: (4.0, 3.0, float("nan")), 41: (float("nan"),) * 3}
    rows = [
        {"run_id": f"r{run:02d}", "n_params": 1e5 * (1 + run % 2), "tokens": D, "train_flops": D,
         "name": f"n{run}", "loss": losses.get(run, (5.0, 4.0, 3.0 + run / 100))[D - 1]}
        for run in range(100) for D in (1, 2, 3)
    ]  # fmt: skip
    data = pl.DataFrame(rows)
    thin = thinned_curves(data, 20)
    assert {"r07", "r23", "r41", "r99", "r98", "r00"} <= set(thin["run_id"])
    assert thin["run_id"].n_unique() <= 20


def test_a_curve_is_averaged_over_three_per_cent_of_tokens():
    frame = curves(count=2)
    data = loss_curves_data(frame.sample(fraction=1.0, shuffle=True, seed=0))
    for (run_id,), rows in frame.group_by("run_id", maintain_order=True):
        bins = {}
        for row in rows.iter_rows(named=True):
            at = int(np.floor(np.log(row["tokens"]) / np.log(1.03)))
            bins.setdefault(at, []).append(row)
        thin = data.filter(pl.col("run_id") == run_id)
        assert thin["tokens"].to_list() == [part[-1]["tokens"] for part in bins.values()]
        assert thin["train_flops"].to_list() == [part[-1]["train_flops"] for part in bins.values()]
        assert thin["loss"].to_list() == pytest.approx(
            [np.mean([row["train_loss"] for row in part]) for part in bins.values()]
        )
    other = loss_curves_data(curves(count=1, loss="val_loss").drop("name"))
    assert other["name"].unique().to_list() == ["r0"]
    figure = draw_loss_curves(data)
    assert figure.layout.title.text == (
        "2 curves of 2 sizes: 100k is lowest at 3.00e+10 FLOPs, 400k at 2.16e+12"
    )
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "log")
    lower = pl.when(pl.col("n_params") == pl.col("n_params").min()).then(0.1).otherwise(1.0)
    small = draw_loss_curves(data.with_columns(loss=pl.col("loss") * lower)).layout.title.text
    assert re.fullmatch(r"2 curves of 2 sizes: 100k is lowest at \S+ FLOPs and at \S+", small)


def test_curves_that_diverge_leave_the_figure_and_are_counted():
    tame = loss_curves_data(curves())
    figure = draw_loss_curves(tame)
    assert figure.layout.yaxis.range is None
    assert "beyond" not in figure.layout.title.text
    name = tame["run_id"][0]
    last = (pl.col("run_id") == name) & (pl.col("tokens") == pl.col("tokens").max().over("run_id"))
    for loss in (1e4, float("inf"), float("nan")):
        wild = tame.with_columns(loss=pl.when(last).then(loss).otherwise("loss"))
        figure = draw_loss_curves(wild)
        assert figure.layout.title.text.endswith("; 1 beyond the top of the figure")
        first = tame.group_by("run_id", maintain_order=True).first()["loss"].max()
        # Of a log axis Plotly takes the powers of ten.
        assert 10 ** figure.layout.yaxis.range[1] == pytest.approx(3 * first)
    lost = draw_loss_curves(tame.with_columns(loss=pl.lit(float("nan"))))
    assert lost.layout.yaxis.range is None


def test_many_sizes_are_named_along_a_bar_and_few_in_a_legend():
    for sizes, entries in ((8, 8), (16, 0)):
        N = [1000 * 2**place for place in range(sizes)]
        curves = pl.DataFrame(
            {
                "run_id": N,
                "name": "d",
                "n_params": N,
                "tokens": 100,
                "train_flops": 1e9,
                "loss": 3.0,
            }
        )
        drawn = draw_loss_curves(curves).data
        assert sum(line.showlegend is not False for line in drawn) == entries
    named = drawn[-1].marker.colorbar.ticktext
    assert named[0] == "1k"
    assert (named[-1], len(named)) == ("32.8M", 5)


def test_an_envelope_is_drawn_over_the_curves_it_is_made_of():
    frame = curves()
    fit = fit_envelope(frame)
    data = envelope_data(frame, fit)
    assert data.filter(pl.col("kind") == "hull").height == fit.hull.height
    assert data.filter(pl.col("kind") == "curve").height == loss_curves_data(frame).height


def test_residuals_are_in_percent_of_the_fitted_loss(group):
    data = fit_data(group)
    fitted = group.fit.law.loss(data["n_params"].to_numpy(), data["tokens"].to_numpy())
    assert data["fitted"].to_numpy() == pytest.approx(fitted, rel=1e-9)
    assert data["residual_percent"].to_numpy() == pytest.approx(
        100 * (data["observed"].to_numpy() / fitted - 1), abs=1e-9
    )
    figure = draw_fit(data)
    rms = np.sqrt(np.mean(data["residual_percent"].to_numpy() ** 2))
    half = np.median(np.abs(data["residual_percent"].to_numpy()))
    assert figure.layout.title.text == (
        f"The law meets half of the runs within {half:.2g} % of their loss (rms {rms:.2g} %)"
    )
    diagonal = figure.data[-1]
    assert list(diagonal.x) == list(diagonal.y)
    assert diagonal.x[0] == min(data["fitted"].min(), data["observed"].min())
    axes = figure.layout
    assert (axes.xaxis.type, axes.xaxis2.type, axes.xaxis3.type) == ("linear", "log", "log")


def test_contours_reach_a_factor_two_around_the_rows_and_the_frontier_ten_times_the_compute(group):
    data, used, law = contour_data(group, points=20), group.used, group.fit.law
    grid = data.filter(pl.col("kind") == "grid")
    for column in ("n_params", "tokens"):
        assert grid[column].min() == pytest.approx(used[column].min() / 2)
        assert grid[column].max() == pytest.approx(used[column].max() * 2)
    assert grid.height == 400
    frontier = data.filter(pl.col("kind") == "frontier")
    C = np.geomspace(law.support.flops[0], 10 * law.support.flops[1], 60)
    N, D = Constants.of(law).compute_optimal(C)
    assert frontier["n_params"].to_numpy() == pytest.approx(N)
    assert frontier["tokens"].to_numpy() == pytest.approx(D)
    assert frontier["loss"].to_numpy() == pytest.approx(law.loss(N, D))
    figure = draw_contours(data, group)
    contour = figure.data[0]
    at = law.loss(np.array(contour.x)[None, :], np.array(contour.y)[:, None])
    assert np.array(contour.z) == pytest.approx(at)
    assert figure.layout.title.text == f"Along the frontier N* grows as C^{law.exponent_N:.2f}"


@pytest.mark.parametrize(
    ("beta", "title"),
    [
        ([0.1, 0.2, 0.3, 0.4], "alpha and beta rise and fall together over 4 resampled tables"),
        ([0.4, 0.3, 0.2, 0.1], "alpha and beta trade off over 4 resampled tables"),
        ([0.1, 0.4, 0.4, 0.1], "alpha and beta vary apart over 4 resampled tables"),
        ([0.1, 0.1, 0.1, 0.1], "4 resampled tables hardly move alpha and beta"),
        # A constant on its bound differs by rounding.
        ([1.4, 1.4 + 4e-16, 1.4, 1.4], "4 resampled tables hardly move alpha and beta"),
    ],
)
def test_a_clouds_title_is_the_sign_of_its_correlation(group, beta, title):
    data = pl.DataFrame({"alpha": [0.1, 0.2, 0.3, 0.4], "beta": beta, "exponent_N": [0.5] * 4})
    figure = draw_cloud(data, group)
    assert figure.layout.title.text == title
    assert (figure.data[1].x, figure.data[1].y) == (
        (group.fit.law.alpha,),
        (group.fit.law.beta,),
    )


def test_profiles_are_counted_that_close_on_both_sides():
    def part(name, low, high):
        return {"quantity": [name] * 3, "value": [1.0, 2.0, 3.0], "rise": [2.0, 0.0, 2.0],
                "low": [low] * 3, "high": [high] * 3}  # fmt: skip

    schema = {"low": pl.Float64, "high": pl.Float64}
    parts = [part("exponent_N", 1.5, 2.5), part("n_opt", None, 2.5), part("d_opt", 1.5, None)]
    data = pl.concat(pl.DataFrame(rows, schema_overrides=schema) for rows in parts)
    figure = draw_profiles(data)
    assert figure.layout.title.text == "Closed on both sides: 1 of 3 profiles"
    axes = figure.layout
    assert [axes.xaxis.type, axes.xaxis2.type, axes.xaxis3.type] == ["linear", "log", "log"]
    assert [tuple(axis.range) for axis in (axes.yaxis, axes.yaxis2, axes.yaxis3)] == [(0, 4)] * 3
