"""Push checkpoints to a store while a run trains; retry until the store answers."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from flows.runs.directory import RunDir
from flows.store.contract import StoreContentError, StoreError
from flows.store.run_store import RunStore, progress

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_LONGEST_WAIT_S = 30.0
# A stopped training is killed half a minute later; it waits this long for a push under way.
_UNDER_WAY_S = 10.0
_T = TypeVar("_T")


@contextmanager
def pushing_checkpoints(store: RunStore, run: RunDir) -> Iterator[None]:
    """Push a run after each of its checkpoints while it trains here, and at the end.

    Training does not wait for the store. The last push is retried until it succeeds, since no
    other host has the result; a training that was stopped pushes once.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_push_checkpoints, args=(store, run, ended), daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        ended.set()
        # Two pushes at once take one number, and the index of the older checkpoint may stay.
        thread.join(_UNDER_WAY_S)
        try:
            store.push(run)
        except (StoreError, OSError) as error:
            log.warning("run %s stops, and the store is behind (%s)", run.id, error)
        raise
    ended.set()
    thread.join()
    retry(lambda: store.push(run), f"pushing run {run.id}")


def retry(action: Callable[[], _T], what: str) -> _T:
    """Retry until the store answers; log the wait once.

    Raises:
        StoreContentError: what the store holds cannot be used.
    """
    wait = _LOOK_S
    while True:
        try:
            return action()
        except StoreContentError:
            raise
        except StoreError as error:
            if wait == _LOOK_S:
                log.warning("%s: waiting for the store (%s)", what, error)
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_S)


def _push_checkpoints(store: RunStore, run: RunDir, ended: threading.Event) -> None:
    pushed, behind = "", False
    while not ended.wait(_LOOK_S):
        _, checkpoint = progress(run)
        if checkpoint == pushed:
            continue
        try:
            store.push(run)
        except FileNotFoundError:
            continue  # a newer checkpoint has replaced this one meanwhile
        except (StoreError, OSError) as error:
            if not behind:
                log.warning("run %s trains on, the store is behind (%s)", run.id, error)
            behind = True
            continue
        if behind:
            log.info("the store has caught up with run %s", run.id)
        pushed, behind = checkpoint, False
