"""Every figure has the same fonts, title and axes, and no axis counts in giga."""

import numpy as np
import plotly.graph_objects as go
import polars as pl
import pytest

from analysis import published
from analysis.compare.answer import Comparison, Matched
from analysis.compare.figures import draw_pairs
from analysis.fit.answer import fit_table
from analysis.fit.figures import (
    cloud_data,
    contour_data,
    draw_cloud,
    draw_contours,
    draw_fit,
    draw_profiles,
    fit_data,
    profile_data,
)
from analysis.fit.options import FitOptions
from analysis.fit.run_figures import draw_isoflop, draw_loss_curves, isoflop_data
from analysis.frontier.figures import (
    draw_frontier,
    draw_life,
    draw_regret,
    frontier_data,
    life_data,
    regret_data,
)
from analysis.frontier.serving import Device
from analysis.retrodict.answer import retrodict
from analysis.retrodict.dollar_figures import draw_results, draw_serving, results_data, serving_data
from analysis.retrodict.figures import bill_data, draw_bill, draw_contour
from analysis.retrodict.figures import contour_data as contour_of
from analysis.style import axis, log_ticks, styled
from analysis.table.columns import normalise
from analysis.tuning.answer import fit_lr
from analysis.tuning.figures import draw_importances, draw_law, draw_surface, law_data
from analysis.tuning.trials import read_lr_table
from analysis.words import short
from tests.conftest import ROOT
from tests.simulated import isoflops, table

LAW = published.law("besiroglu")


def figures() -> dict[str, go.Figure]:
    """Every figure of the analysis, from small tables."""
    [group] = fit_table(normalise(table(*isoflops(), noise=0.005)), FitOptions(bootstrap=20))
    valleys = isoflop_data(group.used, group.isoflop)
    study = fit_lr(read_lr_table(ROOT / "tests" / "data" / "tuning" / "study.csv").frame)
    point = study.points[0]
    device = Device.named("a100")
    sold = {"prompt_tokens": 0.0, "generated_tokens": 1e12, "device": device}
    pairs = pl.DataFrame({"n_params": [10, 10], "tokens": [1e9, 2e9], "difference": [0.1, -0.1]})
    compared = Comparison(("a", "b"), (None, None), (), False, 0.9, (), Matched(pairs, None, None))
    curves = pl.DataFrame(
        {"run_id": ["a"], "name": ["a"], "n_params": [10], "tokens": [1e9], "train_flops": [1e10],
         "loss": [3.0]}
    )  # fmt: skip
    return {
        "fit": draw_fit(fit_data(group)),
        "contours": draw_contours(contour_data(group), group),
        "cloud": draw_cloud(cloud_data(group), group),
        "profiles": draw_profiles(profile_data(group)),
        "isoflop": draw_isoflop(valleys, group.isoflop),
        "curves": draw_loss_curves(curves),
        "frontier": draw_frontier(frontier_data(LAW)),
        "life": draw_life(life_data(LAW, 2.1, 1e12)),
        "regret": draw_regret(regret_data((1e12,), LAW.loss([[1e9]], [[1e10]]))),
        "bill": draw_bill(bill_data(retrodict([LAW]))),
        "contour": draw_contour(contour_of(LAW, 7e9, 1e12), "LLaMA-7B"),
        "serving": draw_serving(serving_data(LAW, 2.1, **sold)),
        "results": draw_results(results_data(device)),
        "surface": draw_surface(point, study.table),
        "law": draw_law(law_data(study)),
        "importances": draw_importances({"N = 1": {"lr": 1.0}}),
        "pairs": draw_pairs(pairs, compared, "nats per token"),
    }


@pytest.fixture(scope="module")
def drawn() -> dict[str, go.Figure]:
    return figures()


def test_every_figure_has_the_house_look(drawn: dict[str, go.Figure]) -> None:
    house = styled(go.Figure(), "").layout
    for name, figure in drawn.items():
        layout = figure.layout
        assert layout.title.text, name
        for part in ("font", "colorway", "hoverlabel"):
            assert getattr(layout, part) == getattr(house, part), (name, part)
        assert layout.title.font == house.title.font, name
        assert layout.xaxis.gridcolor == house.xaxis.gridcolor, name
        # Plotly's own, for forty kinds of trace, takes longer to check than a figure to draw.
        assert layout.template == house.template, name
        assert len(str(layout.template.to_plotly_json())) < 1000


def test_no_axis_and_no_hover_label_counts_in_giga(drawn: dict[str, go.Figure]) -> None:
    for name, figure in drawn.items():
        for key in figure.layout:
            if key.startswith(("xaxis", "yaxis")):
                assert figure.layout[key].exponentformat in ("B", "power", None), (name, key)
        for trace in figure.data:
            assert ".3s" not in (trace.hovertemplate or ""), name
            assert ".4s" not in (trace.hovertemplate or ""), name


@pytest.mark.parametrize(
    ("low", "high"), [(9e10, 1.3e11), (1e9, 1.02e9), (1.4e9, 1.5e10), (3e6, 8e14)]
)
def test_ticks_of_a_log_axis_lie_inside_and_apart(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    places = np.log(np.array(ticks["tickvals"]) / low) / np.log(high / low)
    # Rounded to one digit a tick moves by a tenth of two decades at most.
    assert len(places) == 3
    assert (np.diff(places) > 0.2).all()
    assert 0 <= places[0] < places[-1] <= 1
    assert ticks["ticktext"] == [short(tick) for tick in ticks["tickvals"]]


def test_sizes_on_a_profile_have_ticks_that_keep_apart(drawn: dict[str, go.Figure]) -> None:
    axes = drawn["profiles"].layout
    for name in ("xaxis2", "xaxis3"):
        assert axes[name].type == "log"
        assert 1 < len(axes[name].tickvals) <= 3
        assert len(set(axes[name].ticktext)) == len(axes[name].tickvals)


def test_an_axis_of_flops_is_in_powers_and_one_of_counts_in_letters() -> None:
    assert axis("C", log=True, flops=True)["exponentformat"] == "power"
    assert axis("N", log=True) == {
        "title": {"text": "N"}, "type": "log", "exponentformat": "B"
    }  # fmt: skip


def test_a_style_keeps_what_a_figure_has_and_replaces_the_template_and_the_grid():
    figure = go.Figure(layout={"legend": {"y": 1.0, "bgcolor": "white"}, "xaxis2": {"nticks": 3}})
    figure.update_layout(template="plotly", xaxis={"range": [0, 1], "title": {"text": "before"}})
    layout = styled(figure, "a title", {"title": {"text": "after"}}).to_dict()["layout"]
    assert layout["legend"] == {"y": -0.18, "bgcolor": "white", "orientation": "h", "x": 0}
    assert layout["xaxis"]["title"] == {"text": "after"}
    assert layout["xaxis"]["range"] == [0, 1]
    assert layout["xaxis2"] == {"nticks": 3} | {
        name: layout["yaxis"][name] for name in ("gridcolor", "zeroline", "automargin")
    }
    assert "scatter" not in layout["template"]["data"]


def test_eight_sizes_of_a_comparison_have_eight_colours() -> None:
    sizes = range(1, 9)
    pairs = pl.DataFrame({"n_params": sizes, "tokens": [1e9] * 8, "difference": [0.1] * 8})
    compared = Comparison(("a", "b"), (None, None), (), False, 0.9, (), Matched(pairs, None, None))
    lines = draw_pairs(pairs, compared, "nats per token").data
    assert len({line.line.color for line in lines}) == 8
