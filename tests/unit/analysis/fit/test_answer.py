"""The whole answer on a table: budgets, conventions, doubts, figures and text."""

import json

import numpy as np
import polars as pl
import pytest
from scipy.stats import f as fisher

from analysis.fit import figures, run_figures
from analysis.fit.answer import fit_table
from analysis.fit.document import group_json
from analysis.fit.envelope import fit_envelope
from analysis.fit.options import FitOptions
from analysis.fit.page import fit_page
from analysis.fit.parametric import fit_parametric, pose
from analysis.fit.records import GroupFit
from analysis.fit.text import group_lines
from analysis.solver.search import find_optimum
from analysis.solver.uncertainty import influence
from analysis.table.columns import normalise
from analysis.table.observations import TableError
from tests.simulated import CHINCHILLA, grid, isoflops, law_of, options, table, weighed

UNSURE = FitOptions(bootstrap=0)


@pytest.fixture(scope="module")
def group() -> GroupFit:
    frame = table(*isoflops(), noise=0.002).with_columns(name=pl.lit("<b>run</b>"))
    return fit_table(normalise(frame), FitOptions(bootstrap=100))[0]


def test_the_optimum_is_given_inside_at_the_edge_and_beyond_the_table(group: GroupFit) -> None:
    assert [point.extrapolation for point in group.optimal] == pytest.approx([0.0316, 1, 10], 1e-3)
    for point in group.optimal:
        assert 6 * point.n_opt * point.d_opt == pytest.approx(point.flops)
        low, high = point.intervals["n_opt"]
        assert low < point.n_opt < high
        assert point.loss == pytest.approx(float(group.fit.law.loss(point.n_opt, point.d_opt)))


def test_each_effect_is_the_exponent_without_the_row_minus_the_exponent(group: GroupFit) -> None:
    frame = table(*isoflops(), noise=0.002)
    for left in group.influence[:3]:
        kept = frame.filter(pl.int_range(pl.len()) != left.row)
        without = fit_parametric(normalise(kept), options(bootstrap=0)).law.exponent_N
        # Refits stop at relative steps of 1e-8.
        effect = without - group.fit.law.exponent_N
        assert left.effect_alone == pytest.approx(effect, abs=1e-6)


def test_the_ten_rows_of_most_influence_either_way_are_listed(group: GroupFit) -> None:
    problem, _ = pose(
        normalise(table(*isoflops(), noise=0.002)),
        options(),
    )
    problem, optimum = find_optimum(problem)
    effects = influence(problem, optimum.x)
    expected = np.argsort(-np.abs(effects))[:10]
    assert [row.row for row in group.influence] == expected.tolist()
    listed = [row.effect_on_exponent_N for row in group.influence]
    assert listed == pytest.approx(effects[expected])
    assert min(listed) < 0 < max(listed)


def test_the_interval_of_the_least_loss_holds_it_under_a_free_gamma() -> None:
    frame = table(*isoflops(), law_of("gamma", gamma=0.6), noise=0.001)
    [group] = fit_table(normalise(frame), options(form="gamma", bootstrap=50))
    for point in group.optimal[:2]:
        low, high = point.intervals["loss"]
        assert low < point.loss < high
        # Inside the table the loss is known to about the noise.
        assert high / low < 1.01


def test_leave_one_out_is_the_root_mean_square_of_the_press_residuals() -> None:
    frame = table(*grid(), noise=1e-4)
    [group] = fit_table(normalise(frame), options(objective="mse_log", bootstrap=0))
    law, (N, D) = group.fit.law, grid()
    loss, on_N, on_D = law.loss(N, D), law.A * N**-law.alpha, law.B * D**-law.beta
    columns = [law.E + 0 * N, on_N, on_D, on_N * np.log(N / 5e8), on_D * np.log(D / 1e10)]
    slope = np.stack(columns, axis=1) / loss[:, None]
    leverage = np.diag(slope @ np.linalg.pinv(slope))
    residual = np.log(frame["val_loss"].to_numpy() / loss)
    np.testing.assert_allclose(group.used["residual"], residual, atol=1e-12)
    press = 100 * np.sqrt(np.mean((residual / (1 - leverage)) ** 2))
    # Noise of 1e-4 leaves the law's own bend, of about as much.
    assert group.leave_one_out_percent == pytest.approx(press, rel=1e-2)


def test_every_interval_is_at_the_level_asked_for() -> None:
    frame = table(*isoflops(), noise=0.002)
    half, most = (
        fit_table(normalise(frame), options(bootstrap=100, level=level))[0] for level in (0.5, 0.9)
    )
    for group, level in ((half, 0.5), (most, 0.9)):
        law, point = group.fit.law, group.optimal[1]
        share = np.divide(law.draws["beta"], np.add(law.draws["alpha"], law.draws["beta"]))
        ends = np.quantile(share, [0.5 - level / 2, 0.5 + level / 2])
        assert group.fit.intervals.values["exponent_N"] == pytest.approx(tuple(ends))
        sizes = [
            (a * A / (b * B)) ** (1 / (a + b)) * (point.flops / 6) ** (b / (a + b))
            for A, B, a, b in zip(*(law.draws[n] for n in ("A", "B", "alpha", "beta")), strict=True)
        ]
        ends = np.quantile(sizes, [0.5 - level / 2, 0.5 + level / 2])
        assert point.intervals["n_opt"] == pytest.approx(tuple(ends))
        tokens = point.flops / 6 / np.array(sizes)
        ends = np.quantile(tokens / sizes, [0.5 - level / 2, 0.5 + level / 2])
        assert point.intervals["tokens_per_param"] == pytest.approx(tuple(ends))
        loss = [
            E + A * N**-a + B * D**-b
            for E, A, B, a, b, N, D in zip(
                *(law.draws[n] for n in ("E", "A", "B", "alpha", "beta")), sizes, tokens,
                strict=True,
            )
        ]  # fmt: skip
        ends = np.quantile(loss, [0.5 - level / 2, 0.5 + level / 2])
        assert point.intervals["loss"] == pytest.approx(tuple(ends))
        assert group.isoflop.level == level
        for profile in group.profiles.values():
            assert profile.threshold == pytest.approx(fisher.ppf(level, 1, 35 - 5))


def test_profiles_of_sizes_are_at_the_target_or_ten_times_the_largest(group: GroupFit) -> None:
    largest = group.optimal[1].flops
    assert group.profiles["n_opt"].flops == pytest.approx(10 * largest)
    assert group.profiles["n_opt"].estimate == pytest.approx(group.optimal[2].n_opt)
    assert group.profiles["d_opt"].estimate == pytest.approx(group.optimal[2].d_opt)
    [asked] = fit_table(
        normalise(table(*isoflops(), noise=0.002)), FitOptions(bootstrap=0, target_flops=3e22)
    )
    assert asked.profiles["d_opt"].flops == asked.optimal[2].flops == 3e22


def test_sizes_far_beyond_the_table_are_at_most_weak(group: GroupFit) -> None:
    assert {group.verdicts[name].verdict for name in ("n_opt", "d_opt")} == {"identified"}
    far = FitOptions(bootstrap=0, target_flops=11 * group.optimal[1].flops)
    [beyond] = fit_table(normalise(table(*isoflops(), noise=0.002)), far)
    for name in ("n_opt", "d_opt"):
        assert beyond.verdicts[name].verdict == "weak"
        assert "is 11 times the table's largest compute" in beyond.verdicts[name].cause
    assert beyond.verdicts["exponent_N"].verdict == "identified"


def test_checkpoints_of_one_training_widen_the_profiles_of_a_fit() -> None:
    N, D = grid()
    runs = np.searchsorted(np.unique(N), N)
    common = 0.002 * np.random.default_rng(1).standard_normal(6)[runs]
    frame = table(N, D).with_columns(pl.col("val_loss") * pl.Series(np.exp(common)))
    named = frame.with_columns(run_id=pl.Series([f"r{k}" for k in runs]))
    profiles = [
        fit_table(normalise(f), options(bootstrap=0))[0].profiles["exponent_N"]
        for f in (frame, named)
    ]
    apart, together = (np.diff(np.array(p.interval, float))[0] for p in profiles)
    assert together > 1.2 * apart


def test_leave_one_out_is_near_the_noise(group: GroupFit) -> None:
    # 35 rows, 5 constants: errors of prediction are about 15 % above the noise of 0.2 %.
    assert group.leave_one_out_percent == pytest.approx(0.2, rel=0.5)


def test_conventions_stand_side_by_side_with_counted_flops() -> None:
    N, D = grid()
    embedding = 3e7
    frame = table(N, D, noise=0.001).with_columns(
        n_params_total=N + embedding, n_params_non_embedding=N - 0.9 * embedding,
        train_flops=6 * N**1.05 / 1e9**0.05 * D,
    )  # fmt: skip
    group = fit_table(normalise(frame), UNSURE)[0]
    shown = {(c.n_counts, c.c_counts): c for c in group.conventions}
    assert len(shown) == 6
    plain = shown["n_params", "flops_6nd"]
    counted = shown["n_params", "train_flops"]
    alpha, beta = group.fit.law.alpha, group.fit.law.beta
    assert plain.exponent_N == pytest.approx(group.fit.law.exponent_N)
    assert counted.exponent_N == pytest.approx(beta / (1.05 * beta + alpha), rel=1e-3)
    assert any("times 6·N·D" in doubt for doubt in group.doubts)
    law = group.fit.law
    assert (law.n_counts, law.c_counts) == ("n_params", "train_flops")


def test_a_misfitting_form_is_doubted() -> None:
    frame = table(*isoflops(), law_of("gamma", gamma=0.4), noise=0.0005)
    doubts = fit_table(normalise(frame), FitOptions(bootstrap=20))[0].doubts
    assert any("--form gamma" in doubt for doubt in doubts)


def test_disagreeing_approaches_are_doubted(group: GroupFit) -> None:
    assert not any("disagree" in doubt for doubt in group.doubts)


def test_rows_out_of_the_filter_keep_it_as_their_reason() -> None:
    frame = table(*grid(), noise=0.001)
    [group] = fit_table(normalise(frame), UNSURE, where="n_params > 1e8")
    assert {row.reason for row in group.fit.rows_excluded} == {"not where n_params > 1e8"}
    assert len(group.fit.rows_used) + len(group.fit.rows_excluded) == frame.height


def test_an_error_in_one_group_names_the_group() -> None:
    frame = table(*grid(), noise=0.001).with_columns(part=pl.Series(["a"] * 33 + ["b"] * 3))
    with pytest.raises(TableError, match="group part = b"):
        fit_table(normalise(frame), UNSURE, by="part")


def test_the_json_is_json_without_nan(group: GroupFit) -> None:
    text = json.dumps(group_json(group), allow_nan=False)
    assert json.loads(text)["law"]["alpha"] == group.fit.law.alpha


def test_counts_are_keys_in_the_json_and_words_in_the_text() -> None:
    N, D = grid()
    frame = table(N, D, noise=0.001).with_columns(n_params_total=N + 3e7)
    [group] = fit_table(normalise(frame), UNSURE)
    document = group_json(group)
    assert [c["n_counts"] for c in document["conventions"]] == [
        document["n_counts"],
        "n_params_total",
    ]
    assert {c["c_counts"] for c in document["conventions"]} == {document["c_counts"]}
    text = "\n".join(group_lines(group))
    assert "every parameter" in text
    assert "n_params_total" not in text


def test_units_mixed_over_groups_are_fitted_apart() -> None:
    frame = table(*grid(), noise=0.001)
    both = pl.concat([frame.with_columns(loss_unit=pl.lit(unit)) for unit in ("nats", "bpb")])
    with pytest.raises(TableError, match="several units"):
        fit_table(normalise(both), UNSURE)
    groups = fit_table(normalise(both), UNSURE, by="loss_unit")
    assert [g.fit.law.loss_unit for g in groups] == ["nats_per_token", "bits_per_byte"]


def test_the_text_holds_the_law_and_every_doubt(group: GroupFit) -> None:
    text = "\n".join(group_lines(group))
    assert group.fit.law.formula in text
    assert text.count("- ") >= len(group.doubts)
    assert "NOT IDENTIFIED" not in text


def test_valley_data_hold_every_run_and_minimum(group: GroupFit) -> None:
    data = run_figures.isoflop_data(group.used, group.isoflop)
    assert data.filter(pl.col("kind") == "run").height == 35
    minima = data.filter(pl.col("kind") == "minimum")
    assert minima.height == 5
    assert (minima["low"] < minima["n_params"]).all()
    assert (minima["high"] > minima["n_params"]).all()
    title = run_figures.draw_isoflop(data, group.isoflop).layout.title.text
    assert title.startswith("N* grows as C^0.5")


def test_a_minimum_without_an_interval_does_not_look_like_the_surest(group: GroupFit) -> None:
    data = run_figures.isoflop_data(group.used, group.isoflop)
    first = (pl.col("kind") == "minimum") & (pl.col("flops_budget") == data["flops_budget"].min())
    unbounded = data.with_columns(pl.when(first).then(None).otherwise("high").alias("high"))
    for frame, symbol in ((data, "diamond"), (unbounded, "diamond-open")):
        marks = [
            trace
            for trace in run_figures.draw_isoflop(frame, group.isoflop).data
            if trace.legendgroup == "minimum"
        ]
        assert len(marks) == 2
        for trace in marks:
            assert trace.marker.symbol == (symbol, *["diamond"] * 4)
            assert ("not bounded" in trace.name) == (symbol == "diamond-open")
            assert ("not bounded" in trace.text[0]) == (symbol == "diamond-open")


def test_fit_data_are_observation_and_law(group: GroupFit) -> None:
    data = figures.fit_data(group)
    fitted = group.fit.law.loss(data["n_params"], data["tokens"])
    np.testing.assert_allclose(data["fitted"], fitted, rtol=1e-12)
    percent = 100 * (data["observed"].to_numpy() / fitted - 1)
    np.testing.assert_allclose(data["residual_percent"], percent, atol=1e-9)


def test_the_frontier_of_the_contours_is_optimal(group: GroupFit) -> None:
    data = figures.contour_data(group).filter(pl.col("kind") == "frontier")
    N, D = data["n_params"].to_numpy(), data["tokens"].to_numpy()
    for step in (0.98, 1.02):
        assert (group.fit.law.loss(N * step, D / step) > data["loss"].to_numpy()).all()


def test_profiles_pass_their_threshold_at_the_interval(group: GroupFit) -> None:
    data = figures.profile_data(group).filter(pl.col("quantity") == "exponent_N")
    inside = data.filter(pl.col("value").is_between(pl.col("low"), pl.col("high")))
    outside = data.filter(~pl.col("value").is_between(pl.col("low"), pl.col("high")))
    assert (inside["rise"] <= 1 + 1e-9).all()
    assert (outside["rise"] >= 1 - 1e-9).all()


def test_the_cloud_is_the_draws(group: GroupFit) -> None:
    assert figures.cloud_data(group)["alpha"].to_list() == group.fit.draws.alpha.tolist()


def test_curves_are_thinned_to_what_can_be_seen() -> None:
    D = np.geomspace(1e8, 1e10, 5000)
    curves = pl.DataFrame(
        {"run_id": "r", "name": "a", "n_params": 1e8, "tokens": D, "train_flops": 6e8 * D,
         "train_loss": CHINCHILLA.loss(1e8, D)}
    )  # fmt: skip
    data = run_figures.loss_curves_data(curves)
    # A point for each 3 % more tokens: ln(100)/ln(1.03), and a broken bin at either end.
    assert 155 <= data.height <= 158
    assert data["tokens"][-1] == D[-1]
    np.testing.assert_allclose(data["loss"], CHINCHILLA.loss(1e8, data["tokens"]), rtol=0.01)
    both = pl.concat([curves, curves.with_columns(n_params=3e8, run_id=pl.lit("s"))])
    fit = fit_envelope(both)
    drawn = run_figures.draw_envelope(run_figures.envelope_data(both, fit), fit)
    assert drawn.layout.title.text == fit.reason


def test_names_are_escaped_in_figures_and_page(group: GroupFit) -> None:
    page = fit_page([group], title="<i>runs</i>").html()
    assert "<b>run" not in page
    assert "<i>runs" not in page
    hover = figures.draw_fit(figures.fit_data(group)).data[0].text[0]
    assert hover.startswith("row 1: &lt;b&gt;run&lt;/b&gt;<br>N = ")


def test_the_order_of_groups_is_the_tables() -> None:
    frame = table(*grid(), noise=0.001)
    both = pl.concat([frame.with_columns(part=pl.lit(name)) for name in ("z", "a")])
    assert [g.group for g in fit_table(normalise(both), UNSURE, by="part")] == ["z", "a"]


def test_a_weighted_tables_objective_is_under_its_own_weights() -> None:
    frame = table(*grid(), noise=0.002)
    plain, tripled = (fit_parametric(weighed(frame, weight), UNSURE) for weight in (1.0, 3.0))
    assert tripled.objective.value == pytest.approx(3 * plain.objective.value, rel=1e-9)
