"""A sweep or a study as a Prefect flow of this process, its trainings child processes."""

import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from flows.settings import Home, Settings
from flows.stack.temporary_server import prefect_server, process_tag
from flows.training.signals import handling
from sweeps.spec import SweepSpec
from sweeps.tune_spec import TuneSpec

if TYPE_CHECKING:
    from flows.dispatch.children import ChildProcesses

_T = TypeVar("_T")


def run_in_this_process(
    kind: Literal["sweep", "tune"],
    spec: SweepSpec | TuneSpec,
    slots: Sequence[dict[str, str]],
    prepare: "Callable[[], Callable[[ChildProcesses], _T]]",
    *,
    trainings: int,
    settings: Settings,
    home: Home,
    say: Callable[[str], None],
) -> tuple[_T, str]:
    """Run the body as a flow named after the spec; its result and the flow run's id.

    SIGTERM, which announces that a node is taken away, stops it as Ctrl-C does: trainings write a
    checkpoint and the flow run ends as Crashed. `isoflop doctor` knows the flow run by its tag.

    Args:
        kind: name of the flow.
        slots: the environment of each training that runs at the same time.
        prepare: called while Prefect's server starts; returns the body of the flow, which gets the
            dispatcher of the trainings.
        trainings: their expected number. Up to as many slots load torch before the flow begins.

    Raises:
        StackError: the Prefect server did not start.
        KeyboardInterrupt: it was stopped, and so were its trainings.
    """
    default = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with prefect_server(settings, home, say) as wait_for_server:
            # Imported only now: Prefect reads its server's address when it is imported.
            with stopped_after():
                from prefect import flow, tags
                from prefect.runtime import flow_run
                from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

                from flows.dispatch.children import ChildProcesses

            body = prepare()
            # A thread waits for each training, so as many train at once as there are threads.
            tasks: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=len(slots))

            @flow(name=kind, flow_run_name=spec.name, task_runner=tasks, persist_result=False)
            def flow_here() -> tuple[_T, str]:
                # Prefect has set up its loggers by now. Their errors are on its server, and the
                # command says once what failed.
                logger = logging.getLogger("prefect")
                logger.propagate, logger.handlers = False, [logging.NullHandler()]
                return body(dispatcher), str(flow_run.id)

            with ChildProcesses(home, spec.placement, slots, say) as dispatcher:
                dispatcher.start(trainings)
                wait_for_server()
                with tags(process_tag(os.getpid())):
                    return flow_here()
    finally:
        signal.signal(signal.SIGTERM, default)


@contextmanager
def stopped_after() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the body has ended: an import must not be cut in two.

    pydantic makes an error of its own of a KeyboardInterrupt while it builds Prefect's classes.

    Raises:
        KeyboardInterrupt: one of them came meanwhile.
    """
    arrived: list[int] = []
    with handling(lambda number, frame: arrived.append(number)):
        yield
    if arrived:
        raise KeyboardInterrupt
