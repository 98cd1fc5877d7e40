"""A body in parts, so that another body of the same parts takes its place without a new drawing.

Dash makes all anew below a component whose children change, and draws a new figure twice. So
figures stand beside what is between them, and are changed where they are: those on the first
screen, which a person waits for, before the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from dash import ALL, Output, html, no_update
from dash.development.base_component import Component

from flows.dashboard.render import graphs_of

# Of the two kinds of parts.
OUTPUTS = (
    Output({"between": ALL}, "children", allow_duplicate=True),
    Output({"figure": ALL}, "figure", allow_duplicate=True),
)

# The ids of these on the page.
There = tuple[list[Any], list[Any]]


@dataclass(frozen=True, slots=True)
class Parts:
    """A body as figures in their boxes, and the boxes of what is before, between and after."""

    between: list[Any]
    figures: list[Any]

    @classmethod
    def of(cls, body: Sequence[Component]) -> "Parts":
        """The parts of a body; a folded figure belongs to what is between others."""
        between: list[list[Component]] = [[]]
        figures = []
        for each in body:
            if graphs_of(each):
                figures.append(each)
                between.append([])
            else:
                between[-1].append(each)
        names = ["top", *map(_name, figures), "end"]
        boxes: list[Any] = [
            html.Div(children, id={"between": f"{before} and {after}"})
            for children, before, after in zip(between, names[:-1], names[1:], strict=True)
        ]
        return cls(boxes, figures)

    @property
    def components(self) -> list[Component]:
        """All of them in reading order."""
        pairs = zip(self.between, self.figures, strict=False)
        return [*chain.from_iterable(pairs), self.between[-1]]

    def beginning(self, there: There) -> tuple[list[Any], list[Any]] | None:
        """The values of `OUTPUTS` that change a page to its first figure; None for other parts.

        The body may end with its first figure.
        """
        between, figures = there
        ids = [box.id for box in self.between]
        # The last box is named by what ends the body.
        if (ids[:-1] != between[: len(ids) - 1]) if self.figures else ids != between:
            return None
        drawn = _drawn(self.figures[:1])
        return (
            [self.between[0].children, *([no_update] * (len(between) - 1))],
            [drawn.get(each["figure"], no_update) for each in figures],
        )

    def rest(self, there: There) -> tuple[list[Any], list[Any]] | None:
        """The values of `OUTPUTS` that change what follows; None for a page of other parts."""
        between, figures = there
        if [box.id for box in self.between] != between:
            return None
        drawn = _drawn(self.figures[1:])
        return (
            [no_update, *(box.children for box in self.between[1:])],
            [drawn.get(each["figure"], no_update) for each in figures],
        )


def _drawn(boxes: Sequence[Any]) -> dict[str, Any]:
    """What the graphs in some boxes draw, by their names."""
    return {graph.id["figure"]: graph.figure for box in boxes for graph in graphs_of(box)}


def _name(box: Any) -> str:
    """A figure's name with the sizes of its graphs: only what they draw is changed in place."""
    graphs = [(each.id["figure"], each.style) for each in graphs_of(box)]
    return " ".join(f"{name} {style['height']} {style['flex']}" for name, style in graphs)
