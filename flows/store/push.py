"""Push checkpoints to a store while a run trains; retry until it answers."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from flows.runs.directory import RunDir
from flows.store.contract import StoreContentError, StoreError
from flows.store.run_store import RunStore, standing

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_LONGEST_WAIT_S = 30.0
_T = TypeVar("_T")


@contextmanager
def pushed(store: RunStore, run: RunDir) -> Iterator[None]:
    """Push a run after each of its checkpoints while it is trained here, and at the end.

    Training does not wait for the store. At the end the store is waited for, since what is not
    there nobody else has; a training that was stopped gets one try.
    """
    over = threading.Event()
    thread = threading.Thread(target=_push_checkpoints, args=(store, run, over), daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        over.set()
        try:
            store.push(run)
        except (StoreError, OSError) as error:
            log.warning("run %s stops without the store (%s)", run.id, error)
        raise
    over.set()
    thread.join()
    insist(lambda: store.push(run), f"pushing run {run.id}")


def insist(action: Callable[[], _T], what: str) -> _T:
    """Do it as soon as the store can; says once that it is waiting.

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


def _push_checkpoints(store: RunStore, run: RunDir, over: threading.Event) -> None:
    done, behind = "", False
    while not over.wait(_LOOK_S):
        _, checkpoint = standing(run)
        if checkpoint == done:
            continue
        try:
            store.push(run)
        except FileNotFoundError:
            continue  # the checkpoint made room for the next one meanwhile
        except (StoreError, OSError) as error:
            if not behind:
                log.warning("run %s trains on, the store is behind (%s)", run.id, error)
            behind = True
            continue
        if behind:
            log.info("the store has caught up with run %s", run.id)
        done, behind = checkpoint, False
