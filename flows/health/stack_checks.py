"""The doctor's checks of databases, servers, workers, and runs that no process trains."""

import logging
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.events.filters import (
    EventFilter,
    EventNameFilter,
    EventOccurredFilter,
    EventResourceFilter,
)

from analysis.words import counted
from flows.health.databases import Database, databases, inspect, upgrade_or_set_aside, users
from flows.health.finding import Finding
from flows.mirror.client import mirror_error
from flows.mirror.sync import sync_all
from flows.mirror.tracker import open_tracker
from flows.plans.stored import read_plans
from flows.runs.directory import RunDir
from flows.settings import TRAIN_POOL, Home, Settings
from flows.stack.deployments import is_deployed
from flows.stack.flow_runs import crash_flow_runs, flow_runs_in_flight, prefect_client
from flows.stack.processes import alive, registered, running
from flows.stack.servers import (
    StackError,
    health_pages,
    healthy,
    prefect_environment,
    server_answers,
    stop,
)
from flows.stack.temporary_server import process_tag
from flows.stack.up import restart_server
from flows.stack.workers import start_worker, wait_for_workers, worker_heartbeats

log = logging.getLogger(__name__)

# A busy server answers late; one that hangs does not answer.
_ANSWERS_S = 10.0
# Workers send a heartbeat every 30 s.
_SILENT_S = 180.0
# Runs send a heartbeat every 30 s; the automation of `isoflop up` waits for three missed ones too.
_DEAD_S = 90.0
# On a process worker a run starts within seconds of being picked up.
_PENDING_S = 60.0
_DOCTOR = "isoflop doctor"


def check_databases(settings: Settings, home: Home, repair: bool) -> Iterator[Finding]:
    """Check for tables that are incomplete or damaged."""
    for database in databases(settings, home):
        if database.path is None:
            continue
        state, description = inspect(database, database.path)
        if state in ("absent", "whole"):
            continue
        what = f"{database.name}'s database {database.path.name} {description}"
        if state == "newer":
            yield Finding(what, remedy=f"install that version of {database.name.lower()} again")
        elif state == "closed":
            yield Finding(what, remedy=f"make room on its disk, or stop what locks it; {_DOCTOR}")
        elif not repair:
            yield Finding(what, remedy=f"{_DOCTOR} completes its tables, or sets it aside")
        else:
            yield _repair_database(database, what, settings, home)


def _repair_database(database: Database, what: str, settings: Settings, home: Home) -> Finding:
    assert database.path is not None
    ours = [process for process in registered(home) if process.name == database.server]
    stop(ours)
    if others := users(database.path):
        named = ", ".join(f"{other.pid} ({other.name()})" for other in others)
        return Finding(what, remedy=f"stop process {named}, which uses it, then {_DOCTOR}")
    done, lost = upgrade_or_set_aside(database, home)
    if lost and database.name == "MLflow":
        try:
            # A server's own database: the server is started first and makes the tables.
            if ours:
                restart_server(settings, home, database.server)
            done += f"; written to it again: {counted(sync_all(settings, home), 'run')}"
        except StackError as error:
            return Finding(what, done, remedy=str(error))
    return Finding(what, done)


def check_deployments(settings: Settings, home: Home, repair: bool) -> Iterator[Finding]:
    """Check for a stack of another version, whose commands may name modules that moved."""
    if running(home) and not is_deployed(home):
        yield Finding(
            "the stack was started by another version of isoflop, or from another folder",
            remedy="isoflop up deploys this version and starts the workers again",
        )


def check_servers(settings: Settings, home: Home, repair: bool) -> Iterator[Finding]:
    """Check for servers of `isoflop up` that died or hang. A stack that is down is not a fault."""
    for process in registered(home):
        page = health_pages(settings).get(process.name)
        if page is None or (alive(process) and _answers(page)):
            continue
        fault = "hangs" if alive(process) else "died"
        what = f"{process.name} (pid {process.pid}) {fault}"
        if not repair:
            yield Finding(what, remedy=f"{_DOCTOR} starts it again")
            continue
        stop([process])
        try:
            restart_server(settings, home, process.name)
        except (StackError, ValueError) as error:
            yield Finding(what, remedy=str(error))
        else:
            yield Finding(what, done="started again; its records are as they were")


def _answers(page: str) -> bool:
    deadline = time.monotonic() + _ANSWERS_S
    while not healthy(page):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def check_workers(settings: Settings, home: Home, repair: bool) -> Iterator[Finding]:
    """Check for workers of `isoflop up` that died or sent no heartbeat for minutes."""
    workers = [process for process in registered(home) if "worker" in process.name]
    if not workers or not server_answers(settings):
        return
    os.environ.update(prefect_environment(settings, home))
    heartbeats = worker_heartbeats(settings)
    for process in workers:
        silent_s = _age(heartbeats.get(process.name))
        if alive(process) and (silent_s is None or silent_s < _SILENT_S):
            continue
        fault = f"has sent no heartbeat for {silent_s:.0f} s" if alive(process) else "died"
        what = f"{process.name} (pid {process.pid}) {fault}"
        if not repair:
            yield Finding(what, remedy=f"{_DOCTOR} starts it again")
            continue
        stop([process])
        since = datetime.now(UTC)
        started = start_worker(settings, home, process.name, process.gpus)
        try:
            wait_for_workers(settings, home, {process.name: started}, since, say=log.info)
        except StackError as error:
            yield Finding(what, remedy=str(error))
        else:
            yield Finding(what, done="started again")


def check_flow_runs(settings: Settings, home: Home, repair: bool) -> Iterator[Finding]:
    """Check for flow runs in flight in Prefect that no process executes.

    When such a run is marked as crashed, the sweep that waits for it starts it again.
    """
    if not server_answers(settings):
        return
    os.environ.update(prefect_environment(settings, home))
    with prefect_client(settings) as client:
        ours = _only_our_workers(client, home)
        dead = [
            (flow_run, why)
            for flow_run in flow_runs_in_flight(client)
            if (why := _why_dead(client, flow_run, only_ours=ours))
        ]
    for flow_run, why in dead:
        what = f"flow run {flow_run.name} is {flow_run.state_name} in Prefect, and {why}"
        if not repair:
            yield Finding(what, remedy=f"{_DOCTOR} ends it; its sweep then starts it again")
            continue
        crash_flow_runs(settings, [flow_run.id], f"isoflop doctor: {why}")
        yield Finding(what, done="ended as crashed; a sweep that waits for it starts it again")


def _only_our_workers(client: SyncPrefectClient, home: Home) -> bool:
    """Whether every training worker of this server is on this machine."""
    known = {process.name for process in registered(home)}
    living = {
        worker.name
        for worker in client.read_workers_for_work_pool(TRAIN_POOL)
        if (age := _age(worker.last_heartbeat_time)) is not None and age < _SILENT_S
    }
    return living <= known


def _why_dead(client: SyncPrefectClient, flow_run: FlowRun, *, only_ours: bool) -> str:
    """Why no process can be executing this run; empty if one may be."""
    assert flow_run.state is not None
    pid, state = flow_run.infrastructure_pid, flow_run.state
    since = _age(state.timestamp) or 0.0
    for tag in flow_run.tags:
        # A sweep or study in a process of this machine, see `process_tag`.
        if tag == process_tag(_pid_of(tag)):
            return "" if psutil.pid_exists(_pid_of(tag)) else f"process {_pid_of(tag)} is gone"
    dead = bool(pid and pid.isdigit() and only_ours and not psutil.pid_exists(int(pid)))
    if state.is_pending():
        if (dead or pid is None) and since > _PENDING_S:
            return f"was picked up {since:.0f} s ago and never started"
        return ""
    if dead:
        return f"its process {pid} is gone"
    quiet = min(since, _heartbeat_age(client, flow_run))
    return f"sent no heartbeat for {quiet:.0f} s" if quiet > _DEAD_S else ""


def _pid_of(tag: str) -> int:
    number = tag.rpartition(":")[2]
    return int(number) if number.isdigit() else -1


def _heartbeat_age(client: SyncPrefectClient, flow_run: FlowRun) -> float:
    """0 if a run sent a heartbeat within the limit, else infinity."""
    now = datetime.now(UTC)
    page = client.read_events(
        EventFilter(
            event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
            resource=EventResourceFilter(id=[f"prefect.flow-run.{flow_run.id}"]),
            occurred=EventOccurredFilter(since=now - timedelta(seconds=_DEAD_S), until=now),
        ),
        limit=1,
    )
    return 0.0 if page.events else float("inf")


def _age(moment: Any) -> float | None:
    return None if moment is None else (datetime.now(UTC) - moment).total_seconds()


def check_mirror(settings: Settings, home: Home, repair: bool) -> Iterator[Finding]:
    """Check for runs that are running in MLflow and that no process trains."""
    planned = {(plan.spec.name, run.id): run for plan in read_plans(home) for run in plan.runs}
    if not planned:
        return
    try:
        tracker = open_tracker(settings, home)
        left = [
            (sweep, run_id, mlflow_run)
            for sweep, run_id, mlflow_run in tracker.open_runs()
            if not RunDir(home.runs / run_id).busy()
        ]
        for sweep, run_id, mlflow_run in left:
            run = RunDir(home.runs / run_id)
            what = f"run {run_id} of sweep {sweep} is running in MLflow, and no process trains it"
            known = planned.get((sweep, run_id))
            if not repair:
                yield Finding(what, remedy=f"{_DOCTOR} ends it there")
            elif known is not None and run.result() is not None:
                tracker.publish(run, known)
                yield Finding(what, done="brought up to its result")
            else:
                tracker.end(mlflow_run)
                yield Finding(what, done="ended as killed; it resumes with its sweep")
    except mirror_error() as error:
        reason = str(error).partition("\n")[0]
        yield Finding(f"MLflow does not answer: {reason}", remedy="isoflop up, then isoflop sync")
