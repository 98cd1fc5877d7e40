"""Pages of the analysis rooms, and tables with links, as Dash components.

All text becomes text: React escapes it, and no component here takes markup.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from analysis.page import Drawn, Folded, Grid, Heading, KeyFigures, Page, Part, Points, Text

Cell = str | Component
# For a figure's name: the address of its data, and its Python; None where it has none.
Beside = Callable[[Drawn], tuple[str | None, str | None]]
_Other = Heading | Text | Points | KeyFigures
_MANY = 6
_CONFIG: Any = {"displayModeBar": False, "responsive": True}


def components(page: Page, beside: Beside, links: Mapping[str, str]) -> list[Component]:
    """The parts of a page in reading order, without its title.

    Args:
        links: addresses of what tables name in their first column.
    """
    return _components(page.parts, beside, links)


def _components(parts: Sequence[Part], beside: Beside, links: Mapping[str, str]) -> list[Component]:
    first = next((k for k, part in enumerate(parts) if isinstance(part, Heading)), len(parts))
    made: list[Component] = []
    for place, part in enumerate(parts):
        match part:
            case Grid():
                made.append(_table_of(part, links))
            case Folded(title, inner):
                summary = html.Summary(title)
                made.append(
                    html.Details([summary, *_components(inner, beside, links)], className="fold")
                )
            case Drawn():
                # Its title is a heading below a section's, or where there is none, one.
                made += _figure(part, beside, html.H3 if place > first else html.H2)
            case _:
                made.append(_component(part))
    return made


def _table_of(grid: Grid, links: Mapping[str, str]) -> Component:
    rows = [
        [link(row[0], links[row[0]]) if row[0] in links else row[0], *row[1:]] for row in grid.rows
    ]
    return table(grid.header, rows, classes=grid.classes)


def _component(part: _Other) -> Component:
    match part:
        case Heading(text):
            return html.H2(text)
        case Text(text, role):
            return html.P(text, className=role)
        case Points(items):
            return html.Ul([html.Li(item) for item in items])
        case KeyFigures(items):
            return html.Div(
                [
                    html.Div([html.B(value), html.Span(words)], className="key")
                    for value, words in items
                ],
                className="keys",
            )


def _figure(part: Drawn, beside: Beside, heading: Callable[..., Component]) -> list[Component]:
    """A figure's title, its box, and its data and its Python below."""
    title_id, below_id = f"title-{part.name}", f"beside-{part.name}"
    style = {"height": f"{part.height}px"}
    if part.least_width:
        style["minWidth"] = f"{part.least_width}px"
    graphs = [
        dcc.Graph(
            id={"figure": name}, figure=spec, config=_CONFIG, style=style | {"flex": flex},
            responsive=True,
        )
        for name, flex, spec in part.boxes()
    ]  # fmt: skip
    # Named by its title, whose words change beside it.
    words = aria(labelledby=title_id) if part.title else aria(label=f"Figure {part.name}")
    box = html.Div(
        graphs, id=f"figure-{part.name}", className=part.kind, tabIndex="0", role="img", **words,
        **aria(describedby=below_id),
    )  # fmt: skip
    data, python = beside(part)
    below: list[Component] = []
    if data is not None:
        below.append(html.A(["data (CSV)"], href=data, download=f"{part.name}.csv"))
    if python is not None:
        code = html.Pre(html.Code(python), tabIndex="0", className="code")
        below.append(html.Details([html.Summary("Python"), code]))
    title = [heading(part.title, id=title_id, className="title")] if part.title else []
    return [*title, box, html.Div(below, id=below_id, className="beside")]


def graphs_of(component: Component) -> list[Any]:
    """The graphs in a figure's box; none of another component."""
    inside = getattr(component, "children", None)
    return (
        [each for each in inside if isinstance(each, dcc.Graph)] if isinstance(inside, list) else []
    )


def table(
    header: Sequence[Cell],
    rows: Sequence[Sequence[Cell]],
    *,
    classes: Sequence[str] = (),
    label: str = "",
    sorted_by: tuple[int, str] | None = None,
) -> Component:
    """A table that scrolls in its box on a narrow screen.

    Args:
        classes: of each column's cells.
        label: what it is of, for a screen reader; else its header says so.
        sorted_by: the column by which it is sorted, and `ascending` or `descending`.
    """
    names = [*classes, *[""] * (len(header) - len(classes))]
    order: dict[int, dict[str, Any]] = {}
    if sorted_by is not None:
        order[sorted_by[0]] = {"aria-sort": sorted_by[1]}
    head = [
        html.Th(cell, scope="col", className=name, **order.get(column, {})) if cell else html.Td()
        for column, (cell, name) in enumerate(zip(header, names, strict=True))
    ]
    body = [
        html.Tr([html.Td(cell, className=name) for cell, name in zip(row, names, strict=True)])
        for row in rows
    ]
    # On a narrow screen a table of many columns scrolls anyway: its headings stay in one line.
    many = "many" if len(header) > _MANY else ""
    words = label or "Table: " + ", ".join(cell for cell in header if isinstance(cell, str))
    return html.Div(
        html.Table([html.Thead(html.Tr(head)), html.Tbody(body)], className=many),
        className="scroll", tabIndex="0", role="region", **aria(label=words),
    )  # fmt: skip


def aria(**words: str) -> dict[str, Any]:
    """Attributes for a screen reader, as in aria-label."""
    return {f"aria-{name}": text for name, text in words.items()}


def link(text: str, href: str) -> Component:
    """A link to another view."""
    return dcc.Link(text, href=href)
