"""A line without axes, as small as a word: an SVG image of numbers alone."""

from base64 import b64encode
from collections.abc import Sequence

from analysis.style import MARK, WARN

_WIDTH, _HEIGHT, _EDGE = 120.0, 28.0, 3.0


def sparkline(values: Sequence[float]) -> str:
    """The address of an image (data:image/svg+xml) of values at even distances; last one marked.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("a sparkline of no values cannot be drawn: give one or more.")
    low, high = min(values), max(values)
    span, last = (high - low) or 1.0, max(len(values) - 1, 1)
    points = [
        (
            _EDGE + place / last * (_WIDTH - 2 * _EDGE),
            _EDGE + (high - value) / span * (_HEIGHT - 2 * _EDGE),
        )
        for place, value in enumerate(values)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    image = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}">'
        f'<polyline points="{path}" fill="none" stroke="{MARK}" stroke-width="1.5"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{WARN}"/></svg>'
    )
    return f"data:image/svg+xml;base64,{b64encode(image.encode()).decode()}"
