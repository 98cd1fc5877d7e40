"""What `isoflop up` does if a stack is up already, and what the doctor reports of it."""

import json
import subprocess
import sys
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from flows.health.stack_checks import check_deployments
from flows.settings import ROOT, Settings, open_home
from flows.stack import deployments, up
from flows.stack.processes import alive, process_of, register, running
from flows.stack.servers import StackError
from tests.conftest import free_ports


@pytest.fixture
def settings(tmp_path):
    ports = {
        name.removeprefix("ISOFLOP_").lower(): int(port) for name, port in free_ports().items()
    }
    return Settings(home=tmp_path, **ports)


@pytest.fixture
def home(settings):
    return open_home(settings)


@pytest.fixture
def worker(home):
    """A process in the place of a worker of a stack that is up."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    process.stdout.readline()
    # A worker is no child of what stops it: nothing of it is left once it has ended.
    threading.Thread(target=process.wait, daemon=True).start()
    registered = process_of("train-worker-0", process.pid)
    register(home, registered)
    yield registered
    process.kill()
    process.communicate()


@pytest.fixture
def started(monkeypatch):
    """Collects the slots of every stack that is started."""
    stacks = []
    monkeypatch.setattr(up, "_start_all", lambda settings, home, slots, say: stacks.append(slots))
    return stacks


def deployed_by(home, **version):
    (home.root / "deployed.json").write_text(json.dumps(deployments._version() | version))


def test_a_stack_of_this_version_is_not_restarted(settings, home, worker, started):
    deployed_by(home)
    assert list(check_deployments(settings, home, True)) == []
    up.up(settings, home, slots=[None], say=lambda line: None)
    assert alive(worker)
    assert started == []


@pytest.mark.parametrize("version", [{"sha256": "of other code"}, {"root": "/another/checkout"}])
def test_a_stack_of_another_version_is_restarted(settings, home, worker, started, version):
    deployed_by(home, **version)
    [finding] = check_deployments(settings, home, True)
    assert "another version" in finding.what
    assert finding.remedy.startswith("isoflop up")
    up.up(settings, home, slots=[None], say=lambda line: None)
    assert not alive(worker)
    assert started == [[None]]


def test_flow_runs_in_flight_are_not_stopped_for_another_version(
    settings, home, worker, started, monkeypatch
):
    deployed_by(home, sha256="of other code")
    monkeypatch.setattr(up, "server_answers", lambda settings: True)
    monkeypatch.setattr(up, "prefect_client", nullcontext)
    monkeypatch.setattr(up, "flow_runs_in_flight", lambda client: [SimpleNamespace(name="demo")])
    with pytest.raises(StackError, match=r"1 flow run in flight: demo\. Wait .*isoflop down"):
        up.up(settings, home, slots=[None], say=lambda line: None)
    assert alive(worker)
    assert started == []


def test_deploying_other_code_for_a_restarted_server_does_not_hide_its_old_workers(
    settings, home, worker, started, monkeypatch
):
    """The doctor deploys when it restarts a server; the workers stay as they were."""
    deployed_by(home, sha256="of other code")
    client = SimpleNamespace(
        create_work_pool=lambda pool, overwrite: None, read_automations_by_name=lambda name: ["one"]
    )
    monkeypatch.setattr(deployments, "prefect_client", lambda settings: nullcontext(client))
    deployed = subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(deployments.subprocess, "run", lambda *_, **__: deployed)
    monkeypatch.setattr(deployments.os, "environ", {})
    deployments.deploy(settings, home)
    [finding] = check_deployments(settings, home, True)
    assert "another version" in finding.what
    up.up(settings, home, slots=[None], say=lambda line: None)
    assert started == [[None]]


def test_a_stack_that_has_started_is_of_this_version(settings, home, monkeypatch):
    for name in ("start_server", "wait_healthy", "deploy", "start_worker", "wait_for_workers"):
        monkeypatch.setattr(up, name, lambda *_, **__: None)
    up.up(settings, home, slots=[None], say=lambda line: None)
    assert deployments.is_deployed(home)


def test_a_stack_that_is_down_has_no_version(settings, home):
    deployed_by(home, sha256="of other code")
    assert running(home) == []
    assert list(check_deployments(settings, home, False)) == []


def test_every_module_in_every_folder_of_a_package_counts_for_the_version(monkeypatch, tmp_path):
    for name in ("flows", "sweeps", "llama_core"):
        (tmp_path / name / "room").mkdir(parents=True)
    deep = tmp_path / "flows" / "room" / "module.py"
    deep.write_text("answer = 1")
    monkeypatch.setattr(deployments, "ROOT", tmp_path)
    before = deployments._version()
    deep.write_text("answer = 2")
    assert deployments._version() != before
    assert (ROOT / "flows" / "deploy" / "prefect.yaml").exists()
