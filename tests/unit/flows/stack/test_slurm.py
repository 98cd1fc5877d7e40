"""What is asked of Slurm, by which commands, and what its answers mean."""

import os
import socket

import pytest

from flows.settings import Settings, open_home
from flows.stack import slurm as module
from flows.stack import up
from flows.stack.servers import StackError, free_port
from flows.stack.slurm import (
    SlurmError,
    SlurmWorkers,
    asked_for,
    cancel_jobs,
    check_slurm,
    jobs,
    top_up,
)
from tests.slurm import FakeSlurm

QUEUE = """12_0|RUNNING|None|n1|1-02:03:04|10:00
12_1|PENDING|Resources||0:00|UNLIMITED
14_0|COMPLETING|None|n2|5:06|INVALID
"""
WANTED = SlurmWorkers("gpu", 4)


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home", prefect_port=free_port("127.0.0.1"))


@pytest.fixture
def home(settings):
    return open_home(settings)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return FakeSlurm(folder, nodes=socket.gethostname())


def test_without_sbatch_the_message_says_where_to_call_isoflop(settings, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match=r"--slurm gpu: sbatch is not on the PATH.*login node"):
        check_slurm(WANTED, settings)


def test_an_unknown_partition_is_refused_with_those_there_are(settings, slurm):
    check_slurm(WANTED, settings)
    with pytest.raises(ValueError, match=r"--slurm cpu: .* Slurm has gpu, main\."):
        check_slurm(SlurmWorkers("cpu", 4), settings)


def test_servers_on_the_loopback_are_refused_for_workers_on_other_nodes(
    settings, tmp_path, slurm, monkeypatch
):
    FakeSlurm(tmp_path / "bin", nodes="gpu-07")
    with pytest.raises(ValueError, match=r"127\.0\.0\.1, which .* gpu-07 .*ISOFLOP_HOST"):
        check_slurm(WANTED, settings)
    check_slurm(WANTED, settings.model_copy(update={"host": "10.0.0.5"}))
    with pytest.raises(ValueError, match=r"ISOFLOP_HOST=0\.0\.0\.0 is no address"):
        check_slurm(WANTED, settings.model_copy(update={"host": "0.0.0.0"}))


def test_only_missing_jobs_are_submitted(settings, home, slurm, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert top_up(settings, home, WANTED) == "12"
    slurm.queue(QUEUE)
    top_up(settings, home, WANTED)
    assert top_up(settings, home, SlurmWorkers("gpu", 3)) == ""
    first, second = slurm.said("sbatch")
    assert "--array=0-3 " in first
    assert "--array=0-0 " in second
    for words in ("--partition=gpu", "--gres=gpu:1", "--requeue", "--signal=B:USR1@90"):
        assert words in first
    assert "OMP_NUM_THREADS=1" not in slurm.environment()


def test_a_worker_without_gpus_asks_for_none_and_has_one_thread(settings, home, slurm, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    top_up(settings, home, SlurmWorkers("main", 1, gpus=0))
    assert "--gres" not in slurm.said("sbatch")[0]
    assert "OMP_NUM_THREADS=1" in slurm.environment()


def test_passwords_go_by_the_environment_and_not_by_the_command_line(
    settings, home, slurm, monkeypatch
):
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:hidden")
    top_up(settings, home, WANTED)
    assert "hidden" not in slurm.said("sbatch")[0]
    assert "PREFECT_API_AUTH_STRING=me:hidden" in slurm.environment()
    assert f"PREFECT_API_URL={settings.prefect_api}" in slurm.environment()
    assert "hidden" not in (home.root / "slurm.json").read_text()


def test_what_sbatch_refuses_is_told_with_a_next_step_and_not_noted(settings, home, slurm):
    slurm.fail("sbatch", "Invalid generic resource (gres) specification")
    with pytest.raises(SlurmError, match=r"Invalid generic resource .*--gpus-per-worker 0"):
        top_up(settings, home, WANTED)
    assert asked_for(home) is None


def test_jobs_of_an_up_that_saw_no_answer_are_cancelled_by_down(settings, home, slurm, monkeypatch):
    slurm._script("sbatch", "exec sleep 5")
    monkeypatch.setattr(module, "_ANSWER_S", 0.2)
    slurm.queue(QUEUE)
    with pytest.raises(SlurmError, match="did not answer sbatch"):
        top_up(settings, home, WANTED)
    assert cancel_jobs(home) == 3


def test_what_was_asked_for_stays_when_more_is_refused(settings, home, slurm):
    top_up(settings, home, WANTED)
    slurm.fail("sbatch", "QOSMaxSubmitJobPerUserLimit")
    with pytest.raises(SlurmError, match="QOSMax"):
        top_up(settings, home, SlurmWorkers("gpu", 400))
    assert asked_for(home) == WANTED


def test_jobs_are_read_from_the_queue(home, slurm):
    slurm.queue(QUEUE)
    first, second, third = jobs(home)
    assert (first.id, first.state, first.node, first.worker) == (
        *("12_0", "RUNNING", "n1"),
        "slurm-12_0",
    )
    assert first.run_s == 86400 + 2 * 3600 + 3 * 60 + 4
    assert (second.state, second.reason, second.run_s) == ("PENDING", "Resources", 0)
    assert third.run_s == 306


def test_every_array_is_cancelled_once(settings, home, slurm):
    assert cancel_jobs(home) == 0
    top_up(settings, home, WANTED)
    slurm.queue(QUEUE)
    assert cancel_jobs(home) == 3
    assert slurm.said("scancel") == ["12 14"]


def test_no_jobs_are_submitted_to_a_stack_that_listens_elsewhere(
    settings, home, slurm, monkeypatch
):
    monkeypatch.setattr(up, "_bring_up", lambda *_: None)
    with pytest.raises(StackError, match=r"does not answer at http://.*isoflop down"):
        up.up(settings, home, slots=[], slurm=WANTED, say=lambda line: None)
    assert slurm.said("sbatch") == []


def test_down_forgets_jobs_that_have_ended(settings, home, slurm):
    top_up(settings, home, WANTED)
    assert up.down(settings, home) == up.Stopped(0, 0)
    assert asked_for(home) is None


def test_down_says_that_jobs_may_run_when_slurm_does_not_answer(settings, home, slurm):
    top_up(settings, home, WANTED)
    (home.root / "stack.json").write_text("[]")
    slurm.fail("squeue", "Unable to contact slurm controller")
    with pytest.raises(SlurmError, match=r"squeue failed: .*Unable to contact"):
        up.down(settings, home)
    assert not (home.root / "stack.json").exists()
    assert asked_for(home) == WANTED


def test_down_names_jobs_that_do_not_end(settings, home, slurm, monkeypatch):
    monkeypatch.setattr(module, "_END_S", 0.0)
    top_up(settings, home, WANTED)
    slurm.queue(QUEUE)
    with pytest.raises(SlurmError, match=r"3 Slurm jobs have not ended, as 12_0 \(RUN.*squeue"):
        up.down(settings, home)


def test_a_controller_that_hangs_is_not_waited_for(home, slurm, monkeypatch):
    monkeypatch.setattr(module, "_ANSWER_S", 0.05)
    slurm._script("squeue", "exec sleep 5")
    with pytest.raises(SlurmError, match="did not answer squeue"):
        jobs(home)
