"""Faults of a sweep that workers train."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from flows.runs.directory import RunDir
from sweeps.plan import Plan
from tests.chaos.stage import PATIENCE_S, Outcome, Stage, judge, rows
from tests.conftest import COMMAND, ROOT, bare_environment

Fault = Callable[[Stage, Path, Plan, int], Outcome]


class Cluster:
    """The stack of `isoflop up` with two workers, and a sweep on it."""

    def __init__(self, stage: Stage, home: Path, **environment: str) -> None:
        self.stage, self.home = stage, home
        self.environment = {**bare_environment(), "ISOFLOP_HOME": str(home), **environment}
        self.started: list[subprocess.Popen[bytes]] = []
        self.api = f"http://127.0.0.1:{self.environment['ISOFLOP_PREFECT_PORT']}/api"

    def isoflop(self, *arguments: str) -> str:
        """Call the command; what it printed."""
        done = subprocess.run(
            [COMMAND, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def sweep(self) -> Iterator["subprocess.Popen[bytes]"]:
        """`prefect deployment run sweep/chinchilla` under way."""
        overrides = json.dumps(self.stage.arguments("chaos"))
        prefect = Path(sys.executable).with_name("prefect")
        with (self.stage.folder / "sweep.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    *(prefect, "deployment", "run", "sweep/chinchilla", "--watch"),
                    *("-p", "spec=smoke", "-p", f"overrides={overrides}"),
                ],
                cwd=ROOT,
                env={
                    **self.environment,
                    "PREFECT_API_URL": self.api,
                    "PREFECT_HOME": str(self.home / "prefect-client"),
                    # It watches through a restart of the server too.
                    "PREFECT_CLIENT_MAX_RETRIES": "20",
                },
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(30)

    def process(self, name: str) -> psutil.Process:
        """A process of the stack by its name."""
        noted = {entry["name"]: entry for entry in json.loads(self.note.read_text())}
        return psutil.Process(noted[name]["pid"])

    @property
    def note(self) -> Path:
        """Where `isoflop up` notes what runs."""
        return self.home / "stack.json"

    def training(self) -> tuple[str, psutil.Process, RunDir] | None:
        """A worker, its training at a random moment of its life, and the run; None at the end."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and not self.done():
            for name in self.stage.random.sample(("train-worker-0", "train-worker-1"), 2):
                with suppress(psutil.NoSuchProcess):
                    for child in self.process(name).children(recursive=True):
                        run = self._run_of(child.pid)
                        if run is None:
                            continue
                        before, more = rows(run), self.stage.random.randint(5, 60)
                        while child.is_running() and self._run_of(child.pid) is not None:
                            if rows(run) >= before + more:
                                return name, child, run
                            time.sleep(0.05)
            time.sleep(0.1)
        return None

    def _run_of(self, pid: int) -> RunDir | None:
        for lease in self.home.glob("runs/*/lease.json"):
            with suppress(OSError, ValueError):
                if json.loads(lease.read_text())["pid"] == pid:
                    return RunDir(lease.parent)
        return None

    def done(self) -> bool:
        """Whether every run has its result."""
        runs = list(self.home.glob("runs/*/spec.json"))
        return bool(runs) and all((path.parent / "result.json").exists() for path in runs)

    def again(self, name: str, how: signal.Signals) -> None:
        """End a process of the stack and start it as it was."""
        process = self.process(name)
        command, environment = process.cmdline(), process.environ()
        process.send_signal(how)
        process.wait(60)
        with (self.home / "logs" / f"{name}.log").open("ab") as log:
            started = subprocess.Popen(
                command,
                env=environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        self.started.append(started)
        noted = json.loads(self.note.read_text())
        for entry in noted:
            if entry["name"] == name:
                entry |= {
                    "pid": started.pid,
                    "started_at": psutil.Process(started.pid).create_time(),
                }
        self.note.write_text(json.dumps(noted))


@contextmanager
def cluster(stage: Stage, *options: str, **environment: str) -> Iterator[Cluster]:
    """A stack of two workers that is up, and down at the end."""
    found = Cluster(stage, stage.new_home(), **environment)
    found.isoflop("up", "--workers", "2", *options)
    try:
        yield found
    finally:
        found.isoflop("down")
        for process in found.started:
            process.wait(30)


def worker_killed(stage: Stage, undisturbed: Path, plan: Plan, times: int) -> Outcome:
    """SIGKILL of a worker; its training stops behind a checkpoint."""

    def strike(found: Cluster, worker: str, training: psutil.Process) -> None:
        found.again(worker, signal.SIGKILL)

    return _struck(stage, undisturbed, plan, times, strike, "SIGKILL of a worker")


def worker_and_training_killed(stage: Stage, undisturbed: Path, plan: Plan, times: int) -> Outcome:
    """SIGKILL of a worker and its training, as when a machine loses its power."""

    def strike(found: Cluster, worker: str, training: psutil.Process) -> None:
        process = found.process(worker)
        process.suspend()
        for one in process.children(recursive=True):
            one.kill()
        found.again(worker, signal.SIGKILL)

    return _struck(stage, undisturbed, plan, times, strike, "SIGKILL of worker and training")


def worker_terminated(stage: Stage, undisturbed: Path, plan: Plan, times: int) -> Outcome:
    """SIGTERM of a worker."""

    def strike(found: Cluster, worker: str, training: psutil.Process) -> None:
        found.again(worker, signal.SIGTERM)

    return _struck(stage, undisturbed, plan, times, strike, "SIGTERM of a worker")


def worker_training_killed(stage: Stage, undisturbed: Path, plan: Plan, times: int) -> Outcome:
    """SIGKILL of a training of a worker."""

    def strike(found: Cluster, worker: str, training: psutil.Process) -> None:
        training.kill()

    return _struck(stage, undisturbed, plan, times, strike, "SIGKILL of a worker's training")


def prefect_restarted(stage: Stage, undisturbed: Path, plan: Plan, times: int) -> Outcome:
    """The Prefect server killed and started again in the middle."""

    def strike(found: Cluster, worker: str, training: psutil.Process) -> None:
        found.again("prefect-server", signal.SIGKILL)

    return _struck(stage, undisturbed, plan, times, strike, "Prefect server restarted")


def _struck(
    stage: Stage,
    undisturbed: Path,
    plan: Plan,
    times: int,
    strike: Callable[[Cluster, str, psutil.Process], None],
    name: str,
) -> Outcome:
    injected = 0
    with cluster(stage) as found, found.sweep() as sweep:
        while injected < times and (victim := found.training()):
            with suppress(psutil.NoSuchProcess):
                strike(found, victim[0], victim[1])
                injected += 1
        wait_for_report(found, sweep)
    return judge(name, injected, [found.home], undisturbed, plan)


def wait_for_report(found: Cluster, sweep: "subprocess.Popen[bytes]") -> None:
    """Until the sweep's own flow run has ended, by its report."""
    deadline = time.monotonic() + PATIENCE_S
    report = found.home / "sweeps" / "chaos" / "report.html"
    while not (report.exists() and found.done()):
        assert time.monotonic() < deadline, (found.stage.folder / "sweep.log").read_text()[-3000:]
        time.sleep(0.5)
    with suppress(subprocess.TimeoutExpired):
        sweep.wait(60)


def deployed_sweep_killed(stage: Stage, undisturbed: Path, plan: Plan, times: int) -> Outcome:
    """SIGKILL of the process of the sweep's own flow run; the next one joins its trainings."""
    injected = 0
    with cluster(stage) as found:
        for _ in range(times):
            with found.sweep():
                if found.training() is None:
                    break
                for note in found.home.glob("sweeps/chaos/underway/*.json"):
                    with suppress(ProcessLookupError, OSError):
                        os.kill(json.loads(note.read_text())["process"]["pid"], signal.SIGKILL)
                        injected += 1
        with found.sweep() as sweep:
            wait_for_report(found, sweep)
    return judge("SIGKILL of a deployed sweep", injected, [found.home], undisturbed, plan)


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        worker_killed,
        worker_and_training_killed,
        worker_terminated,
        worker_training_killed,
        prefect_restarted,
        deployed_sweep_killed,
    )
}
