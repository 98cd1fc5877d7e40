"""A rank that fails leaves the result that rank 0 cannot write any more."""

import runpy
import signal
import subprocess
import sys

import pytest
import torch

from flows.runs.attempts import CompileChoice, record_choice
from flows.runs.curve import CurveWriter
from flows.runs.directory import RunDir
from flows.settings import Home
from flows.training import ranks
from llama_core.config import Placement
from tests.fakes import evaluation, planned_run


def test_memory_that_ends_on_another_rank_keeps_the_losses_on_the_curve(tmp_path, monkeypatch):
    class Corpus:
        def open(self, train, mixture):
            return None

    def train(*_, **__):
        raise torch.OutOfMemoryError("no room\nfor more")

    monkeypatch.setattr("llama_core.corpus.prepared.find_corpus", lambda root, digest: Corpus())
    monkeypatch.setattr("llama_core.train.train", train)
    monkeypatch.setenv("RANK", "1")
    planned = planned_run()
    run = RunDir(tmp_path / "runs" / planned.id)
    run.create(planned)
    curve = CurveWriter(run.curve_path)
    curve.append(evaluation(20))
    curve.close()
    with pytest.raises(torch.OutOfMemoryError):
        ranks._follow(run, Home(tmp_path))
    result = run.result()
    assert (result.status, result.reason) == ("out_of_memory", "rank 1: no room")
    assert [observation.tokens for observation in result.observations] == [20 * 1024]


@pytest.fixture
def run(tmp_path):
    planned = planned_run()
    run = RunDir(tmp_path / "runs" / planned.id)
    run.create(planned)
    return run


@pytest.mark.parametrize("compiled", [True, False])
def test_every_rank_compiles_as_the_run_was_recorded(run, tmp_path, monkeypatch, compiled):
    class Corpus:
        def open(self, train, mixture):
            return None

    placements = []

    def train(*_, placement, **__):
        placements.append(placement)
        return ()

    monkeypatch.setattr("llama_core.corpus.prepared.find_corpus", lambda root, digest: Corpus())
    monkeypatch.setattr("llama_core.train.train", train)
    monkeypatch.setattr("llama_core.compiling.compile_obstacle", lambda device: None)
    run.place(Placement(device="cpu", ranks=2))
    record_choice(run, CompileChoice(compiled=compiled, reason="it was measured"))
    ranks._follow(run, Home(tmp_path))
    assert [each.compile for each in placements] == ["on" if compiled else "off"]


@pytest.mark.parametrize(
    ("device", "gpus", "enough"),
    [
        ("cpu", 0, True),
        ("auto", 0, True),
        ("auto", 1, False),
        ("auto", 2, True),
        ("cuda", 0, False),
    ],
)
def test_ranks_need_a_gpu_each_unless_they_train_on_the_cpu(monkeypatch, device, gpus, enough):
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    placement = Placement(device=device, ranks=2)
    monkeypatch.delenv("SLURM_JOB_NUM_NODES", raising=False)
    if enough:
        assert ranks._nodes(placement) == 1
    else:
        with pytest.raises(ValueError, match=f"placement.ranks=2, but this process sees {gpus} GP"):
            ranks._nodes(placement)


@pytest.mark.parametrize(("count", "nodes"), [(8, 1), (9, 2), (16, 2), (32, 4)])
def test_a_training_takes_as_few_nodes_of_a_slurm_job_as_have_the_gpus(monkeypatch, count, nodes):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "4")
    assert ranks._nodes(Placement(device="cuda", ranks=count)) == nodes


def test_more_ranks_than_the_gpus_of_all_nodes_are_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    with pytest.raises(ValueError, match=r"8 GPUs on each of 2 nodes.*--nodes-per-worker"):
        ranks._nodes(Placement(device="cuda", ranks=32))


def test_ranks_on_several_nodes_are_started_by_srun_evenly():
    assert "srun" not in ranks._launcher(8, 1)
    command = ranks._launcher(16, 2)
    assert command[:2] == ["srun", "--nodes=2"]
    assert {"--nproc-per-node=8", "--nnodes=2"} <= set(command)
    with pytest.raises(ValueError, match=r"placement\.ranks=9 cannot be spread evenly over the 2"):
        ranks._launcher(9, 2)


class Torchrun:
    """A process that ends with a status, after it has waited for a signal if it must."""

    def __init__(self, *, error=None, slow=False):
        self.error, self.slow, self.done = error, slow, []

    def __call__(self, command, **options):
        self.command, self.environment = command, options["env"]
        return self

    def wait(self, timeout=None):
        if self.error is not None and not self.done:
            raise self.error
        self.done.append(("wait", timeout))
        if timeout and self.slow:
            raise subprocess.TimeoutExpired("torchrun", timeout)
        return 3

    def send_signal(self, number):
        self.done.append(number)

    def kill(self):
        self.done.append("kill")


def test_one_process_is_started_for_each_rank(run, tmp_path, monkeypatch):
    torchrun = Torchrun()
    monkeypatch.setattr(ranks.subprocess, "Popen", torchrun)
    for threads, wanted in ((None, "1"), (4, "4")):
        run.place(Placement(device="cpu", ranks=2, threads=threads))
        with pytest.raises(ranks.RanksError, match=f"2 ranks of run {run.id} ended with status 3"):
            ranks.train_together(run, Home(tmp_path))
        assert "--nproc-per-node=2" in torchrun.command
        assert torchrun.command[-2:] == [str(tmp_path), run.id]
        assert torchrun.environment["OMP_NUM_THREADS"] == wanted
    finished = ranks.finish(run, "diverged", 0.0, "cpu", "loss is nan")
    assert ranks.train_together(run, Home(tmp_path)) == finished


@pytest.mark.parametrize("slow", [False, True])
def test_an_interruption_stops_the_ranks_and_kills_those_that_do_not_stop(
    run, tmp_path, monkeypatch, slow
):
    torchrun = Torchrun(error=KeyboardInterrupt(), slow=slow)
    monkeypatch.setattr(ranks.subprocess, "Popen", torchrun)
    run.place(Placement(device="cpu", ranks=2))
    with pytest.raises(KeyboardInterrupt):
        ranks.train_together(run, Home(tmp_path))
    ended = [signal.SIGTERM, ("wait", 30.0)]
    assert torchrun.done == ([*ended, "kill", ("wait", None)] if slow else ended)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_only_the_first_rank_keeps_the_records(run, tmp_path, monkeypatch, rank):
    trained, handler = [], signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(ranks, "die_with_parent", lambda parent: None)
    monkeypatch.setattr(ranks, "train_in_process", lambda run, home: trained.append("0"))
    monkeypatch.setattr(ranks, "_follow", lambda run, home: trained.append("1"))
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    try:
        assert ranks.main([str(tmp_path), run.id]) == 0
        # The others are stopped by the first, once it has a checkpoint.
        ignored = signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert trained == [rank]
    assert ignored is (rank == "1")


def test_the_module_follows_as_the_rank_of_its_environment(run, tmp_path, monkeypatch):
    trained, handler = [], signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("flows.processes.die_with_parent", lambda parent: None)
    monkeypatch.setattr(
        "flows.training.loop.train_in_process",
        lambda run, home: trained.append((run.id, home.root)),
    )
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("sys.argv", ["ranks", str(tmp_path), run.id])
    monkeypatch.delitem(sys.modules, "flows.training.ranks")
    try:
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("flows.training.ranks", run_name="__main__")
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert ended.value.code == 0
    assert trained == [(run.id, tmp_path)]
