"""An answer as a person sees it in Python: as text, in a notebook, its figures and its page."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import polars as pl

from analysis.layout import table_lines, wrapped
from analysis.page import Drawn, Grid, Heading, KeyFigures, Page, Part, Points, Text, markup
from flows.files import write_whole

_WIDTH = 100


class Shown(ABC):
    """What every answer has: figures by name, the page of `--report` and the data of `--json`.

    Printed, or as the last line of a notebook's cell, it shows what its page begins with.
    """

    @abstractmethod
    def _drawn_page(self) -> Page:
        """The page of `--report`."""

    @abstractmethod
    def json(self) -> Any:
        """What `--json` writes: plain data with every digit."""

    @cached_property
    def page(self) -> Page:
        """The page of `--report`."""
        return self._drawn_page()

    @property
    def figures(self) -> tuple[str, ...]:
        """The names that `figure` and `data` take."""
        return tuple(self._figures)

    def figure(self, name: str) -> go.Figure:
        """A figure of the page, for Plotly to show.

        Raises:
            ValueError: there is no figure of that name; the message lists those there are.
        """
        return self._figure(name).figure

    def data(self, name: str) -> pl.DataFrame:
        """What a figure is drawn from, one row a point.

        Raises:
            ValueError: there is no figure of that name, or the page keeps no data of it.
        """
        data = self._figure(name).data
        if data is None:
            raise ValueError(f"the figure {name!r} comes without its data.")
        return data

    def report(self, path: str | Path) -> None:
        """Write the page of `--report`, which opens without a network."""
        write_whole(Path(path), self.page.html())

    @cached_property
    def _figures(self) -> Mapping[str, Drawn]:
        """By name; what stands before a dash is left out where one group has figures."""
        drawn = self.page.figures
        short = {name.partition("0-")[2] or name: each for name, each in drawn.items()}
        several = any("1-" in name for name in drawn)
        return drawn if several or len(short) < len(drawn) else short

    def _figure(self, name: str) -> Drawn:
        if name not in self._figures:
            raise ValueError(f"no figure {name!r}. There are {', '.join(self.figures) or 'none'}.")
        return self._figures[name]

    def __repr__(self) -> str:
        lines = (line for part in self.page.answer for line in _lines(part))
        return "\n".join([self.page.title, *lines])

    def _repr_html_(self) -> str:
        return "\n".join([f"<h4>{escape(self.page.title)}</h4>", *map(markup, self.page.answer)])


def _lines(part: Part) -> list[str]:
    match part:
        case Heading(text):
            return ["", text]
        case Text(text):
            return wrapped(text, _WIDTH)
        case Points(items):
            return [line for item in items for line in wrapped(f"- {item}", _WIDTH)]
        case KeyFigures(items):
            return [f"{value}  {words}" for value, words in items]
        case Grid():
            return table_lines(part.header, part.rows, width=_WIDTH, indent="")
        case _:
            return []
