"""One training as a child process: python -m flows.child HOME RUN_ID PARENT_PID.

No Prefect, no MLflow.
"""

import ctypes
import logging
import os
import signal
import sys
import traceback
from pathlib import Path

# Exit status of a training that was asked to stop and can go on later, and of one that the
# machine failed, not the code.
INTERRUPTED = 75
MAY_PASS = 74


def main(arguments: list[str]) -> int:
    """Train the run; 0 when its result is on disk, whatever that result says."""
    home_path, run_id, parent = arguments
    die_with_parent(int(parent))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")

    from flows.execute import Interrupted, execute
    from flows.failures import may_pass
    from flows.rundir import RunDir
    from flows.settings import Home

    home = Home(Path(home_path))
    run = RunDir(home.runs / run_id)
    try:
        execute(run, home, run.placement())
    except Interrupted as stopped:
        logging.info("stopped: %s", stopped)
        return INTERRUPTED
    except Exception as error:
        traceback.print_exc()
        return MAY_PASS if may_pass(error) else 1
    return 0


def die_with_parent(parent: int) -> None:
    """Ask Linux to end this process when the one that started it dies, even by SIGKILL."""
    if not sys.platform.startswith("linux"):
        return
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
    # The parent may have died before the call above took effect.
    if os.getppid() != parent:
        raise SystemExit("the process that started this training is gone")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
