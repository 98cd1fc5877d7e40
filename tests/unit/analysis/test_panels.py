import json
from types import SimpleNamespace

import polars as pl
import pytest
from plotly.subplots import make_subplots

from analysis.fit.run_figures import draw_isoflop
from analysis.panels import panels


def spec_of(figure):
    return json.loads(figure.to_json())


@pytest.fixture
def figure():
    figure = make_subplots(cols=2, column_widths=[0.7, 0.3])
    for col, x in ((1, [1]), (2, [2])):
        figure.add_scatter(
            x=x, y=x, name="both", legendgroup="g", showlegend=col == 1, row=1, col=col
        )
        figure.add_hline(y=col, row=1, col=col)
        figure.update_xaxes(title=f"axis {col}", row=1, col=col)
    return figure


def test_every_panel_keeps_its_points_axes_and_lines_and_its_share_of_the_width(figure):
    parts = panels(spec_of(figure))
    for k, (spec, _) in enumerate(parts, 1):
        [trace], [line] = spec["data"], spec["layout"]["shapes"]
        assert (trace["x"], trace["xaxis"], trace["yaxis"]) == ([k], "x", "y")
        assert (line["y0"], line["xref"], line["yref"]) == (k, "x domain", "y")
        assert spec["layout"]["xaxis"]["title"]["text"] == f"axis {k}"
        assert "domain" not in spec["layout"]["xaxis"]
        assert "xaxis2" not in spec["layout"]
    (_, first), (_, second) = parts
    assert first / second == pytest.approx(0.7 / 0.3)


def test_every_panel_has_a_legend_of_what_it_draws(figure):
    for spec, _ in panels(spec_of(figure)):
        assert [trace.get("showlegend", True) for trace in spec["data"]] == [True]


def test_a_panel_without_a_point_is_left_out():
    run = {"kind": "run", "flops_budget": 1e12, "n_params": 1e5, "loss": 3.0, "label": "d16"}
    data = pl.DataFrame([run | {"low": None, "high": None}])
    assert len(panels(spec_of(draw_isoflop(data, SimpleNamespace(N=None))))) == 1
