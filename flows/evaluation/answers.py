"""A cache on disk of the answers a model gives in an evaluation."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from flows.files import LineWriter, read_lines


class Answers:
    """An append-only file of answers by request; a killed process loses none it has written.

    Use it as a context manager.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Any] = {}

    def __enter__(self) -> Self:
        end = 0
        for (key, answer), line_end in read_lines(self._path, is_row=_is_answer):
            self._known[key], end = answer, line_end
        self._lines = LineWriter(self._path, end)
        return self

    def __exit__(self, *raised: object) -> None:
        self._lines.close()

    def keys(self, kind: str, requests: Iterable[Any]) -> list[str]:
        """A key for each request; repeats of a request get keys of their own."""
        times: Counter[str] = Counter()
        keys = []
        for arguments in requests:
            text = json.dumps([kind, arguments], sort_keys=True)
            times[text] += 1
            keys.append(hashlib.sha256(f"{times[text]} {text}".encode()).hexdigest())
        return keys

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __getitem__(self, key: str) -> Any:
        return self._known[key]

    def add(self, key: str, answer: Any) -> None:
        """Store an answer, for this process and for later ones."""
        self._known[key] = answer
        self._lines.append([key, answer])


def _is_answer(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 2 and isinstance(row[0], str)
