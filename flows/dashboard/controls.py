"""Controls of a view: native inputs with labels, whose values are the view's query."""

import json
from collections.abc import Mapping, Sequence

from dash import dcc, html
from dash.development.base_component import Component

from flows.dashboard.address import Address
from flows.dashboard.render import aria, link


def identity(name: str) -> dict[str, str]:
    """The id of a control; its name is the query's."""
    return {"control": name}


def choice(
    address: Address, name: str, label: str, options: Mapping[str, str], value: str
) -> Component:
    """One of several as links to the same view, each with its words.

    It belongs into a view's body, whose address is that of all controls as they are.
    """
    links: list[Component] = []
    for key, words in options.items():
        if key == value:
            links.append(html.Span(words, className="chosen", **aria(current="true")))
        else:
            links.append(link(words, str(address.with_query(**{name: key}))))
    return _group(label, links)


def choices(
    address: Address, name: str, label: str, options: Sequence[str], value: Sequence[str]
) -> Component:
    """Several of several as links: the chosen ones in their order, each left out by a click, then
    those that a click adds."""
    links: list[Component] = []
    for each in value:
        rest = [other for other in value if other != each]
        there = address.with_query(**{name: ",".join(rest) or None})
        links.append(html.Span(link(f"{each} ✕", str(there)), className="chosen"))
    for each in options:
        if each not in value:
            there = address.with_query(**{name: ",".join([*value, each])})
            links.append(link(f"+ {each}", str(there)))
    return _group(label, links)


def _group(label: str, links: list[Component]) -> Component:
    return html.Nav([html.Span(label, className="label"), *links], className="choice",
                    **aria(label=label))  # fmt: skip


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


def controls_state(parts: Sequence[Component]) -> dict[str, str]:
    """The values of the controls among some components, as the query holds them."""
    components = [
        each
        for part in parts
        for each in (part, *part._traverse())  # type: ignore[no-untyped-call]
    ]
    named = [each for each in components if isinstance(getattr(each, "id", None), dict)]
    return {each.id["control"]: as_text(each.value) for each in named}


def as_text(value: object) -> str:
    """A control's value as the query holds it."""
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _dom(name: str) -> str:
    """The id that Dash gives the element."""
    return json.dumps(identity(name), separators=(",", ":"))
