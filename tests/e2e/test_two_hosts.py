"""Two hosts that share no disk: homes of their own, and network namespaces where we are root."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import psutil
import pytest

from flows.mirror.tracker import open_tracker
from flows.runs.directory import RunDir
from flows.settings import TRAIN_POOL, Settings, open_home
from flows.stack import deployments
from flows.stack.servers import (
    free_port,
    prefect_environment,
    start_mlflow_server,
    start_prefect_server,
    wait_healthy,
)
from tests.conftest import ROOT, bare_environment

# One training of many seconds, to be killed, and one of a moment.
SPEC = ["name=two-hosts", "ladder.widths=[16, 32]", "grid.budgets=[1e10, 4e11]"]
PLACED = [*SPEC, "placement.checkpoint_every_s=1", "placement.threads=1"]
SWEEP = "import sys; from flows.sweep import sweep; sweep('smoke', tuple(sys.argv[1:]))"


@dataclass
class Host:
    """A machine of its own, as seen by a worker."""

    home: Path
    prefix: list[str] = field(default_factory=list)

    def start(self, arguments, environment, log):
        with log.open("ab") as output:
            return subprocess.Popen(
                [*self.prefix, sys.executable, *arguments],
                cwd=ROOT,
                env={**activated(), **environment, "ISOFLOP_HOME": str(self.home)},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )


def activated():
    """The environment of a shell in which isoflop's own is activated, as the docs say."""
    found = bare_environment()
    return {**found, "PATH": os.pathsep.join((str(Path(sys.executable).parent), found["PATH"]))}


@pytest.fixture
def network():
    """Address of the servers, and for each host what puts a command on it.

    Where nobody lets us make network namespaces the hosts share the loopback.
    """
    if os.geteuid() or not shutil.which("ip"):
        yield "127.0.0.1", [[], []]
        return
    mark, net = secrets.token_hex(2), f"10.{secrets.randbelow(200) + 20}"
    with ExitStack() as undo:
        prefixes = []
        for number in (1, 2):
            space, near, far = f"isoflop-{mark}-{number}", f"v{mark}{number}n", f"v{mark}{number}f"
            if ip("netns", "add", space, check=False):
                yield "127.0.0.1", [[], []]
                return
            undo.callback(ip, "netns", "del", space)
            ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", space)
            ip("address", "add", f"{net}.{number}.1/24", "dev", near)
            ip("link", "set", near, "up")
            ip("-n", space, "address", "add", f"{net}.{number}.2/24", "dev", far)
            ip("-n", space, "link", "set", far, "up")
            ip("-n", space, "route", "add", "default", "via", f"{net}.{number}.1")
            prefixes.append(["ip", "netns", "exec", space])
        yield f"{net}.1.1", prefixes


@pytest.fixture
def servers(network, home, tmp_path, monkeypatch):
    """Servers on the address of the network, and the home of the sweep."""
    address, _ = network
    settings = Settings(
        home=tmp_path / "server",
        host=address,
        prefect_port=free_port(address),
        mlflow_port=free_port(address),
        mlflow_uri=None,
    )
    central = open_home(settings)
    (central.root / "corpora").symlink_to(corpora(home))
    # A dead host is given up soon, though a heartbeat, one every 30 s, may be late.
    monkeypatch.setattr(deployments, "_ZOMBIE_AFTER_S", 60)
    for name, value in prefect_environment(settings, central).items():
        monkeypatch.setenv(name, value)
    open_tracker(settings, central)
    started = [
        start_prefect_server(settings, central, port=settings.prefect_port, tied=False),
        start_mlflow_server(settings, central),
    ]
    try:
        for server, page in zip(
            started,
            (f"{settings.prefect_api}/health", f"{settings.mlflow_address}/health"),
            strict=True,
        ):
            wait_healthy(page, server, central.logs)
        deployments.deploy(settings, central)
        yield settings, central
    finally:
        for server in started:
            end(server)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_run_begun_on_a_host_that_dies_is_finished_by_another_to_the_bit(
    network, servers, home, isoflop, tmp_path
):
    settings, central = servers
    common = {
        **prefect_environment(settings, central),
        "ISOFLOP_STORE": f"mlflow-artifacts://{settings.host}:{settings.mlflow_port}/store",
        "OMP_NUM_THREADS": "1",
    }
    _, prefixes = network
    first, second = (
        Host(tmp_path / name, prefix) for name, prefix in zip("ab", prefixes, strict=True)
    )
    with ExitStack() as undo:
        sweep = Host(central.root).start(["-c", SWEEP, *PLACED], common, tmp_path / "sweep.log")
        undo.callback(end, sweep)
        dying = worker(first, common, tmp_path)
        undo.callback(end, dying)
        # The longest run goes first, so this is the one that has a checkpoint first.
        run_id = wait_for(lambda: pushed_checkpoint(central.artifacts / "store"), 300)
        end(dying)
        begun = RunDir(first.home / "runs" / run_id)
        assert not begun.settled()
        rows = sum(1 for _ in begun.curve.rows())
        assert rows > 0
        living = worker(second, common, tmp_path)
        undo.callback(end, living)
        assert sweep.wait(900) == 0, (tmp_path / "sweep.log").read_text()
    # The other host resumed: its first steps have the times of the first host.
    taken = (second.home / "runs" / run_id / "curve.jsonl").read_bytes().splitlines()
    told = begun.curve_path.read_bytes().splitlines()
    same = sum(1 for here, there in zip(taken, told, strict=False) if here == there)
    assert same > 1
    assert contents(central.runs / run_id) == contents(second.home / "runs" / run_id)

    local = tmp_path / "local"
    local.mkdir()
    (local / "corpora").symlink_to(corpora(home))
    done = isoflop("sweep", "smoke", *(part for one in SPEC for part in ("--set", one)), home=local)
    # So few losses give no law.
    assert done.returncode == 1, done.stderr
    assert table(central.root).equals(table(local))
    for path in (local / "runs").iterdir():
        assert losses(central.runs / path.name) == losses(path)


def worker(host, environment, folder):
    """A worker on a host; its training is in its process group and dies with it."""
    host.home.mkdir()
    command = ["-m", "prefect", "worker", "start", "--pool", TRAIN_POOL, "--name", host.home.name]
    own = {**environment, "PREFECT_HOME": str(host.home / "prefect")}
    log = folder / f"worker-{host.home.name}.log"
    return host.start([*command, "--limit", "1", "--type", "process"], own, log)


def end(process):
    """SIGKILL for a process and all its descendants, as when a machine loses its power."""
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.wait(20)


def pushed_checkpoint(store):
    """Id of a run whose newest whole index has a checkpoint of some steps, and no result."""
    for path in sorted(store.glob("runs/*/index-*.json")):
        try:
            index = json.loads(path.read_text())
        except ValueError:
            continue  # being written
        if index["checkpoint"] and not index["settled"]:
            return path.parent.name
    return None


def corpora(home):
    """Where the default corpus is prepared, once for all tests."""
    from flows.plans.plan import make_plan
    from sweeps.load import load_spec

    make_plan(load_spec("smoke", SPEC), open_home(Settings(home=home)))
    return home / "corpora"


def contents(folder):
    names = ("spec.json", "curve.jsonl", "result.json", "provenance.json")
    return {name: (folder / name).read_bytes() for name in names}


def table(home):
    seen = ["run_id", "n_params", "tokens", "train_flops", "val_loss", "val_bpb", "status"]
    return pl.read_parquet(home / "sweeps" / "two-hosts" / "observations.parquet").select(seen)


def losses(folder):
    run = RunDir(folder)
    curve = [(row["kind"], row["step"], row.get("loss")) for row in run.curve.rows()]
    return curve, [found.weights_sha256 for found in run.result().observations]


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not (met := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return met


def ip(*arguments, check=True):
    return subprocess.run(["ip", *arguments], capture_output=True, check=check).returncode
