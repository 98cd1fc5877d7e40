"""What a store is: named objects that appear whole."""

from typing import Protocol


class StoreError(RuntimeError):
    """The store cannot be reached, or cannot read or write a file."""


class StoreContentError(StoreError):
    """What the store holds is missing, damaged or not what it says; waiting does not mend it."""


class Store(Protocol):
    """Files by name; every method raises StoreError for whatever goes wrong."""

    def put(self, name: str, content: bytes) -> None:
        """Write a file whole; there is nothing to append or to lock."""

    def get(self, name: str) -> bytes:
        """The content of a file."""

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder, without it; none where there is no such folder."""

    def remove(self, name: str) -> None:
        """Remove a file."""
