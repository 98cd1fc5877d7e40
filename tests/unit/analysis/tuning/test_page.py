"""The words, tables and figures of a tuned recipe hold its numbers."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from analysis.page import Grid, Page
from analysis.published import lr_rules
from analysis.tuning import figures as figures_module
from analysis.tuning import page as module
from analysis.tuning.brief import interval_words
from analysis.tuning.figures import (
    _same_but_rounded,
    _surface_title,
    draw_importances,
    draw_law,
    draw_surface,
    law_data,
    surface_data,
)
from analysis.tuning.law import TunedLaw, TunedPoint
from analysis.tuning.page import _comparison, _law_words, fit_lines, study_page
from analysis.tuning.surface import Axis, Optimum, Surface
from analysis.words import between, short

AXES = (Axis("lr", 0.001, 0.1), Axis("batch_tokens", 256.0, 8192.0))


def surface(lr=0.01, batch=1024.0, *, lr_interval=(0.005, 0.02), batch_interval=(None, 2048.0)):
    minimum = np.log([lr, batch])
    return Surface(
        axes=AXES,
        centre=minimum,
        coef=np.array([3.0, 0.0, 0.0, 0.03, 0.02, -0.01]),
        minimum=minimum,
        optima={
            "lr": Optimum(value=lr, interval=lr_interval, edge=None),
            "batch_tokens": Optimum(value=batch, interval=batch_interval, edge="low"),
        },
        loss=3.0,
        noise=0.01,
        rows=(0, 1),
        coef_draws=np.empty((0, 6)),
        minimum_draws=np.tile(minimum, (5, 1)),
        level=0.9,
    )


def law(coef=2.0, exponent_N=-0.5, exponent_D=0.25, **changes):
    drawn = np.tile([np.log(coef or 1.0), exponent_N or 0.0, exponent_D or 0.0], (5, 1))
    constants = {
        "coef": coef, "exponent_N": exponent_N, "exponent_D": exponent_D,
        "intervals": {"coef": (1.0, 3.0), "exponent_N": (-0.6, -0.4), "exponent_D": None},
        "points": 4, "reasons": (), "status": "fitted", "draws": drawn,
    }  # fmt: skip
    return TunedLaw(**constants | changes)


NONE = law(coef=None, exponent_N=None, exponent_D=None, intervals={}, status="no_minimum",
           reasons=("4 of 4 surfaces have no minimum", "x"))  # fmt: skip


class Fit:
    """What a page reads of a fit."""

    def __init__(self):
        self.points = [
            TunedPoint(1e5, 1e7, surface()),
            TunedPoint(1e5, 4e7, surface(lr=0.02, batch=2048.0)),
            TunedPoint(4e5, 1e7, surface(lr=0.005, lr_interval=(None, None))),
        ]
        self.lr, self.batch, self.recipe_lr, self.recipe_batch = law(), NONE, law(), law(coef=0.5)
        self.refusals, self.advice, self.level = ("too few",), ("widen it",), 0.9
        self.left_out, self.read, self.doubts = (("it diverged", 3),), (), ("one budget",)
        rows = [
            {"name": f"t{number}", "n_params": point.N, "tokens": point.D, "budget": point.D,
             "lr": 0.01, "batch_tokens": 512.0, "val_loss": 3.5 - number, "excluded_reason": None}
            for number, point in enumerate(self.points)
        ]  # fmt: skip
        self.table = pl.DataFrame(rows, schema_overrides={"excluded_reason": pl.String})


def test_a_terminal_gets_the_laws_their_source_and_every_doubt():
    words = "2 · N^-0.500 [-0.60, -0.40, 90%]"
    assert fit_lines(Fit()) == [
        "Doubtful: one budget",
        f"lr*    = {words}",
        "batch* = not identified (4 of 4 surfaces have no minimum)",
        f"recipe: lr = {words}",
        f"recipe: batch = 0.5{words[1:]}",
        "through 3 minima of 2 sizes, N in parameters that multiply a token, D and batch in tokens",
        "left out 3 rows: it diverged",
        "No surface: too few",
        "Doubtful: widen it",
    ]
    assert _law_words(NONE.model_copy(update={"reasons": ()}), 0.9) == "not identified (no minimum)"
    both = law(intervals={"exponent_N": (-0.6, -0.4), "exponent_D": (0.1, 0.4)})
    assert _law_words(both, 0.5) == "2 · N^-0.500 [-0.60, -0.40, 50%] · D^0.250 [0.10, 0.40, 50%]"


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((None, None), "not bounded"),
        ((None, 2.0), f"up to {short(2.0)}"),
        ((1.0, None), f"from {short(1.0)}"),
        ((1.0, 2.0), between(1.0, 2.0)),
    ],
)
def test_an_interval_says_which_end_is_not_bounded(interval, words):
    assert interval_words(Optimum(value=1.5, interval=interval, edge=None)) == words


def test_every_surface_stands_beside_every_rule_for_its_quantities():
    fit = Fit()
    rows = _comparison(fit)
    rules = lr_rules().height
    assert len(rows) == 3 * rules
    assert [row[:2] for row in rows[::rules]] == [
        [short(point.N), short(point.D)] for point in fit.points
    ]
    for row in rows[:rules]:
        assert row[3] == {"lr": short(0.01), "batch_tokens": short(1024.0)}[row[2]]
    alone = surface()
    del alone.optima["batch_tokens"]
    fit.points = [TunedPoint(1e5, 1e7, alone)]
    assert {row[2] for row in _comparison(fit)} == {"lr"}


def test_a_page_has_its_figures_sources_and_trials_in_order(monkeypatch):
    figures, titles = [], []
    monkeypatch.setattr(
        Page, "figure", lambda page, figure, name, **_: figures.append((name, figure))
    )
    drawn = module.draw_surface
    monkeypatch.setattr(
        module, "draw_surface",
        lambda point, trials: titles.append(trials["name"].to_list()) or drawn(point, trials),
    )  # fmt: skip
    fit = Fit()
    table = pl.concat([fit.table, fit.table.with_columns(val_loss=None)], how="vertical_relaxed")
    page = study_page("s", fit, "", table, {"N = 1": {"lr": 0.7, "batch_tokens": 0.3}})
    html = page.html()
    names = [name for name, _ in figures]
    assert names == ["law", "surface-0", "surface-1", "surface-2", "importances"]
    assert titles == [["t0"], ["t1"], ["t2"]]
    assert "6 losses, 3 left out of the fits." in html
    headings = ("The laws", "Beside published rules", "Surfaces", "What mattered", "Trials")
    places = [html.index(f">{heading}") for heading in headings]
    assert places == sorted(places)
    trials = page.parts[-1]
    assert isinstance(trials, Grid)
    assert trials.header[:4] == ("trial", "N", "D tokens", "peak lr")
    losses = [row[-2] for row in trials.rows]
    # Within a size and budget the lowest comes first, and one without a loss last.
    assert [loss == "–" for loss in losses] == [False, True] * 3
    assert len({row[:3] for row in trials.rows}) == 3
    sources = [html.index(f"{rule}: ") for rule in lr_rules()["rule"].unique(maintain_order=True)]
    assert sources == sorted(sources)
    assert "intervals are 90%" in html
    figures.clear()
    bare = study_page("s", None, "No law: too few", table, {"N = 1": {}}).html()
    assert "No law: too few" in bare
    assert figures == []


def test_a_law_is_drawn_over_all_sizes_for_each_budget_beside_its_minima():
    fit = Fit()
    data = law_data(fit)
    minima = data.filter(pl.col("kind") == "minimum", pl.col("quantity") == "lr")
    assert minima["value"].to_list() == [0.01, 0.02, 0.005]
    assert minima["low"].to_list() == [0.005, 0.005, None]
    assert minima["high"].to_list() == [0.02, 0.02, None]
    lines = data.filter(pl.col("kind") == "law", pl.col("quantity") == "lr")
    assert lines["D"].unique().sort().to_list() == [1e7, 4e7]
    # From half the smallest size to eight times the largest.
    for (D,), line in lines.group_by("D"):
        assert line["N"].to_list() == pytest.approx(np.geomspace(5e4, 3.2e6, 40))
        assert line["value"].to_list() == pytest.approx(2 * line["N"].to_numpy() ** -0.5 * D**0.25)
        assert line["low"].to_list() == pytest.approx(line["value"].to_list())
    fit.recipe_lr = NONE
    assert law_data(fit).filter(pl.col("kind") == "law", pl.col("quantity") == "lr").is_empty()


def test_budgets_that_differ_by_rounding_share_a_colour_and_a_name():
    assert _same_but_rounded([1e7, 1.04e7, 1.08e7, 2e7]) == {1e7: 0, 1.04e7: 0, 1.08e7: 0, 2e7: 1}
    figure = draw_law(law_data(Fit()))
    axes = (figure.layout.xaxis, figure.layout.xaxis2, figure.layout.yaxis, figure.layout.yaxis2)
    assert [found.type for found in axes] == ["log"] * 4
    shown = [trace.name for trace in figure.data if trace.showlegend]
    assert shown == [f"D = {short(1e7)}", f"D = {short(4e7)}"]
    bars = [trace.error_y for trace in figure.data if trace.mode == "markers"]
    assert bars[0].array == pytest.approx([0.01, 0.0])
    assert bars[0].arrayminus == pytest.approx([0.005, 0.0])


def test_the_laws_title_is_what_ten_times_n_and_d_take():
    fit = Fit()
    data = law_data(fit)
    of_lr, law = pl.col("quantity") == "lr", pl.col("kind") == "law"
    both = "Ten times the parameters take 0.32 × the learning rate, ten times the tokens take "
    assert (
        draw_law(data).layout.title.text
        == f"{both}{10**fit.recipe_batch.exponent_D:.2g} × the batch"
    )
    one = draw_law(data.filter(pl.col("D") == pl.col("D").min())).layout.title.text
    assert one == "Ten times the parameters take 0.32 × the learning rate"
    batch = draw_law(data.filter(~(of_lr & law))).layout.title.text
    assert batch.startswith("Ten times the tokens take ")
    none = draw_law(data.filter(~law)).layout.title.text
    assert none == "No law: no minimum lies inside the searched ranges"


def test_the_bars_of_a_surface_end_at_its_interval_or_at_the_searched_range():
    point = TunedPoint(1e5, 1e7, surface())
    figure = draw_surface(point, Fit().table)
    minimum = figure.data[-1]
    assert (minimum.x, minimum.y) == ((0.01,), (1024.0,))
    assert minimum.error_x.array == pytest.approx([0.01])
    assert minimum.error_x.arrayminus == pytest.approx([0.005])
    assert minimum.error_y.array == pytest.approx([1024.0])
    assert minimum.error_y.arrayminus == pytest.approx([1024.0 - 256.0])
    # The batch has no lower end, so the minimum is drawn as unsure.
    assert minimum.name == "minimum, 90% interval (open: not bounded)"
    assert minimum.marker.symbol == "diamond-open"


def test_the_title_of_a_surface_says_where_no_minimum_lies_inside_the_searched_ranges():
    at_edge = surface()
    lr, batch = (at_edge.optima[name] for name in ("lr", "batch_tokens"))
    assert (lr.edge, batch.edge) == (None, "low")
    assert _surface_title(TunedPoint(1e5, 1e7, at_edge)) == (
        f"N = {short(1e5)}, D = {short(1e7)}: no minimum inside the searched ranges, least at peak "
        f"learning rate {short(lr.value)}, batch {short(1024.0)} (low end)"
    )
    batch = batch.model_copy(update={"edge": None})
    inside = replace(at_edge, optima={"lr": lr, "batch_tokens": batch})
    title = _surface_title(TunedPoint(1e5, 1e7, inside))
    assert title.startswith(f"N = {short(1e5)}, D = {short(1e7)}: least at ")
    assert title.endswith(f"batch {short(1024.0)}")


def test_the_colours_of_a_surface_reach_its_middle_where_little_of_it_is_near_the_minimum(
    monkeypatch,
):
    point = TunedPoint(1e5, 1e7, surface())
    assert draw_surface(point, Fit().table).data[0].contours.end == 0.1
    steep = surface_data(point).with_columns(excess=pl.col("excess") + 0.5)
    monkeypatch.setattr(figures_module, "surface_data", lambda _: steep)
    highest = draw_surface(point, Fit().table).data[0].contours.end
    assert highest == pytest.approx(steep["excess"].median(), rel=0.3)


def test_a_study_without_laws_gives_no_recipe_and_no_unit_to_what_it_lacks():
    def html() -> str:
        return study_page("s", fit, "", fit.table, {}).html()

    fit = Fit()
    assert "As a recipe for other sizes: lr = 2" in html()
    fit.lr = fit.recipe_lr = fit.recipe_batch = NONE
    assert "As a recipe" not in html()
    assert "no minimum) tokens" not in html()


def test_what_mattered_most_is_what_mattered_most_over_all_sizes():
    figure = draw_importances({"a": {"lr": 0.9, "beta2_gap": 0.1}, "b": {"beta2_gap": 0.95}})
    assert [bar.name for bar in figure.data] == ["a", "b"]
    assert [list(bar.x) for bar in figure.data] == [[0.1, 0.9], [0.95, 0.0]]
    assert "to the search: 1 − beta2" in figure.layout.title.text
