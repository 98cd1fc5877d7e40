"""The train flow: one planned run on one worker."""

import logging
import signal
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal
from prefect.states import Completed, Crashed, Failed

from flows.runs.directory import RunDir, RunResult
from flows.settings import Home, open_home, open_settings
from flows.store.push import pushing_checkpoints, retry
from flows.store.run_store import RunStore, open_store
from flows.training.execute import execute
from flows.training.failures import may_pass
from flows.training.signals import Interrupted
from sweeps.spec import PlannedRun

log = logging.getLogger(__name__)


@flow(name="train", validate_parameters=True, persist_result=False)
def train(planned: PlannedRun) -> State[Any]:
    """Train a run to its end. The sweep that started it mirrors it, as `isoflop sync` does.

    A training that diverged ends as Failed with its reason: its result is on disk, and the
    sweep excludes it from the fit. A flow run whose worker stopped or whose machine failed ends
    as Crashed, behind a checkpoint; the sweep then starts it again. Prefect itself retries nothing.
    """
    settings = open_settings()
    home = open_home(settings)
    store = open_store(settings)
    run = RunDir(home.runs / planned.id)
    run.create(planned)
    try:
        result = execute(run, home) if store is None else _execute_from(store, run, home)
    except Interrupted as stopped:
        # Prefect knows whether the run was cancelled or its worker stopped, and sets the state.
        raise TerminationSignal(signal.SIGTERM) from stopped
    except Exception as error:
        if not may_pass(error):
            raise
        log.exception("%s failed", planned.name)
        return Crashed(message=f"{planned.name}: {type(error).__name__}: {error}")
    if result.status == "finished":
        return Completed(message=f"{planned.name} finished in {result.train_s:.0f} s")
    return Failed(message=f"{planned.name} {result.status}: {result.reason}")


def _execute_from(store: RunStore, run: RunDir, home: Home) -> RunResult:
    """Train a run on a host with a home of its own: fetch its files, push what it writes."""
    digest = run.planned().run.data.digest
    retry(lambda: store.pull_corpus(home, digest), f"fetching corpus {digest[:12]}")
    retry(lambda: store.pull(run), f"fetching run {run.id}")
    # The sweep that started this flow run wants an earlier failure retried.
    run.retire_result()
    with pushing_checkpoints(store, run):
        return execute(run, home)
