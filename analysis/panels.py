"""A figure of panels side by side as one figure for each, which a narrow screen puts below."""

from typing import Any

Spec = dict[str, Any]


def panels(spec: Spec) -> list[tuple[Spec, float]]:
    """Its panels as figures of their own, and the share of the width that each had.

    Each has its own legend. A trace that the whole figure lists once is listed in the legend of
    every panel that draws it. A panel whose axes are hidden has nothing to show and is left out.

    Args:
        spec: data and layout as plotly.js takes them, each panel with a pair of axes.
    """
    layout, traces = spec["layout"], spec["data"]
    common = {key: value for key, value in layout.items() if not _is_axis(key)}
    parts = []
    for x, y in dict.fromkeys(map(_axes, traces)):
        across, up = (dict(layout.get(_key(axis), {})) for axis in (x, y))
        if across.get("visible") is False:
            continue
        left, right = across.pop("domain", (0.0, 1.0))
        for axis in (across, up):
            axis.pop("domain", None)
            axis.pop("anchor", None)
        own = {
            **common,
            "xaxis": across,
            "yaxis": up,
            "shapes": [_moved(shape, x, y) for shape in _of(layout.get("shapes", ()), x, y)],
        }
        drawn = [_moved(trace, x, y) for trace in traces if _axes(trace) == (x, y)]
        parts.append(({"data": _with_legend(drawn), "layout": own}, right - left))
    return parts


def _is_axis(key: str) -> bool:
    return key.rstrip("0123456789") in ("xaxis", "yaxis")


def _axes(trace: Spec) -> tuple[str, str]:
    return trace.get("xaxis", "x"), trace.get("yaxis", "y")


def _key(axis: str) -> str:
    """The name in a layout of an axis: of x2, xaxis2."""
    return f"{axis[0]}axis{axis[1:]}"


def _of(shapes: list[Spec], x: str, y: str) -> list[Spec]:
    """The shapes that are drawn on a pair of axes."""
    return [s for s in shapes if (s["xref"].split()[0], s["yref"].split()[0]) == (x, y)]


def _moved(part: Spec, x: str, y: str) -> Spec:
    """A trace or a shape on the first pair of axes."""
    refs = {
        ref: part[ref].replace(axis, axis[0], 1)
        for ref, axis in (("xref", x), ("yref", y))
        if ref in part
    }
    return {**part, **refs} if refs else {**part, "xaxis": "x", "yaxis": "y"}


def _with_legend(traces: list[Spec]) -> list[Spec]:
    """With an entry for each group that has none here, by the first of its traces with a name."""
    entered = {trace.get("legendgroup") for trace in traces if trace.get("showlegend", True)}
    whole = []
    for trace in traces:
        group = trace.get("legendgroup")
        if group and group not in entered and trace.get("name"):
            entered.add(group)
            trace = {**trace, "showlegend": True}
        whole.append(trace)
    return whole
