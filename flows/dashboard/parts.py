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

# Of the two kinds of parts, in the order of `Change`.
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

    def in_place(self, there: There, *, first: bool) -> tuple[list[Any], list[Any]] | None:
        """The values of `OUTPUTS` that change a page; None for a page of other parts.

        Args:
            first: the first figure and what is before it; else the others.
        """
        between, figures = there
        if [box.id for box in self.between] != between:
            return None
        chosen = self.figures[:1] if first else self.figures[1:]
        drawn = {graph.id["figure"]: graph.figure for box in chosen for graph in graphs_of(box)}
        return (
            [
                box.children if (place == 0) == first else no_update
                for place, box in enumerate(self.between)
            ],
            [drawn.get(each["figure"], no_update) for each in figures],
        )


def _name(box: Any) -> str:
    """A figure's name with the sizes of its graphs: only what they draw is changed in place."""
    graphs = [(each.id["figure"], each.style) for each in graphs_of(box)]
    return " ".join(f"{name} {style['height']} {style['flex']}" for name, style in graphs)
