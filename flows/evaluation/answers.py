"""A cache on disk of the answers a model gives in an evaluation."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from flows.files import whole_line


class Answers:
    """An append-only file of answers by request; a killed process loses none it has written.

    Use it as a context manager.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        whole = 0
        with self._path.open("rb") as handle:
            for line in handle:
                pair = whole_line(line)
                if not isinstance(pair, list):
                    break
                self._known[pair[0]] = pair[1]
                whole += len(line)
        # A kill or a power cut tears the last line; its request is asked again.
        os.ftruncate(self._file, whole)
        return self

    def __exit__(self, *raised: object) -> None:
        os.close(self._file)

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
        data = (json.dumps([key, answer]) + "\n").encode()
        while data:
            data = data[os.write(self._file, data) :]
