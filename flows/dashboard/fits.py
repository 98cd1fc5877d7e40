"""Fits in the background: each is computed once for a state of its table."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_KEPT = 200


@dataclass(frozen=True, slots=True)
class Outcome(Generic[_T]):
    """What is known of an answer that takes seconds.

    Attributes:
        value: the answer; None while it is computed for the first time, or after a failure.
        awaited: a newer answer is being computed.
        failure: why there is none.
    """

    value: _T | None
    awaited: bool = False
    failure: str = ""

    @property
    def note(self) -> str:
        """What a page says of it; empty when the answer is there and new."""
        if self.failure:
            return f"No answer: {self.failure}"
        if not self.awaited:
            return ""
        if self.value is None:
            return "The answer is being computed; this page shows it as soon as it is there."
        return "Losses have changed: a new answer is being computed, and the one below is older."


class Fits:
    """Answers by question and by the state of the table that they are of."""

    def __init__(self, make_executor: Callable[[], Executor]) -> None:
        self._make_executor = make_executor
        self._executor = make_executor()
        self._lock = threading.Lock()
        self._asked: OrderedDict[Hashable, Future[Any]] = OrderedDict()
        self._topics: OrderedDict[Hashable, Hashable] = OrderedDict()
        self._tries: OrderedDict[Hashable, int] = OrderedDict()
        self._latest: OrderedDict[Hashable, Any] = OrderedDict()

    def get(
        self,
        question: Hashable,
        state: Hashable,
        compute: Callable[..., _T],
        arguments: Callable[[], tuple[Any, ...]],
        *,
        topic: Hashable = None,
    ) -> Outcome[_T]:
        """The answer if it is there; else it is computed meanwhile.

        Args:
            question: what is asked, and of which subject.
            state: of the subject's table; another state is another answer.
            arguments: makes those of `compute` where nobody has asked yet.
            topic: a new question on it makes those that wait pointless, as a slider does.
        """
        known = self.peek(question, state)
        if known is not None:
            return known
        # Not under the lock: it may take seconds to make them.
        given = arguments()
        with self._lock:
            key = (question, state)
            if not self._is_asked(key):
                self._give_up_others(topic)
                self._topics[key] = topic
                _forget(self._topics)
                self._tries[key] = self._tries.get(key, 0) + 1
                _forget(self._tries)
                self._asked[key] = self._submit(compute, *given)
                _forget(self._asked)
            return self._outcome(key)

    def _is_asked(self, key: tuple[Hashable, Hashable]) -> bool:
        future = self._asked.get(key)
        if future is None or future.cancelled():
            return False
        killed = future.done() and isinstance(future.exception(), BrokenExecutor)
        # Whatever waited for a process that was killed is asked again; a second time it may be
        # what the process was killed for.
        return not killed or self._tries.get(key, 0) > 1

    def _outcome(self, key: tuple[Hashable, Hashable]) -> Outcome[Any]:
        """What is known of a question that has been asked."""
        self._asked.move_to_end(key)
        question, future = key[0], self._asked[key]
        if not future.done():
            return Outcome(self._latest.get(question), awaited=True)
        error = future.exception()
        if error is not None:
            log.warning("%s: %r", question, error)
            reason = str(error) if isinstance(error, ValueError) else repr(error)
            return Outcome(None, failure=reason)
        self._latest[question] = future.result()
        _forget(self._latest)
        return Outcome(future.result())

    def _submit(self, compute: Callable[..., _T], *arguments: Any) -> Future[_T]:
        try:
            return self._executor.submit(compute, *arguments)
        except BrokenExecutor:
            # Its process was killed, as when memory runs out: the next question gets another.
            self._executor = self._make_executor()
            return self._executor.submit(compute, *arguments)

    def close(self) -> None:
        """Give up what is still computed."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _give_up_others(self, topic: Hashable) -> None:
        for key, future in self._asked.items():
            if topic is not None and self._topics.get(key) == topic:
                future.cancel()

    def peek(self, question: Hashable, state: Hashable) -> Outcome[Any] | None:
        """The answer to a question that has been asked; None where it has not."""
        with self._lock:
            key = (question, state)
            return self._outcome(key) if self._is_asked(key) else None


def _forget(kept: OrderedDict[Hashable, Any]) -> None:
    while len(kept) > _KEPT:
        kept.popitem(last=False)
