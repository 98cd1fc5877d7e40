"""The losses of each budget against N as an SVG image, for pages that show images alone."""

from base64 import b64encode

import numpy as np
import polars as pl

from analysis.style import INK, SOFT, ends, shades
from analysis.words import flops, short

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 380, 60, 120, 30, 50


def valleys_image(observations: pl.DataFrame) -> str | None:
    """The address of the image (data:image/svg+xml); None without a loss on a budget."""
    kept = observations.filter(
        pl.col("excluded_reason").is_null() & pl.col("flops_budget").is_not_null()
    )
    # Seeds of one size are one point.
    sizes = kept.group_by("flops_budget", "n_params").agg(pl.col("val_loss").mean())
    rows = sizes.sort("flops_budget", "n_params")
    if rows.is_empty():
        return None
    x = _Scale(rows["n_params"], _LEFT, _WIDTH - _RIGHT)
    y = _Scale(rows["val_loss"], _HEIGHT - _BOTTOM, _TOP)
    budgets = rows.partition_by("flops_budget")
    parts = []
    for group, colour in zip(budgets, shades(len(budgets)), strict=True):
        points = [(x(N), y(L)) for N, L in group.select("n_params", "val_loss").rows()]
        line = " ".join(f"{across:.1f},{down:.1f}" for across, down in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3.5" fill="{colour}"/>'
            for across, down in points
        ]
        across, down = points[-1]
        budget = flops(group["flops_budget"][0])
        parts.append(_text(across + 8, down + 4, f"C = {budget}", colour))
    for values, place in ((rows["n_params"], x), (rows["val_loss"], y)):
        for number in ends(values):
            if place is x:
                parts.append(
                    _text(x(number), _HEIGHT - _BOTTOM + 20, short(number), SOFT, "middle")
                )
            else:
                parts.append(_text(_LEFT - 10, y(number) + 4, f"{number:.3f}", SOFT, "end"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(_text(middle, _HEIGHT - 10, "parameters N", INK, "middle"))
    parts.append(_text(10, 16, "validation loss, nats/token, at each budget of FLOPs", INK))
    image = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>{"".join(parts)}</svg>'
    )
    return f"data:image/svg+xml;base64,{b64encode(image.encode()).decode()}"


class _Scale:
    """A log axis from the least to the largest value."""

    def __init__(self, values: pl.Series, start: float, end: float) -> None:
        logs = np.log(values.to_numpy())
        self._low, self._span = float(logs.min()), float(np.ptp(logs)) or 1.0
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        share = (float(np.log(value)) - self._low) / self._span
        return self._start + share * (self._end - self._start)


def _text(x: float, y: float, text: str, colour: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{text}</text>'
