"""Addresses of views: a path, and the state of its controls in the query."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode


def sweep_address(name: str) -> "Address":
    """The first view of a sweep; a variant is SWEEP/VARIANT, and SWEEP.VARIANT in an address."""
    return Address(("sweep", name.replace("/", ".")))


def sweep_name(part: str) -> str:
    """The sweep that a part of an address names."""
    return part.replace(".", "/")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a view is: `/sweep/demo/frontier?demand=12` is ("sweep", "demo", "frontier")."""

    path: tuple[str, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, pathname: str | None, search: str | None) -> "Address":
        """The address in a browser's location."""
        parts = (unquote(part) for part in (pathname or "").split("/"))
        return cls(tuple(filter(None, parts)), dict(parse_qsl((search or "").lstrip("?"))))

    def __str__(self) -> str:
        path = "/" + "/".join(quote(part, safe="") for part in self.path)
        return f"{path}?{urlencode(self.query, safe=',/')}" if self.query else path

    @property
    def search(self) -> str:
        """The query as a browser's location holds it."""
        return f"?{urlencode(self.query, safe=',/')}" if self.query else ""

    def get(self, name: str, default: str = "") -> str:
        """A control's state."""
        return self.query.get(name, default)

    def number(self, name: str, default: float) -> float:
        """A control's state as a number; the default where it is none."""
        try:
            value = float(self.query[name])
        except (KeyError, ValueError):
            return default
        return value if abs(value) < 1e300 else default

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """A control's state as one of several choices; the first where it is none of them."""
        value = self.get(name)
        return value if value in choices else choices[0]

    def with_query(self, **changes: str | None) -> "Address":
        """The same view with some controls set, or with those that are None left out."""
        query = {**self.query, **changes}
        return Address(self.path, {name: text for name, text in query.items() if text})

    def with_path(self, *path: str) -> "Address":
        """Another view with the same controls."""
        return Address(path, self.query)
