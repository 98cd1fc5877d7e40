"""The answer says how far it reaches, why it may not be trusted, and what other methods say."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from analysis.fit.answer import fit_table
from analysis.fit.options import FitOptions
from analysis.fit.text import verdict_rows
from analysis.forecast.answer import Question, answer, disagreements, forecast
from analysis.forecast.beside import Other
from analysis.forecast.document import answer_json
from analysis.forecast.figures import (
    draw_path,
    draw_record,
    draw_valley,
    path_data,
    record_data,
    valley_data,
)
from analysis.forecast.lead import Lead, lead, lead_json, led
from analysis.forecast.page import forecast_page
from analysis.forecast.text import answer_lines, first_lines, point_rows, source_words
from analysis.table.columns import normalise
from analysis.table.observations import Doubt, Table, TableError
from tests.simulated import CHINCHILLA, grid, isoflops
from tests.simulated import table as simulated

# Inside, ten times beyond, a thousand times beyond, and D/N far below the table's.
POINTS = ((1e9, 2e10), (4e9, 4e11), (1e11, 1.7e12), (1e13, 1e8))
QUESTION = Question(points=POINTS, budgets=(1e22,))


@pytest.fixture(scope="module")
def table() -> Table:
    return normalise(simulated(*isoflops(), noise=0.003))


@pytest.fixture(scope="module")
def whole(table):
    return answer(table, QUESTION)


def test_points_hold_their_place_loss_and_interval(whole):
    for point, (N, D) in zip(whole.points, POINTS, strict=True):
        assert (point.n_params, point.tokens) == (N, D)
        assert point.flops == pytest.approx(6 * N * D)
        assert point.lower < point.loss < point.upper
        shares = point.shares
        assert shares.law + shares.discrepancy + shares.noise == pytest.approx(1)
    for point in whole.points[:2]:
        truth = CHINCHILLA.loss(point.n_params, point.tokens)
        assert point.lower < truth < point.upper


def test_distances_are_e_folds_beyond_the_table(table, whole):
    C = 6 * table.used["n_params"] * table.used["tokens"]
    inside, tenfold, _, odd = whole.points
    assert inside.beyond.flops_efolds == inside.beyond.ratio_efolds == 0
    assert tenfold.beyond.flops_efolds == pytest.approx(np.log(tenfold.flops / C.max()))
    ratio = (table.used["tokens"] / table.used["n_params"]).min()
    assert odd.beyond.ratio_efolds == pytest.approx(np.log(1e-5 / ratio))
    assert odd.beyond.ratio_efolds < -2


def test_what_lies_too_far_is_not_calibrated_and_says_what_would_help(whole):
    inside, tenfold, far, odd = whole.points
    assert inside.calibrated
    assert tenfold.calibrated
    assert not far.calibrated
    assert "1.02k times the table's largest" in far.reason
    assert "add larger runs" in far.reason
    assert not odd.calibrated
    assert "below the table's: add small runs" in odd.reason
    assert whole.status == "not_calibrated"
    lines = "\n".join(answer_lines(whole, TABLE_OF_NOTHING))
    assert lines.startswith("NOT CALIBRATED: N = 100B, D = 1.7T: its compute")


TABLE_OF_NOTHING = Table(pl.DataFrame(), "unknown", "flops_6nd", "unknown")


def test_what_lies_far_below_the_table_is_not_calibrated_either(table):
    C = 6 * table.used["n_params"] * table.used["tokens"]
    edge, below = ((least / 120) ** 0.5 for least in (C.min() / 100, C.min() / 120))
    far = forecast(table, Question(((edge, 20 * edge), (below, 20 * below)), (C.min() / 1e6,)))
    assert [point.calibrated for point in far.points] == [True, False]
    assert "120 times below the table's smallest" in far.points[1].reason
    assert "add smaller runs" in far.points[1].reason
    assert not far.optimum[0].calibrated
    assert far.status == "not_calibrated"


def test_a_calibrated_answer_begins_with_no_warning(table):
    near = answer(table, Question(points=POINTS[:2]))
    assert near.status == "calibrated"
    assert near.warnings == ()
    assert near.optimum == ()


def test_without_a_question_n_star_at_ten_times_the_largest_compute_is_given(table):
    alone = forecast(table, Question())
    assert [each.best.flops for each in alone.optimum] == pytest.approx([1e22])
    assert alone.record == ()


def test_other_methods_stand_beside_n_star(whole):
    [best] = whole.optimum
    assert [other.name for other in best.others] == [
        "approach 2",
        "approach 3, chinchilla",
        "approach 3, gamma",
    ]
    for other in best.others:
        assert other.n_opt * other.d_opt == pytest.approx(1e22 / 6, rel=0.1)
    assert best.doubts == ()


def test_methods_that_disagree_raise_a_doubt(whole):
    best = replace(whole.optimum[0].best, n_opt=1e9, n_interval=(0.8e9, 2e9))
    near, apart = Other("approach 2", 1.4e9, 1e12, None), Other("approach 3", 1.6e9, 1e12, 2.0)
    outside = Other("approach 4", 0.75e9, 2e12, 2.0)
    assert disagreements(best, [near]) == ()
    assert disagreements(best, [near, apart, outside]) == (
        "Methods disagree on N* at 1.00e+22 FLOPs: the forecast says 1B [800M, 2B], approach 3 "
        "1.6B, approach 4 750M.",
    )


def test_a_doubt_that_bars_the_optimum_comes_first_and_withholds_it(table):
    doubtful = table.with_doubts((Doubt("N is in millions.", True), Doubt("It was hot.")))
    barred = answer(doubtful, QUESTION)
    assert barred.warnings[0] == "DOUBTFUL: N is in millions."
    assert "--anyway" in barred.warnings[1]
    assert barred.warnings[2] == "It was hot."
    assert barred.optimum == ()
    assert barred.status == "doubtful"
    assert barred.law.trust.bars == ("DOUBTFUL: N is in millions.",)
    anyway = forecast(doubtful, replace(QUESTION, anyway=True))
    assert len(anyway.optimum) == 1
    assert anyway.warnings[0] == "DOUBTFUL: N is in millions."


def test_a_design_that_cannot_carry_n_star_bars_it():
    N = np.geomspace(5e7, 5e9, 12)
    one_ratio = forecast(normalise(simulated(N, 20 * N)), Question(budgets=(1e22,)))
    assert one_ratio.warnings[0].startswith("NOT IDENTIFIED (N*): D/N is constant at 20")
    assert one_ratio.optimum == ()


def test_two_recipes_make_every_forecast_uncalibrated(table):
    C = pl.col("n_params") * pl.col("tokens")
    step = pl.when(C.log() < C.log().median()).then(1.15).otherwise(1.0)
    mixed = table.frame.with_columns(pl.col("val_loss") * step)
    found = forecast(replace(table, frame=mixed), QUESTION)
    assert found.warnings[0].startswith("NOT CALIBRATED: the rows stray from any law")
    assert not any(point.calibrated for point in found.points)
    assert not found.optimum[0].calibrated
    # A fit and a sweep begin with this sentence.
    assert Lead(table, found).sentence.startswith("NOT CALIBRATED: the rows stray from any law")
    assert Lead(table, forecast(table, QUESTION)).sentence.startswith("Forecast at ")


def test_bits_per_byte_follow_the_loss_where_their_ratio_is_one(table):
    frame = table.frame.with_columns(val_bpb=pl.col("val_loss") * 0.31)
    found = forecast(replace(table, frame=frame), QUESTION)
    assert found.data.bytes_factor == pytest.approx(0.31)
    assert "bits/byte" in point_rows(found)[0][3]
    point = answer_json(found)["points"][0]
    assert point["bits_per_byte"]["upper"] == pytest.approx(0.31 * point["upper"])
    odd = frame.with_columns(val_bpb=pl.col("val_loss") ** 2)
    assert forecast(replace(table, frame=odd), QUESTION).data.bytes_factor is None


def test_pooled_settings_are_doubted(table):
    rates = pl.concat(
        [table.frame.with_columns(lr=pl.lit(rate)) for rate in (1e-3, 3e-3)]
    ).with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))
    found = forecast(replace(table, frame=rates), QUESTION)
    assert any("differ in lr" in doubt for doubt in found.doubts)


def test_rows_that_do_not_count_are_said(table):
    first = table.frame.head(1)
    wild = first.with_columns(n_params=1e11, tokens=1e8, val_loss=9.0)
    seeds = table.frame.with_columns(pl.col("val_loss") * 1.001)
    odd = pl.concat([table.frame, seeds, first, wild]).with_columns(
        row=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    found = forecast(replace(table, frame=odd), Question(points=POINTS[:1]))
    data = found.data
    assert (data.rows, data.copies, data.left_out, data.places) == (72, 1, 1, 35)
    words = source_words(found, table)
    assert "72 runs of" in words
    assert "; 1 repeat another to the last digit, which counts once" in words
    assert "; 1 left out, far above the frontier" in words
    assert "; 70 averaged to 35 places of N and D" in words


def test_bad_losses_are_refused_with_their_row(table):
    frame = table.frame.with_columns(
        pl.when(pl.col("row") == 3).then(-1.0).otherwise("val_loss").alias("val_loss")
    )
    with pytest.raises(TableError, match="val_loss is not positive"):
        forecast(replace(table, frame=frame), QUESTION)


def test_the_document_has_the_keys_of_its_contract(whole):
    document = json.loads(json.dumps(answer_json(whole), allow_nan=False))
    assert {"points", "optimum", "record", "law", "scales", "status"} <= set(document)
    assert {
        "n_params", "tokens", "flops", "loss", "lower", "upper", "beyond", "shares", "calibrated"
    } <= set(document["points"][0])  # fmt: skip
    assert set(document["points"][0]["beyond"]) == {"flops_efolds", "ratio_efolds"}
    assert set(document["points"][0]["shares"]) == {"law", "discrepancy", "noise"}
    assert {
        "flops", "n_opt", "n_lower", "n_upper", "d_opt", "d_lower", "d_upper", "loss",
        "loss_lower", "loss_upper", "regret",
    } <= set(document["optimum"][0])  # fmt: skip
    assert {"factor", "rows", "coverage", "error_percent", "winkler"} <= set(
        document["record"]["cuts"][0]
    )
    assert document["warnings"] == first_lines(whole)
    assert document["warnings"][0].startswith("NOT CALIBRATED: N = 100B")
    regret = document["optimum"][0]["regret"]
    assert regret["n_lower"]["loss"] >= 0
    assert 0 <= regret["n_upper"]["flops_share"] < 1


def test_the_law_is_the_forecast_s_own_in_its_published_form(table, whole):
    point = whole.points[0]
    assert whole.law.loss(point.n_params, point.tokens) == pytest.approx(point.loss, rel=0.01)
    assert whole.law.form == "gamma"
    plain = forecast(table, replace(QUESTION, form="chinchilla"))
    assert plain.law.form == "chinchilla"
    assert plain.law.alpha == pytest.approx(CHINCHILLA.alpha, abs=0.05)


def test_the_path_holds_runs_band_and_targets(table, whole):
    data = path_data(whole, table)
    counts = dict(data.group_by("kind").len().iter_rows())
    assert counts["band"] == 80
    assert counts["target"] == len(POINTS) + 1
    assert counts["run"] + counts.get("far_run", 0) == table.used.height
    band = data.filter(pl.col("kind") == "band")
    assert band["flops"].max() > max(point.flops for point in whole.points)
    assert (band["lower"] < band["upper"]).all()
    width = (band["upper"] / band["lower"]).to_numpy()
    assert width[-1] > 2 * width[40] - 1
    assert "is foretold at" in draw_path(data, whole).layout.title.text


def test_the_valley_has_its_bottom_at_n_star(whole):
    [each] = whole.optimum
    data = valley_data(whole, each)
    lowest = data.sort("loss")["n_params"][0]
    # The grid's step, and half of the distance to the measured valleys.
    assert lowest == pytest.approx(each.best.n_opt, rel=0.25)
    title = draw_valley(data, each, whole.level).layout.title.text
    assert title.startswith("At 1.00e+22 FLOPs N* is ")


def test_the_losses_of_a_forecast_s_pictures_have_their_unit(whole, table):
    law = whole.law.model_copy(update={"loss_unit": "bits_per_byte"})
    bits, [each] = replace(whole, law=law), whole.optimum
    path = draw_path(path_data(bits, table), bits)
    assert path.layout.yaxis.title.text == "loss, bits per byte"
    valley = draw_valley(valley_data(bits, each), each, bits.level, law.loss_unit)
    assert valley.layout.yaxis.title.text == "loss, bits per byte"


def test_an_optimum_beyond_the_valley_s_picture_is_named_in_its_legend(whole):
    each = replace(
        whole.optimum[0],
        others=(Other("approach 2", 1e3, 1e12, None), Other("approach 3", 1e15, 1e12, 2.0)),
    )
    figure = draw_valley(valley_data(whole, each), each, whole.level)
    assert [trace.name for trace in figure.data][-2:] == [
        "approach 2: 1k, left of this figure",
        "approach 3: 1e+15, right of this figure",
    ]


def test_the_record_s_picture_has_both_methods_at_each_cut(whole):
    data = record_data(whole.record)
    assert data.height == 2 * len(whole.record)
    assert set(data["method"]) == {"forecast", "approach 3"}
    inside = round(sum(cut.forecast.coverage * cut.rows for cut in whole.record))
    title = draw_record(data, whole.level).layout.title.text
    assert title.startswith(f"{inside} of {sum(cut.rows for cut in whole.record)} forecasts")


def test_text_and_page_give_the_numbers_and_the_record(table, whole):
    text = "\n".join(answer_lines(whole, table))
    html = forecast_page([(None, table, whole)], title="<i>runs</i>").html()
    for shown in (f"{whole.points[0].loss:.4f}", "Cmax/2", "approach 3, gamma", "noise"):
        assert shown in text
        assert shown in html
    assert "<i>runs" not in html
    assert html.index("NOT CALIBRATED") < html.index("Forecast at ")
    for name in ("path", "valley0", "record"):
        assert f'id="forecast0-{name}"' in html


def test_a_table_without_a_record_says_why():
    few = normalise(simulated(*isoflops(budgets=2, sizes=6), noise=0.002))
    text = "\n".join(answer_lines(answer(few, Question(budgets=(1e22,))), few))
    assert "No record on this table" in text


def test_a_fit_s_lead_is_the_forecast_at_its_target(table):
    [group] = fit_table(table, FitOptions(bootstrap=0))
    first = lead(group)
    best = forecast(table, Question(budgets=(group.optimal[-1].flops,))).optimum[0].best
    assert first.answer.optimum[0].best.n_opt == pytest.approx(best.n_opt, rel=1e-9)
    assert first.sentence.startswith("Forecast at 1.00e+22 FLOPs (6ND): N* = ")
    assert lead_json(first)["optimum"]["n_opt"] == pytest.approx(best.n_opt, rel=1e-9)


def test_an_optimum_on_which_methods_disagree_is_not_called_identified(table, monkeypatch):
    [group] = fit_table(table, FitOptions(bootstrap=0))
    assert group.verdicts["n_opt"].verdict == "identified"
    same, agreed = led(group)
    assert (same, agreed.doubts) == (group, ())
    monkeypatch.setattr("analysis.forecast.lead.disagreements", lambda *_: ("Methods disagree.",))
    apart, _ = led(group)
    assert apart.fit.law.trust.warnings == ("Methods disagree.",)
    assert apart.warnings == ("Methods disagree.",)
    judged = {name: judgement.verdict for name, judgement in apart.verdicts.items()}
    assert (judged["n_opt"], judged["d_opt"], judged["exponent_N"]) == (
        "weak",
        "weak",
        "identified",
    )
    assert apart.verdicts["n_opt"].reason.startswith("methods disagree on it, as the first lines")
    # A reason is written once, and the rows below point to it.
    rows = {name: reason for name, _, reason in verdict_rows(apart)}
    assert rows["D* at the target"].startswith("As for N* at the target. Its profile closes")


def test_a_fit_of_few_rows_says_why_it_has_no_forecast():
    N, D = grid(3, 3)
    [group] = fit_table(normalise(simulated(N, D, noise=1e-4)), FitOptions(bootstrap=0))
    first = lead(group)
    assert first.answer is None
    line = first.sentence
    assert line.startswith(
        "No forecast: a forecast needs losses at 10 pairs of N and D and 3 sizes"
    )
    assert line.endswith("the table has 9 of 3. Train more runs; isoflop fit takes fewer.")
    assert lead_json(first)["reason"] == line.removeprefix("No forecast: ")
