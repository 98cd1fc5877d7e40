"""The canonical trigger on a real server, with real workers."""

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import get_args
from uuid import uuid4

import httpx
import polars as pl
import pytest
import yaml

from flows.stack.servers import healthy
from flows.watch.events import Event
from tests.conftest import ROOT, bare_environment, free_ports

SWEEP = ("sweep/chinchilla", "smoke")
STUDY = ("tune/lr-batch", "lr-batch")
OVERRIDES = ["name=by-workers", "seeds=[3]", "ladder.widths=[16, 32]", "grid.budgets=[2e10]"]


@pytest.fixture
def stack(isoflop, home):
    ports = free_ports()
    done = isoflop("up", "--workers", "2", **ports)
    assert done.returncode == 0, done.stderr
    yield ports
    down = isoflop("down", **ports)
    assert down.returncode == 0, down.stderr
    assert "stopped 6 processes" in down.stdout
    assert not healthy(f"http://127.0.0.1:{ports['ISOFLOP_PREFECT_PORT']}/api/health")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_prefect_deployment_run_trains_a_sweep_on_the_workers(stack, home, isoflop):
    assert "running" in isoflop("status", **stack).stdout
    with listener() as (address, heard):
        automate(stack, address)
        with started(stack, home, OVERRIDES, *SWEEP) as sweep:
            said = sweep.communicate(timeout=1200)[0]
        assert sweep.returncode == 0, said
        send(stack, "run.failed", {"run": "d16", "reason": "loss nan"})
        send(stack, "forecast.missed", {"run": "d16", "loss": 3.5})
        wanted = {
            "by-workers has finished",
            "by-workers: a training failed",
            "by-workers: a loss outside its forecast",
        }
        deadline = time.monotonic() + 60
        while not {message["subject"] for message in heard} >= wanted:
            assert time.monotonic() < deadline, heard
            time.sleep(0.2)
    bodies = {message["subject"]: message["body"] for message in heard}
    assert bodies["by-workers: a training failed"] == "d16: loss nan"
    assert bodies["by-workers has finished"]
    table = pl.read_parquet(home / "sweeps" / "by-workers" / "observations.parquet")
    assert table["status"].unique().to_list() == ["finished"]
    assert table.height == 2
    assert (home / "sweeps" / "by-workers" / "report.html").exists()
    shown = httpx.post(f"{api_of(stack)}/flow_runs/filter", json={}, timeout=60).json()
    assert "by-workers" in [run["name"] for run in shown]
    # What a worker trained is what a child process would have: found, not trained again.
    command = ["sweep", "smoke", *(part for one in OVERRIDES for part in ("--set", one))]
    again = isoflop(*command, **stack)
    # Two losses give no law.
    assert again.returncode == 1, again.stderr
    assert "every run of this sweep is finished" in again.stderr


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("asked", "overrides"),
    [
        (SWEEP, ["seeds=[4]", "ladder.widths=[16, 32]", "grid.budgets=[2e11]"]),
        (
            STUDY,
            [
                *("train_seed=4", "ladder.widths=[16]", "tokens=[20480, 409600]"),
                *("eval_tokens=4096", "trials=9"),
            ],
        ),
    ],
    ids=["sweep", "study"],
)
def test_a_cancelled_sweep_or_study_leaves_nothing_running_and_resumes(
    stack, home, isoflop, asked, overrides
):
    """Cancelled while it trains; the run that another sweep finished is not what is trained."""
    # Cancelled as soon as it is started, before it has a plan.
    early, late = (f"{word}-{asked[1]}" for word in ("called-off", "cancelled"))
    with started(stack, home, [f"name={early}", *overrides], *asked) as flow:
        deadline = time.monotonic() + 120
        while (done := isoflop("cancel", early, **stack)).returncode == 2:
            assert time.monotonic() < deadline
            assert f"no sweep '{early}'" in done.stderr
        assert done.returncode == 0, done.stderr
        assert f"stopped {early}" in done.stdout
        flow.communicate(timeout=120)
    with started(stack, home, [f"name={late}", *overrides], *asked) as flow:
        deadline = time.monotonic() + 400
        while not list(home.glob("runs/*/lease.json")):
            assert time.monotonic() < deadline
            assert flow.poll() is None, flow.communicate()[0]
            time.sleep(0.1)
        cancelled = isoflop("cancel", late, **stack)
        assert cancelled.returncode == 0, cancelled.stderr
        assert f"stopped {late}" in cancelled.stdout
        flow.communicate(timeout=120)
    found = httpx.post(f"{api_of(stack)}/flow_runs/filter", json={}, timeout=60).json()
    assert {run["state"]["type"] for run in found} <= {"CANCELLED", "CRASHED", "COMPLETED"}
    assert not list(home.glob("runs/*/lease.json"))
    with started(stack, home, [f"name={late}", *overrides], *asked) as flow:
        said = flow.communicate(timeout=400)[0]
    assert flow.returncode == 0, said


@contextmanager
def listener():
    """An address that takes notifications, and what it was sent."""
    heard = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", heard
        server.shutdown()


def automate(stack, address):
    """Create the automations of the documents, with a block that posts to an address."""
    with httpx.Client(base_url=f"{api_of(stack)}/", timeout=60) as api:
        kind = answered(api.get, "block_types/slug/custom-webhook")["id"]
        only = {"block_schemas": {"block_type_id": {"any_": [kind]}}}
        schema = answered(api.post, "block_schemas/filter", json=only)[0]["id"]
        document = {
            "name": "listener", "block_type_id": kind, "block_schema_id": schema,
            "data": {
                "name": "isoflop", "url": address,
                "json_data": {"subject": "{{subject}}", "body": "{{body}}"},
            },
        }  # fmt: skip
        block = answered(api.post, "block_documents/", json=document)["id"]
        text = (ROOT / "docs" / "orchestration" / "stack.md").read_text()
        text = text.partition("```yaml\nautomations:")[2].partition("```")[0]
        automations = yaml.safe_load(f"automations:{text}".replace("ID-OF-THE-BLOCK", block))
        expected = [automation["trigger"]["expect"] for automation in automations["automations"]]
        assert expected == [[f"isoflop.{event}"] for event in get_args(Event)]
        for automation in automations["automations"]:
            answered(api.post, "automations/", json=automation)


def answered(ask, path, **options):
    """What the server answers; repeated while it registers its blocks and refuses other writes."""
    deadline = time.monotonic() + 120
    while not (answer := ask(path, **options)).is_success:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.5)
    return answer.json()


def send(stack, event, payload):
    """Send an event of the sweep, as a flow run of it does."""
    about = {
        "id": str(uuid4()), "event": f"isoflop.{event}", "payload": payload,
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {
            "prefect.resource.id": "isoflop.sweep.by-workers",
            "prefect.resource.name": "by-workers",
        },
    }  # fmt: skip
    assert httpx.post(f"{api_of(stack)}/events", json=[about], timeout=60).is_success


def api_of(stack):
    return f"http://127.0.0.1:{stack['ISOFLOP_PREFECT_PORT']}/api"


@contextmanager
def started(stack, home, overrides, deployment, spec):
    """The canonical trigger, under way; it ends with the test, however that ends."""
    process = subprocess.Popen(
        [
            *(Path(sys.executable).with_name("prefect"), "deployment", "run", deployment),
            *("--watch", "-p", f"spec={spec}", "-p", f"overrides={json.dumps(overrides)}"),
        ],
        cwd=ROOT,
        env={
            **bare_environment(),
            "PREFECT_API_URL": api_of(stack),
            "PREFECT_HOME": str(home / "prefect-client"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_prefect_deployment_run_tunes_on_the_workers(stack, home):
    overrides = [
        *("name=tuned-by-workers", "ladder.widths=[16]", "tokens=[20480, 40960]"),
        *("eval_tokens=4096", "trials=9"),
    ]
    with started(stack, home, overrides, *STUDY) as study:
        said = study.communicate(timeout=600)[0]
    assert study.returncode == 0, said
    trials = pl.read_csv(home / "tunes" / "tuned-by-workers" / "trials.csv")
    assert trials["trial"].unique().sort().to_list() == list(range(9))
