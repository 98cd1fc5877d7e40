"""What every view has: a title, controls, a body, and a stamp that changes when the body would."""

from typing import Any

from dash.development.base_component import Component

from analysis.page import Drawn, Page
from flows.dashboard.address import Address
from flows.dashboard.fits import Outcome
from flows.dashboard.render import components
from flows.dashboard.subjects import Desk


class NotHereError(LookupError):
    """There is no such view; the message says what there is."""


def add_note(page: Page, outcome: Outcome[Any]) -> None:
    """Say what an answer waits for, or why there is none; nothing of one that is there."""
    if outcome.note:
        page.text(outcome.note, role="warn" if outcome.failure else "busy")


class Screen:
    """A view at an address.

    Raises:
        NotHereError: there is nothing at the address.
    """

    title = "isoflop"

    def __init__(self, desk: Desk, address: Address) -> None:
        self.desk = desk
        self.address = address

    def controls(self) -> list[Component]:
        """What stays while the body changes."""
        return []

    def stamp(self) -> str:
        """What changes when the body would; cheap, for it is asked for every other second."""
        return ""

    def body(self) -> list[Component]:
        """What the view shows: its page, unless it shows more."""
        return components(self.page(), self.beside, self.links())

    def beginning(self) -> list[Component]:
        """What of the body a person waits for after a change: to the first figure, or all."""
        return self.body()

    def page(self) -> Page:
        """The page of an analysis room that the view shows."""
        return self.desk.pages.get(str(self.address), self.stamp(), self.make_page)

    def make_page(self) -> Page:
        """The page, made anew."""
        return Page(self.title)

    def links(self) -> dict[str, str]:
        """Addresses of runs and sweeps, by the names that the page's tables begin with."""
        return {}

    def python(self, figure: str) -> str | None:
        """The Python of a figure; None where there is none."""
        return None

    def beside(self, part: Drawn) -> tuple[str | None, str | None]:
        """The address of a figure's data, and its Python."""
        data = None
        if part.data is not None:
            data = str(self.address.with_path("data", part.name, *self.address.path))
        return data, self.python(part.name)

    def csv(self, figure: str) -> str:
        """The data of one of its figures.

        Raises:
            NotHereError: it has no figure of that name with data.
        """
        part = self.page().figures.get(figure)
        if part is not None and part.data is not None:
            return part.data.write_csv()
        raise NotHereError(f"there is no figure {figure!r} with data at {self.address}.")
