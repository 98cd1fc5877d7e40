"""Faults of a sweep whose trainings are child processes."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save

from flows.mirror.tracker import open_tracker
from flows.runs.directory import RunDir
from flows.settings import Settings, open_home
from flows.stack.servers import free_port, start_mlflow_server, wait_healthy
from sweeps.plan import Plan
from tests.chaos.stage import (
    OFTEN,
    SELDOM,
    Outcome,
    Stage,
    judge,
    mirrored_wrongly,
    nobody_trains,
    rows,
    wait_for,
)

# Python runs a module of this name when it starts. libfaketime would be nearer to the machine, but
# it shifts the deadlines of sleeps too, and they fail.
CLOCK = ("sitecustomize.py", '''
import os, time
real = time.time
def set_back():
    try:
        with open(os.environ["CHAOS_CLOCK"]) as file:
            return real() - float(file.read())
    except (OSError, ValueError):
        return real()
time.time = set_back
''')  # fmt: skip
DAY_S = 86_400
Fault = Callable[[Stage, Path, Plan, int], Outcome]


def training_killed(stage: Stage, undisturbed: Path, plan: Plan, times: int) -> Outcome:
    """SIGKILL of a training."""
    return _signalled(stage, undisturbed, plan, times, signal.SIGKILL, "SIGKILL of a training")


def training_preempted(stage: Stage, undisturbed: Path, plan: Plan, times: int) -> Outcome:
    """SIGTERM of a training, as a node that is taken away sends."""
    return _signalled(stage, undisturbed, plan, times, signal.SIGTERM, "SIGTERM of a training")


def _signalled(
    stage: Stage, undisturbed: Path, plan: Plan, times: int, how: signal.Signals, name: str
) -> Outcome:
    home, injected = stage.new_home(), 0
    with stage.sweep(home) as sweep:
        while injected < times and (found := stage.training(home, sweep)):
            with suppress(psutil.NoSuchProcess):
                found[0].send_signal(how)
                injected += 1
        stage.finish(sweep)
    return judge(name, injected, [home], undisturbed, plan)


def sweep_killed(stage: Stage, undisturbed: Path, plan: Plan, times: int) -> Outcome:
    """SIGKILL of the controlling flow; its trainings go with it, behind a checkpoint."""
    home, injected = stage.new_home(), 0
    for _ in range(times):
        with stage.sweep(home) as sweep:
            if stage.training(home, sweep) is None:
                break
            sweep.kill()
            injected += 1
        wait_for(lambda: nobody_trains(home), 60)
    with stage.sweep(home) as sweep:
        stage.finish(sweep)
    return judge("SIGKILL of the controlling flow", injected, [home], undisturbed, plan)


def sweep_stopped(stage: Stage, undisturbed: Path, plan: Plan, times: int) -> Outcome:
    """SIGINT and SIGTERM of the controlling flow in turn."""
    home, injected = stage.new_home(), 0
    for number in range(times):
        with stage.sweep(home) as sweep:
            if stage.training(home, sweep) is None:
                break
            sweep.send_signal((signal.SIGINT, signal.SIGTERM)[number % 2])
            assert sweep.wait(120) == 130
            injected += 1
        assert nobody_trains(home)
    with stage.sweep(home) as sweep:
        stage.finish(sweep)
    return judge("Ctrl-C or SIGTERM of the sweep", injected, [home], undisturbed, plan)


def checkpoint_truncated(stage: Stage, undisturbed: Path, plan: Plan, times: int) -> Outcome:
    """The newest checkpoint cut short."""

    def cut(tensors: Path) -> None:
        os.truncate(tensors, tensors.stat().st_size // 2)

    return _damaged(stage, undisturbed, plan, times, cut, "a truncated checkpoint")


def checkpoint_flipped(stage: Stage, undisturbed: Path, plan: Plan, times: int) -> Outcome:
    """One bit of the newest checkpoint turned."""

    def flip(tensors: Path) -> None:
        content = bytearray(tensors.read_bytes())
        content[stage.random.randrange(len(content))] ^= 1 << stage.random.randrange(8)
        tensors.write_bytes(content)

    return _damaged(stage, undisturbed, plan, times, flip, "a bit flipped in a checkpoint")


def _damaged(
    stage: Stage,
    undisturbed: Path,
    plan: Plan,
    times: int,
    damage: Callable[[Path], None],
    name: str,
) -> Outcome:
    home, injected = stage.new_home(), 0
    while injected < times:
        begun = _interrupt_with_checkpoint(stage, home)
        if not begun:
            break
        for run in begun[: times - injected]:
            damage(run.checkpoints / f"{run.newest_checkpoint()}.safetensors")
            injected += 1
    with stage.sweep(home) as sweep:
        stage.finish(sweep)
    told = sum((run / "output.log").read_text().count("is damaged") for run in _runs(home))
    assert told >= injected, "a damaged checkpoint was not noticed"
    return judge(name, injected, [home], undisturbed, plan)


def loss_nan(stage: Stage, undisturbed: Path, plan: Plan, times: int) -> Outcome:
    """A weight that is no number, in a checkpoint that is otherwise sound: the loss is NaN."""
    home = stage.new_home()
    begun = _interrupt_with_checkpoint(stage, home)[:times]
    for run in begun:
        tensors = run.checkpoints / f"{run.newest_checkpoint()}.safetensors"
        state = load_file(tensors)
        for name, tensor in state.items():
            if "weight." in name:
                tensor.view(-1)[0] = torch.nan
        content = save(state)
        tensors.write_bytes(content)
        header = tensors.with_suffix(".json")
        noted = json.loads(header.read_bytes())
        noted["sha256"] = hashlib.sha256(content).hexdigest()
        header.write_text(json.dumps(noted))
    with stage.sweep(home) as sweep:
        stage.finish(sweep, status=1 if begun else 0)
    for run in begun:
        result = run.result()
        assert result is not None
        assert "loss is nan" in result.reason
    expected = {f"_{run.id}": "diverged" for run in begun}
    return judge("a NaN in the loss", len(begun), [home], undisturbed, plan, **expected)


def _interrupt_with_checkpoint(stage: Stage, home: Path) -> list[RunDir]:
    """Kill the sweep in the middle; the runs that are begun, have a checkpoint and rest."""
    with stage.sweep(home) as sweep:
        if stage.training(home, sweep) is not None:
            sweep.kill()
            sweep.wait()
    wait_for(lambda: nobody_trains(home), 60)
    runs = [RunDir(path) for path in _runs(home)]
    # The mark of a run that is done has no tensors that matter.
    return [run for run in runs if run.result() is None and run.newest_checkpoint()]


def twins(stage: Stage, undisturbed: Path, plan: Plan, times: int) -> Outcome:
    """Two identical sweeps started at the same moment."""
    for _ in range(times):
        home = stage.new_home()
        with stage.sweep(home) as first, stage.sweep(home) as second:
            stage.finish(first)
            stage.finish(second)
    return judge("two identical sweeps at once", times, stage.homes, undisturbed, plan)


def clock_set_back(stage: Stage, undisturbed: Path, plan: Plan, times: int) -> Outcome:
    """Python's clock a day back, again and again, under sweep and trainings."""
    home, injected = stage.new_home(), 0
    clock, (module, source) = stage.folder / "clock", CLOCK
    (stage.folder / module).write_text(source)
    faked = {"PYTHONPATH": str(stage.folder), "CHAOS_CLOCK": str(clock)}
    with stage.sweep(home, **faked) as sweep:
        while injected < times and stage.training(home, sweep):
            injected += 1
            clock.write_text(str(injected * DAY_S))
        stage.finish(sweep)
    stamps = [row["at"] for run in _runs(home) for row in RunDir(run).curve.rows()]
    assert max(stamps) - min(stamps) > DAY_S / 2, "no training saw the clock move"
    return judge("the clock set back a day", injected, [home], undisturbed, plan)


def disk_full_checkpoint(stage: Stage, undisturbed: Path, plan: Plan, times: int) -> Outcome:
    """Room for rows of the curve but for no checkpoint."""
    return _disk_full(
        stage, undisturbed, plan, times, OFTEN, 128 * 1024, "disk full, writing a checkpoint"
    )


def disk_full_curve(stage: Stage, undisturbed: Path, plan: Plan, times: int) -> Outcome:
    """No room at all, while checkpoints are far apart."""
    return _disk_full(stage, undisturbed, plan, times, SELDOM, 0, "disk full, writing the curve")


def _disk_full(
    stage: Stage,
    undisturbed: Path,
    plan: Plan,
    times: int,
    placement: tuple[str, ...],
    left: int,
    name: str,
) -> Outcome:
    home = stage.new_home()
    with small_disk(home / "runs"):
        ballast = home / "runs" / ".ballast"
        with stage.sweep(home, *placement) as sweep:
            for _ in range(times):
                found = stage.training(home, sweep)
                if found is None:
                    break
                with ballast.open("wb", buffering=0) as file, suppress(OSError):
                    while (free := shutil.disk_usage(home / "runs").free - left) > 0:
                        file.write(b"\0" * min(free, 2**20))
                # Nobody is at work any more where every training under way waits.
                count = -1
                while count != (count := sum(rows(RunDir(run)) for run in _runs(home))):
                    time.sleep(4)
                ballast.unlink()
            stage.finish(sweep)
        logs = [run / "output.log" for run in _runs(home)]
        told = sum(log.read_text(errors="replace").count("there is room again") for log in logs)
        return judge(name, told, [home], undisturbed, plan)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of 48 MiB at this folder."""
    command = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a file system of its own needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def mlflow_down(stage: Stage, undisturbed: Path, plan: Plan, times: int) -> Outcome:
    """The MLflow server is not there at the start, goes in the middle, and at the end."""
    home, injected = stage.new_home(), 0
    port = free_port("127.0.0.1")
    settings = Settings(home=home, mlflow_port=port)
    folder = open_home(settings)
    open_tracker(settings, folder)

    def up() -> "subprocess.Popen[bytes]":
        server = start_mlflow_server(settings, folder)
        wait_healthy(f"{settings.mlflow_address}/health", server, folder.logs / "mlflow-server.log")
        return server

    def down(server: "subprocess.Popen[bytes]") -> None:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

    def results() -> int:
        return len(list(home.glob("runs/*/result.json")))

    with stage.sweep(home, ISOFLOP_MLFLOW_URI=settings.mlflow_address) as sweep:
        for number in range(times):
            # Away until that number of runs has ended, then back for a moment.
            wait_for(lambda wanted=number + 1: results() >= wanted or sweep.poll() is not None)
            injected += 1
            server = up()
            time.sleep(1)
            down(server)
        stage.finish(sweep)
    server = up()
    try:
        with stage.sweep(home, ISOFLOP_MLFLOW_URI=settings.mlflow_address) as again:
            stage.finish(again)
        wrong = mirrored_wrongly(home, plan, mlflow_uri=settings.mlflow_address)
    finally:
        down(server)
    assert not wrong
    return judge("MLflow down: start, middle, end", injected, [home], undisturbed, plan)


def _runs(home: Path) -> list[Path]:
    return [path for path in sorted((home / "runs").iterdir()) if path.is_dir()]


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        training_killed,
        training_preempted,
        sweep_killed,
        sweep_stopped,
        mlflow_down,
        disk_full_checkpoint,
        disk_full_curve,
        checkpoint_truncated,
        checkpoint_flipped,
        twins,
        clock_set_back,
        loss_nan,
    )
}
