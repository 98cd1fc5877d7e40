"""The picture of what changes are worth: one row a variant, ranked."""

from math import isfinite

import plotly.graph_objects as go
import polars as pl

from analysis.compare.speedup import Multiplier
from analysis.compare.speedup_text import shown
from analysis.compare.variants import Variants
from analysis.style import INK, MARK, SOFT, WARN, axis, error_bars, legend_above, styled
from analysis.words import flops

_WHAT = ("common budget", "all common budgets", "target")


def speedup_data(variants: Variants) -> pl.DataFrame:
    """Every compute multiplier: variant, what, flops, value, lower, upper, text."""
    rows = []
    for each in variants.ranked:
        if each.speedup is None:
            continue
        lead = each.speedup.lead
        points: list[tuple[str, float | None, Multiplier]] = [
            (_WHAT[0], at.flops, at.compute) for at in lead.by_budget
        ]
        points.append((_WHAT[1], None, lead.pooled))
        if lead.projection is not None:
            points.append((_WHAT[2], lead.projection.flops, lead.projection.compute))
        rows += [
            {
                "variant": each.name,
                "what": what,
                "flops": at,
                "value": multiplier.value if isfinite(multiplier.value) else None,
                "lower": multiplier.lower,
                "upper": multiplier.upper,
                "text": shown(multiplier),
            }
            for what, at, multiplier in points
        ]
    types = {"flops": pl.Float64, "value": pl.Float64, "lower": pl.Float64, "upper": pl.Float64}
    schema = {"variant": pl.String, "what": pl.String, **types, "text": pl.String}
    return pl.DataFrame(rows, schema=schema)


def draw_speedup(data: pl.DataFrame, variants: Variants) -> go.Figure:
    """Multipliers with their bars, the best variant on top; right of 1 the variant needs less."""
    figure = go.Figure()
    names = data["variant"].unique(maintain_order=True).to_list()
    looks = {
        _WHAT[0]: {"color": SOFT, "size": 6, "symbol": "line-ns-open"},
        _WHAT[1]: {"color": MARK, "size": 12, "symbol": "circle"},
        _WHAT[2]: {"color": WARN, "size": 11, "symbol": "diamond"},
    }
    for what, marker in looks.items():
        part = data.filter(pl.col("what") == what, pl.col("value").is_not_null())
        bars = None
        if what != _WHAT[0]:
            # An end without a limit leaves the picture.
            upper = part["upper"].fill_null(100.0)
            bars = error_bars(str(marker["color"]), part["value"], part["lower"], upper)
            # Without an interval a multiplier is the least certain, and looks so.
            symbol = marker["symbol"]
            marker = marker | {
                "symbol": [f"{symbol}-open-dot" if low is None else symbol for low in part["lower"]]
            }
        # The target's bar lies below the other, so that both are seen.
        rows = [names.index(name) + (0.2 if what == _WHAT[2] else 0.0) for name in part["variant"]]
        where = ["" if at is None else f" at C = {flops(at)}" for at in part["flops"]]
        labels = [f"<b>{name}</b>{at}" for name, at in zip(part["variant"], where, strict=True)]
        figure.add_scatter(
            x=part["value"], y=rows, mode="markers", name=what, marker=marker,
            error_x=bars, text=part["text"], customdata=labels,
            hovertemplate="%{customdata}<br>%{text}<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=1, line={"color": INK, "width": 1, "dash": "dot"})
    # Names lie above their bars: beside them, long ones would leave a phone no room for bars.
    for row, name in enumerate(names):
        figure.add_annotation(
            text=name, x=0, xref="paper", xanchor="left", y=row, yanchor="bottom", yshift=4,
            showarrow=False, font={"color": INK},
        )  # fmt: skip
    figure.update_yaxes(
        range=[len(names) - 0.4, -0.6], tickvals=list(range(len(names))), showticklabels=False
    )
    gains = [each.speedup.lead.pooled.gain for each in variants.ranked if each.speedup]
    better = f"{sum(gains)} of {len(variants.ranked)}"
    if len(variants.ranked) == 1:
        better = f"{variants.ranked[0].name} is {'' if any(gains) else 'not '}"
    styled(
        figure,
        f"{better.strip()} shown to need less compute than {variants.baseline}; bars are "
        f"{variants.level:.0%} intervals",
        axis("times less compute for the same loss", log=True),
    )
    return legend_above(figure).update_layout(margin_l=10)
