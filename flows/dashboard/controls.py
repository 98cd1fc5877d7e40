"""Controls of a view: native inputs with labels, whose values are the view's query."""

import json
from collections.abc import Mapping, Sequence

from dash import dcc, html
from dash.development.base_component import Component


def identity(name: str) -> dict[str, str]:
    """The id of a control; its name is the query's."""
    return {"control": name}


def choice(name: str, label: str, options: Mapping[str, str], value: str) -> Component:
    """One of several, each with its words."""
    radio = dcc.RadioItems(
        id=identity(name),
        options=[{"label": words, "value": key} for key, words in options.items()],
        value=value,
    )
    return html.Fieldset([html.Legend(label), radio], className="control wide")


def choices(name: str, label: str, options: Sequence[str], value: Sequence[str]) -> Component:
    """Several of several."""
    boxes = dcc.Checklist(id=identity(name), options=list(options), value=list(value))
    return html.Fieldset([html.Legend(label), boxes], className="control wide")


def slider(
    name: str, label: str, ends: tuple[float, float], step: float, value: float
) -> Component:
    """A number between two others."""
    entry = dcc.Input(
        id=identity(name), type="range", min=ends[0], max=ends[1], step=step, value=value
    )
    return html.Div([html.Label(label, htmlFor=_dom(name)), entry], className="control")


def search(name: str, label: str, value: str) -> Component:
    """Words that a row must hold."""
    entry = dcc.Input(id=identity(name), type="search", value=value, debounce=0.2)
    return html.Div([html.Label(label, htmlFor=_dom(name)), entry], className="control")


def as_text(value: object) -> str:
    """A control's value as the query holds it."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _dom(name: str) -> str:
    """The id that Dash gives the element."""
    return json.dumps(identity(name), separators=(",", ":"))
