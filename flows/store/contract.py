"""The contract of a store: named objects that appear whole."""

from typing import Protocol


class StoreError(RuntimeError):
    """The store cannot be reached, or cannot read or write a file."""


class StoreContentError(StoreError):
    """What the store holds is missing, damaged or another run's; a retry would fail again."""


class Store(Protocol):
    """Files by name; every method raises StoreError for any failure."""

    def put(self, name: str, content: bytes) -> None:
        """Write a file whole."""

    def get(self, name: str) -> bytes:
        """The content of a file."""

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder, without its path; empty if there is no such folder."""

    def remove(self, name: str) -> None:
        """Remove a file."""
