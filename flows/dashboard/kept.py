"""Values kept for as long as the state that they were made from lasts."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Kept(Generic[_T]):
    """The newest values by key and state, up to a number of them."""

    def __init__(self, most: float = 100) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, tuple[Hashable, _T]] = OrderedDict()

    def get(self, key: Hashable, state: Hashable, make: Callable[[], _T]) -> _T:
        """The value of a key; made anew where it was made from another state."""
        with self._lock:
            known = self._values.get(key)
            if known is not None and known[0] == state:
                self._values.move_to_end(key)
                return known[1]
        # Not under the lock: two threads may make it, which costs time and is right.
        value = make()
        with self._lock:
            self._values[key] = (state, value)
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value

    def peek(self, key: Hashable) -> _T | None:
        """The value of a key from whatever state; None without one."""
        with self._lock:
            known = self._values.get(key)
            return None if known is None else known[1]
