"""A process that has torch loaded and forks trainings: python -m flows.training.warm HOME.

Importing torch takes seconds, longer than many trainings of a sweep. Each training still has a
process of its own, whose end frees its memory and its GPU's.

Reads lines of a run id, or of several with commas between, and a log file from standard input, and
answers each with the exit status of its training, negative for a signal. When the input ends, the
training writes a checkpoint and stops, and this process ends.
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

# On other systems a loaded library may not survive a fork.
_LOADS = sys.platform.startswith("linux")
# How often the end of a training is looked for.
_LOOK_S = 0.05


class WarmSlot:
    """A slot of this machine and its process, started when there is none and after a crash.

    Args:
        slot: environment that pins its trainings to a CPU or a GPU.
    """

    def __init__(self, home: Path, slot: dict[str, str]) -> None:
        self._home, self._slot = home, slot
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        # One for the training, and one for starting and stopping.
        self._training, self._guard = threading.Lock(), threading.Lock()

    def start(self) -> None:
        """Start the process before its first training."""
        with self._guard:
            if not self._closed:
                # A process that fails here is started again by the training, whose log says why.
                self._process = self._ready(Path(os.devnull))

    def train(self, run_id: str, log_path: Path) -> int:
        """Train a run to the end of its process; its exit status, negative for a signal.

        Args:
            run_id: of a run, or with commas of several to be trained as one program.
            log_path: the process's output is appended here.
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
            # Without an answer the process has ended: it was killed, or the machine failed.
            return int(status) if status else min(process.wait(), 0) or MAY_PASS

    def stop(self) -> None:
        """Have the training write a checkpoint and stop, and the process end after it."""
        with self._guard:
            self._closed = True
            if self._process is not None:
                _pipes(self._process)[0].close()

    def wait(self, seconds: float) -> None:
        """Wait for the end after `stop`; kill what still runs after these seconds, ranks too."""
        process = self._process
        if process is None:
            return
        deadline = time.monotonic() + seconds
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        # A training outlives a killed slot process until its checkpoint.
        while (left := _family(process.pid)) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        for remaining in left:
            with suppress(psutil.NoSuchProcess):
                remaining.kill()
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
                # numpy's threads would not survive the fork, and numpy multiplies nothing here.
                env={**child_environment(self._slot), "OPENBLAS_NUM_THREADS": "1"},
                # Ctrl-C goes to the sweep alone, which then stops its trainings in order.
                start_new_session=True,
            )


def main(arguments: list[str]) -> int:
    """Train the runs read from standard input until it ends."""
    [home] = arguments
    if _LOADS:
        import flows.training.execute
        import flows.training.stacked  # noqa: F401
        import llama_core.corpus.prepared
        import llama_core.stacked.train
        import llama_core.train  # noqa: F401
        from flows.runs.provenance import environment

        # Cached now: the code on disk may change while the loaded one runs.
        environment(None)
    # Read by the system call: a buffer would be copied by the fork.
    for line in iter(_line, ""):
        status = _wait_for(_fork(home, *json.loads(line)))
        # The reader may be gone.
        with suppress(BrokenPipeError):
            os.write(1, f"{status}\n".encode())
    return 0


def _line() -> str:
    """A line of standard input; empty at its end."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return ""
        line += byte
    return line.decode()


def _fork(home: str, run_id: str, log_path: str) -> int:
    """Fork a training; its process id."""
    arguments = [home, run_id, str(os.getpid())]
    output = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(output, 2)
    os.close(output)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _close_pipes()
            if not _LOADS:
                os.execv(sys.executable, [sys.executable, "-m", "flows.training.child", *arguments])  # noqa: S606
            status = child.main(arguments)
        except BaseException:
            traceback.print_exc()
        finally:
            # `_exit` skips exit handlers, which are the parent's; a full disk must not stop it.
            with suppress(OSError):
                logging.shutdown()
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)
    return pid


def _close_pipes() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)


def _wait_for(pid: int) -> int:
    """Wait for a training; stop it when standard input ends, which it does if the sweep dies."""
    stopping = False
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if stopping:
            time.sleep(_LOOK_S)
        elif select.select([0], [], [], _LOOK_S)[0]:
            os.kill(pid, signal.SIGTERM)
            stopping = True


def _family(group: int) -> list[psutil.Process]:
    """Living processes of a group, and their descendants: ranks have groups of their own."""
    members = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members += [process, *process.children(recursive=True)]
    return members


def _pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
