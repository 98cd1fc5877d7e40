"""One training as a child process: python -m flows.training.child HOME RUN_ID[,RUN_ID…] PARENT_PID.

No Prefect, no MLflow.
"""

import logging
import sys
import traceback
from pathlib import Path

from flows.processes import DECLINED, INTERRUPTED, MAY_PASS, die_with_parent


def main(arguments: list[str]) -> int:
    """Train the run, or several as one program; 0 when every result is on disk, a failure's too."""
    home_path, run_ids, parent = arguments
    die_with_parent(int(parent))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")

    from flows.runs.directory import RunDir
    from flows.settings import Home
    from flows.training.execute import execute
    from flows.training.failures import may_pass
    from flows.training.signals import Interrupted
    from flows.training.stacked import execute_stack

    home = Home(Path(home_path))
    runs = [RunDir(home.runs / run_id) for run_id in run_ids.split(",")]
    try:
        if len(runs) > 1:
            return 0 if execute_stack(runs, home) else DECLINED
        execute(runs[0], home)
    except Interrupted as stopped:
        logging.info("stopped: %s", stopped)
        return INTERRUPTED
    except Exception as error:
        traceback.print_exc()
        return MAY_PASS if may_pass(error) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
