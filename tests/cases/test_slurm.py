"""What a user of Slurm sees: refusals of `isoflop up --slurm`, status and doctor."""

import json
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.health import slurm_checks
from flows.health.slurm_checks import check_slurm_jobs
from flows.settings import Home, Settings, open_home
from flows.stack.slurm import SlurmWorkers, top_up
from tests.cases.conftest import Run
from tests.slurm import FakeSlurm


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return FakeSlurm(folder, nodes=socket.gethostname())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def home(settings: Settings, slurm: FakeSlurm) -> Home:
    """A home whose stack has asked for two workers."""
    home = open_home(settings)
    top_up(settings, home, SlurmWorkers("gpu", 2))
    return home


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (("--slurm", "gpu"), "--slurm gpu needs --workers"),
        (("--slurm", "gpu", "--workers", "2", "--gpus", "0"), "--gpus-per-worker"),
        (
            ("--slurm", "gpu", "--workers", "2", "--gpus-per-worker", "-1"),
            "--gpus-per-worker -1 is less than 0",
        ),
        (("--workers", "2", "--gpus-per-worker", "1"), "--slurm PARTITION"),
        (("--slurm", "cpu", "--workers", "2"), "no such partition. Slurm has gpu, main."),
    ],
)
def test_what_up_cannot_do_with_slurm_is_one_line(
    run: Run, slurm: FakeSlurm, line: tuple[str, ...], words: str
) -> None:
    done = run("up", *line)
    assert done.status == 2
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_status_counts_running_and_pending_jobs(run: Run, home: Home, slurm: FakeSlurm) -> None:
    slurm.queue("12_0|RUNNING|None|n1|2:03|10:00\n12_1|PENDING|Resources||0:00|1:00:00\n")
    text = run("status").stdout
    assert "1 of 2 jobs in gpu running, 1 pending (Resources)" in text
    [first, _] = json.loads(run("status", "--json", "-").stdout)["slurm"]["jobs"]
    assert (first["id"], first["node"], first["run_s"]) == ("12_0", "n1", 123.0)


def test_status_says_that_slurm_does_not_answer(run: Run, home: Home, slurm: FakeSlurm) -> None:
    slurm.fail("squeue", "Unable to contact slurm controller")
    done = run("status")
    assert done.status == 0
    assert "unknown: squeue failed: squeue: error: Unable to contact" in done.stdout


def test_a_home_without_slurm_does_not_ask_it(run: Run, slurm: FakeSlurm) -> None:
    slurm.fail("squeue", "asked")
    assert "Slurm" not in run("status").stdout


@pytest.fixture
def in_prefect(monkeypatch: pytest.MonkeyPatch) -> dict[str, datetime]:
    """Heartbeats of workers, by name, on a Prefect server that answers."""
    heartbeats: dict[str, datetime] = {}
    monkeypatch.setattr(slurm_checks, "server_answers", lambda settings: True)
    monkeypatch.setattr(slurm_checks, "worker_heartbeats", lambda settings: heartbeats)
    monkeypatch.setattr(slurm_checks, "_trainings_waiting", lambda settings: 3)
    monkeypatch.setattr(slurm_checks.os, "environ", dict(os.environ))
    return heartbeats


def test_the_doctor_finds_jobs_that_wait_for_a_hand(
    settings: Settings, home: Home, slurm: FakeSlurm, in_prefect: dict[str, datetime]
) -> None:
    slurm.queue("12_0|PENDING|JobHeldUser||0:00|1:00\n12_1|PENDING|Priority||0:00|1:00\n")
    [finding] = check_slurm_jobs(settings, home, True)
    assert "12_0 waits and will not start by itself (JobHeldUser)" in finding.what
    assert "scontrol release 12_0" in finding.remedy


@pytest.mark.parametrize(
    ("run_for", "silent_s", "faults"), [("9:00", 200, 1), ("9:00", 20, 0), ("2:00", 200, 0)]
)
def test_the_doctor_finds_jobs_that_do_not_reach_prefect(
    settings: Settings,
    home: Home,
    slurm: FakeSlurm,
    in_prefect: dict[str, datetime],
    run_for: str,
    silent_s: int,
    faults: int,
) -> None:
    in_prefect["slurm-12_0"] = datetime.now(UTC) - timedelta(seconds=silent_s)
    slurm.queue(f"12_0|RUNNING|None|n1|{run_for}|1:00\n")
    findings = list(check_slurm_jobs(settings, home, True))
    assert len(findings) == faults
    assert all("slurm-12_0.log" in finding.remedy for finding in findings)


def test_the_doctor_finds_trainings_that_no_job_is_left_to_take(
    settings: Settings,
    home: Home,
    slurm: FakeSlurm,
    in_prefect: dict[str, datetime],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [finding] = check_slurm_jobs(settings, home, True)
    assert finding.what == "no Slurm job is left, and no worker for 3 waiting trainings"
    assert finding.remedy == "isoflop up --slurm gpu --workers 2 --gpus-per-worker 1"
    wanted = SlurmWorkers("gpu", 2, gpus=8, nodes=3)
    monkeypatch.setattr(slurm_checks, "asked_for", lambda home: wanted)
    [finding] = check_slurm_jobs(settings, home, True)
    assert finding.remedy.endswith("--gpus-per-worker 8 --nodes-per-worker 3")
