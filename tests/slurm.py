"""A Slurm of our own, of two nodes on this machine, for as long as a test needs it."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from flows.processes import die_with_parent
from flows.stack.servers import free_port

NODES = ("n1", "n2")
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
_START_S = 180.0
_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=2
SlurmctldPort={port}
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""
_NODE = "NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 State=UNKNOWN\n"


class Slurm:
    """A running cluster; its commands find it by `SLURM_CONF`."""

    def __init__(self, folder: Path) -> None:
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}

    def call(self, *command: str) -> str:
        """What one of Slurm's commands printed."""
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def states(self) -> dict[str, str]:
        """State of every job that has not ended, by its id."""
        lines = self.call("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def idle(self) -> bool:
        """Whether every node waits for jobs."""
        try:
            states = self.call("sinfo", "--noheader", "--Node", "--format=%T").split()
        except subprocess.CalledProcessError:
            return False
        return states == ["idle"] * len(NODES)


class NotReady(RuntimeError):
    """The daemons of a cluster ended, or did not do in time what was waited for."""


@contextmanager
def private_slurm() -> Iterator[Slurm]:
    """A fresh cluster on free ports; skips by name without Slurm or root, or if none starts."""
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed (Debian: apt install slurm-wlm munge)")
    if os.geteuid():
        pytest.skip("slurmd starts jobs as other users, which needs root")
    # Its sockets' paths have to be short.
    folder = Path(tempfile.mkdtemp(prefix="isoflop-slurm-", dir="/tmp"))
    folder.chmod(0o755)
    host = socket.gethostname().partition(".")[0]
    user = pwd.getpwuid(os.geteuid()).pw_name
    (folder / "state").mkdir()
    (folder / "key").write_bytes(secrets.token_bytes(128))
    (folder / "key").chmod(0o400)
    nodes = [_NODE.format(node=node, host=host, port=free_port("127.0.0.1")) for node in NODES]
    head, partition = _CONFIGURATION.format(
        host=host, folder=folder, user=user, port=free_port("127.0.0.1")
    ).rsplit("PartitionName", 1)
    (folder / "slurm.conf").write_text(f"{head}{''.join(nodes)}PartitionName{partition}")
    slurm = Slurm(folder)
    daemons = []
    try:
        daemons.append(
            _start(
                slurm,
                *("munged", "--foreground", "--force", f"--key-file={folder}/key"),
                *(f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid"),
                *(f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"),
            )
        )
        try:
            _wait(lambda: (folder / "munge.socket").exists(), daemons)
            daemons.append(_start(slurm, "slurmctld", "-D"))
            daemons += [_start(slurm, "slurmd", "-D", "-N", node) for node in NODES]
            _wait(slurm.idle, daemons)
        except NotReady as error:
            log = (folder / "daemons.log").read_text(errors="replace").splitlines()
            pytest.skip(f"Slurm's daemons do not start on this machine: {error}; {log[-1:]}")
        yield slurm
        # A job's own processes are not the daemons' children.
        slurm.call("scancel", "--full", "--signal=KILL", f"--user={user}")
        _wait(lambda: not slurm.states(), daemons)
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            daemon.wait(30)
        shutil.rmtree(folder)


def _start(slurm: Slurm, *command: str) -> subprocess.Popen[bytes]:
    log = Path(slurm.environment["SLURM_CONF"]).with_name("daemons.log")
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env={**os.environ, **slurm.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # They end with this process, however it ends.
            preexec_fn=partial(die_with_parent, os.getpid()),
        )


def _wait(ready: Callable[[], bool], daemons: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + _START_S
    while not ready():
        ended = [daemon.args for daemon in daemons if daemon.poll() is not None]
        if ended or time.monotonic() > deadline:
            raise NotReady(f"Slurm is not ready: {ended or 'not in time'}")
        time.sleep(0.2)


class FakeSlurm:
    """Slurm's commands as scripts in a folder: they print what a test wrote and keep what it said.

    Args:
        folder: has to be on the PATH.
    """

    def __init__(self, folder: Path, *, nodes: str) -> None:
        self._folder = folder
        self.queue("")
        self._script("sinfo", f'case "$*" in *%R*) echo main; echo gpu;; *) echo {nodes};; esac')
        self._script("squeue", f"cat {folder}/queue")
        self._script("scancel", f'echo "$@" >> {folder}/scancel.said')
        self._script(
            "sbatch", f'echo "$@" >> {folder}/sbatch.said; env > {folder}/environment; echo 12'
        )

    def queue(self, lines: str) -> None:
        """Have squeue print these lines from now on."""
        (self._folder / "queue").write_text(lines)

    def fail(self, command: str, words: str) -> None:
        """Have a command fail from now on."""
        self._script(command, f'echo "{command}: error: {words}" >&2; exit 1')

    def said(self, command: str) -> list[str]:
        """The arguments of every call of a command."""
        path = self._folder / f"{command}.said"
        return path.read_text().splitlines() if path.exists() else []

    def environment(self) -> str:
        """The environment of the last sbatch."""
        return (self._folder / "environment").read_text()

    def _script(self, name: str, body: str) -> None:
        path = self._folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
