"""The train flow: one planned run on one worker."""

import logging
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.execute import execute
from flows.rundir import RunDir
from flows.settings import Settings, open_home
from flows.tracking import Mirror
from sweeps.spec import PlannedRun

log = logging.getLogger(__name__)


@flow(name="train", validate_parameters=True, persist_result=False)
def train(planned: PlannedRun) -> State[Any]:
    """Train a run to its end and mirror it; a finished run is only mirrored.

    A training that diverged ends as Failed with its reason: its result is on disk, and the
    sweep keeps it out of the fit. Nothing here is retried by Prefect; the sweep starts a flow
    run again where that can help.
    """
    settings = Settings()
    home = open_home(settings)
    run = RunDir(home.runs / planned.id)
    run.create(planned)
    result = execute(run, home, run.placement())
    Mirror(settings, home).publish(run, planned)
    if result.status == "finished":
        return Completed(message=f"{planned.name} finished in {result.train_s:.0f} s")
    return Failed(message=f"{planned.name} {result.status}: {result.reason}")
