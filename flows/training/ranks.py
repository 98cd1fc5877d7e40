"""One training on several processes: started by torchrun, watched by the process that holds it.

The process that trains a run holds its lock and starts torchrun, which starts this module once
for each rank. Rank 0 writes the curve and the result as a training on one process would; the
others compute and write nothing. So neither way of dispatch needs to know of ranks.
"""

import logging
import math
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from analysis.words import counted
from flows.processes import die_with_parent
from flows.runs.directory import RunDir, RunResult
from flows.settings import Home
from flows.training.compiling import as_recorded
from flows.training.loop import finish, train_in_process
from llama_core.config import Placement

log = logging.getLogger(__name__)

# Seconds the ranks have to stop; torchrun passes the signal on and waits for them.
_GRACE_S = 30.0


class RanksError(RuntimeError):
    """The ranks ended without a result."""


def train_together(run: RunDir, home: Home) -> RunResult:
    """Train a run on `placement.ranks` processes. The caller holds the run.

    They run on this machine, or on as many nodes of a Slurm job as they need, evenly.

    Raises:
        ValueError: there are fewer GPUs than ranks, or the nodes cannot have as many ranks each.
        RanksError: a rank failed; its message is in the output of this process.
    """
    placement = run.placement()
    process = subprocess.Popen(
        [
            *_launcher(placement.ranks, _nodes(placement)),
            *("-m", "flows.training.ranks", str(home.root), run.id),
        ],
        env={**os.environ, "OMP_NUM_THREADS": str(placement.threads or 1)},
        preexec_fn=partial(die_with_parent, os.getpid()),
    )
    try:
        status = process.wait()
    except BaseException:
        _end(process)
        raise
    result = run.result()
    if result is None:
        raise RanksError(
            f"{placement.ranks} ranks of run {run.id} ended with status {status} and no result"
        )
    return result


def _launcher(ranks: int, nodes: int) -> list[str]:
    """The command that starts a module on every rank, torchrun's.

    Raises:
        ValueError: the nodes cannot have as many ranks each.
    """
    if ranks % nodes:
        raise ValueError(
            f"placement.ranks={ranks} cannot be spread evenly over the {nodes} nodes they need. "
            f"Set it to a multiple of {nodes}, or start workers with other --gpus-per-worker."
        )
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks // nodes}"]
    if nodes == 1:
        return [*torchrun, "--standalone"]
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    return [
        # When the ranks of one node fail, those of the others wait for them for ever.
        *("srun", f"--nodes={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"),
        # The first node is this one: rank 0 writes where the run is held and its result awaited.
        *("sh", "-c", 'PET_NODE_RANK=$SLURM_NODEID exec "$@"', "sh", *torchrun),
        *(f"--nnodes={nodes}", f"--master-addr={socket.gethostname()}", f"--master-port={port}"),
    ]


def main(arguments: list[str]) -> int:
    """Train as one rank of a run that the parent process holds."""
    home_path, run_id = arguments
    die_with_parent(os.getppid())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")

    home = Home(Path(home_path))
    run = RunDir(home.runs / run_id)
    log.info("rank %s of %s trains run %s", os.environ["RANK"], os.environ["WORLD_SIZE"], run_id)
    if os.environ["RANK"] == "0":
        # torchrun passes SIGTERM to every rank; this one writes a checkpoint and stops them all.
        train_in_process(run, home)
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _follow(run, home)
    return 0


def _follow(run: RunDir, home: Home) -> None:
    """Compute this rank's share; rank 0 keeps the records."""
    import torch

    from llama_core.corpus.prepared import find_corpus
    from llama_core.train import train

    spec, placement, started = run.planned().run, as_recorded(run, home), time.monotonic()
    batches = find_corpus(home.root, spec.data.digest).open(spec.train, spec.data.mixture)
    try:
        for _ in train(
            spec.model, spec.train, batches, placement=placement, checkpoints=run.checkpoints
        ):
            pass
    except torch.OutOfMemoryError as error:
        # Rank 0 waits for this one and is then ended by torchrun, so this rank writes the reason.
        reason = f"rank {os.environ['RANK']}: {str(error).partition(chr(10))[0]}"
        finish(run, "out_of_memory", started, placement.device, reason)
        raise


def _nodes(placement: Placement) -> int:
    """How many nodes a training needs: as few as have the GPUs, of those of this Slurm job.

    Raises:
        ValueError: there are fewer GPUs than ranks.
    """
    import torch

    gpus, ranks = torch.cuda.device_count(), placement.ranks
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    if placement.device == "cpu" or (placement.device == "auto" and not gpus):
        return min(nodes, ranks)
    if gpus * nodes < ranks:
        here = counted(gpus, "GPU") + (f" on each of {nodes} nodes" if nodes > 1 else "")
        raise ValueError(
            f"placement.ranks={ranks}, but this process sees {here}. "
            f"Start its worker with as many: isoflop up --gpus 0,1,… --ranks {ranks}, "
            "or with --slurm, --gpus-per-worker and --nodes-per-worker."
        )
    return math.ceil(ranks / gpus)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
