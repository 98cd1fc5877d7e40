"""Trainings in jobs of a real Slurm, which is started for these tests."""

import subprocess
import sys

import pytest

from flows.plans.plan import make_plan
from flows.runs.directory import RunDir
from flows.settings import Settings, open_home
from sweeps.load import load_spec
from tests.chaos.stage import rows, truth, wait_for
from tests.chaos.table import prose, theatre
from tests.conftest import ROOT
from tests.slurm import private_slurm

# One training of two ranks: `flows.training.execute` without the servers around it.
TRAIN = """
import sys
from pathlib import Path
from flows.runs.directory import RunDir
from flows.settings import Home
from flows.training.execute import execute
home = Home(Path(sys.argv[1]))
execute(RunDir(home.runs / sys.argv[2]), home)
"""


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_jobs_cancelled_requeued_out_of_time_or_drained_lose_and_double_nothing(tmp_path):
    with theatre(tmp_path, seed=0) as ready:
        outcome = ready.play("slurm_jobs", times=1)
    assert outcome.injected == 4
    assert (outcome.lost, outcome.doubled) == (0, 0)
    # Every job waits until its training has written a checkpoint.
    assert outcome.extra_steps == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_nodes_train_a_run_as_one_does_although_the_job_is_cancelled(tmp_path):
    homes = [open_home(Settings(home=tmp_path / name)) for name in ("one", "two")]
    corpus = f"corpus.sources=[{{kind: files, path: {prose(tmp_path / 'text')}}}]"
    settings = ("ladder.widths=[16]", "grid.budgets=[6e10]", "eval_tokens=4096")
    placed = ("placement.ranks=2", "placement.device=cpu", "placement.threads=1")
    spec = load_spec("smoke", [corpus, *settings, *placed])
    runs = []
    for home in homes:
        planned = make_plan(spec, home)[0].runs[0]
        runs.append(RunDir(home.runs / planned.id))
        runs[-1].create(planned)
        runs[-1].place(spec.placement)
        if home is homes[0]:
            (homes[1].root / "corpora").symlink_to(home.root / "corpora")
    one, two = runs
    subprocess.run([sys.executable, "-c", TRAIN, homes[0].root, one.id], cwd=ROOT, check=True)
    (tmp_path / "train.py").write_text(TRAIN)
    with private_slurm() as slurm:

        def submit():
            return slurm.call(
                *("sbatch", "--parsable", "--nodes=2", "--ntasks-per-node=1"),
                *(f"--output={tmp_path}/job.log", f"--chdir={ROOT}"),
                *("--wrap", f"exec {sys.executable} {tmp_path}/train.py {homes[1].root} {two.id}"),
            )

        job = submit()
        wait_for(lambda: rows(two) > 40 or not slurm.states())
        slurm.call("scancel", job)
        wait_for(lambda: not slurm.states())
        assert two.result() is None
        assert two.newest_checkpoint()
        submit()
        wait_for(lambda: not slurm.states())
    assert two.result() is not None, (tmp_path / "job.log").read_text()
    assert truth(two) == truth(one)
