"""A process that has torch loaded and forks trainings: python -m flows.training.warm HOME.

Importing torch takes seconds, which many a training of a sweep does not. A training gets a
process of its own all the same: it takes its memory, and its GPU's, with it when it ends.

Reads lines of a run id and a log file from standard input, and answers each with the exit status
of its training, negative for a signal. When the input ends, so does the training, behind a
checkpoint, and this process.
"""

import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

from flows.processes import INTERRUPTED, MAY_PASS
from flows.training import child
from flows.training.slots import child_environment

# Elsewhere a library that is loaded may not survive a fork.
_LOADS = sys.platform.startswith("linux")
# How soon the end of a training is seen.
_LOOK_S = 0.05


class WarmSlot:
    """A slot of this machine and its process; starts one when there is none, and after a crash.

    Args:
        slot: the environment that pins its trainings to a CPU or a GPU.
    """

    def __init__(self, home: Path, slot: dict[str, str]) -> None:
        self._home, self._slot = home, slot
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        # One who trains, and one who may begin or stop.
        self._training, self._guard = threading.Lock(), threading.Lock()

    def train(self, run_id: str, log_path: Path) -> int:
        """Train a run to the end of its process; its exit status, negative for a signal.

        Args:
            log_path: what the process says is appended here.
        """
        with self._training:
            with self._guard:
                if self._closed:
                    return INTERRUPTED
                process = self._process = self._ready(log_path)
                requests, answers = _pipes(process)
                with suppress(BrokenPipeError):
                    requests.write(json.dumps([run_id, str(log_path)]).encode() + b"\n")
            status = answers.readline()
            # Without an answer the process has ended: killed, or failed by the machine.
            return int(status) if status else min(process.wait(), 0) or MAY_PASS

    def stop(self) -> None:
        """Have the training write a checkpoint and stop, and the process end behind it."""
        with self._guard:
            self._closed = True
            if self._process is not None:
                _pipes(self._process)[0].close()

    def wait(self, seconds: float) -> None:
        """Wait for the end after `stop`; whatever is still there then is killed, ranks too."""
        process = self._process
        if process is None:
            return
        deadline = time.monotonic() + seconds
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        # A training outlives a process that was killed, until its checkpoint.
        while (left := _family(process.pid)) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        for one in left:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()
        with self._training:
            _pipes(process)[1].close()

    def _ready(self, log_path: Path) -> "subprocess.Popen[bytes]":
        if self._process is not None:
            if self._process.poll() is None:
                return self._process
            for pipe in _pipes(self._process):
                pipe.close()
        with log_path.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "flows.training.warm", str(self._home)],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                # numpy's threads would not be forked along, and it multiplies nothing here.
                env={**child_environment(self._slot), "OPENBLAS_NUM_THREADS": "1"},
                # Ctrl-C goes to the sweep alone, which then stops its trainings in order.
                start_new_session=True,
            )


def main(arguments: list[str]) -> int:
    """Train what is asked for until standard input ends."""
    [home] = arguments
    if _LOADS:
        import flows.training.execute  # noqa: F401
        import llama_core.corpus.prepared
        import llama_core.train  # noqa: F401
        from flows.runs.provenance import environment

        # Of the code that is loaded now, whatever becomes of it on disk.
        environment(None)
    # Read by the system's call: a buffer would be forked along.
    for line in iter(_line, ""):
        status = _ended(_begun(home, *json.loads(line)))
        # Nobody may be left to be told.
        with suppress(BrokenPipeError):
            os.write(1, f"{status}\n".encode())
    return 0


def _line() -> str:
    """A line of standard input; empty at its end."""
    found = b""
    while not found.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return ""
        found += byte
    return found.decode()


def _begun(home: str, run_id: str, log_path: str) -> int:
    """Fork a training; its process id."""
    arguments = [home, run_id, str(os.getpid())]
    output = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(output, 2)
    os.close(output)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _let_go_of_pipes()
            if not _LOADS:
                os.execv(sys.executable, [sys.executable, "-m", "flows.training.child", *arguments])  # noqa: S606
            status = child.main(arguments)
        except BaseException:
            traceback.print_exc()
        finally:
            # Without the ends that the forked process has planned for itself, disk full or not.
            with suppress(OSError):
                logging.shutdown()
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)
    return pid


def _let_go_of_pipes() -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)


def _ended(pid: int) -> int:
    """Wait for a training; asked to stop when standard input ends, so also when the sweep dies."""
    asked = False
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if asked:
            time.sleep(_LOOK_S)
        elif select.select([0], [], [], _LOOK_S)[0]:
            os.kill(pid, signal.SIGTERM)
            asked = True


def _family(group: int) -> list[psutil.Process]:
    """Living processes of a group, and their descendants: ranks have groups of their own."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found += [process, *process.children(recursive=True)]
    return found


def _pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
