"""A process between a worker and its training: python -m flows.training.attend.

A Prefect worker that ends kills its child at once. This process is that child and has nothing to
save: the training, its own child, then gets SIGTERM from the kernel and writes its checkpoint.
"""

import os
import signal
import subprocess
import sys
from functools import partial

from flows.processes import die_with_parent


def main() -> int:
    """Run Prefect's engine for the flow run named in the environment, and end as it does."""
    die_with_parent(os.getppid())
    engine = subprocess.Popen(
        [sys.executable, "-m", "prefect.engine"],
        preexec_fn=partial(die_with_parent, os.getpid()),
    )
    # The engine decides when this ends: SIGTERM is passed on, and a terminal sends it Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, frame: engine.terminate())
    signal.signal(signal.SIGINT, lambda number, frame: None)
    status = engine.wait()
    if status < 0:
        # What Prefect would see without this process.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main())
