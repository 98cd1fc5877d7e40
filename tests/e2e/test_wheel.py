"""isoflop works the same from a wheel, in a folder that is no checkout."""

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.conftest import ROOT, bare_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SMALL = ["ladder.widths=[16]", "grid.budgets=[1e10]"]


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Python of an environment with the wheel; it finds the dependencies where this one does.

    The wheel is built from the source distribution, as `python -m build` does. The environment
    lies in a git repository that is not isoflop's, as one in a user's project.
    """
    source, project = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("project")
    for package in ("analysis", "flows", "isoflop", "llama_core", "sweeps"):
        unbuilt = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, source / package, ignore=unbuilt)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run = {"cwd": source, "check": True, "capture_output": True, "env": bare_environment()}
    build = "from setuptools import build_meta; build_meta.build_sdist('.')"
    subprocess.run([sys.executable, "-c", build], **run)
    [archive] = source.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "wheel", *offline, archive], **run)
    [wheel] = source.glob("*.whl")
    venv.create(project / "venv", symlinks=True)
    python = project / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel], **run)
    [packages] = project.glob("venv/lib/python*/site-packages")
    # A path in a .pth file is searched, the .pth files in it (an editable isoflop's) are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for arguments in (["init"], ["commit", "--allow-empty", "--message", "not isoflop's"]):
        who = ("-c", "user.name=me", "-c", "user.email=me@localhost")
        subprocess.run(["git", *who, *arguments], **run | {"cwd": project})
    return python


@pytest.fixture(scope="module")
def command(python, tmp_path_factory):
    """Runs a module or a script of that environment in an empty folder, on ports of its own."""
    folder = tmp_path_factory.mktemp("empty")
    environment = bare_environment()
    environment.pop("PYTHONPATH", None)
    port = environment["ISOFLOP_PREFECT_PORT"]
    environment["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"

    def run(*arguments, status=0):
        done = subprocess.run(
            [python, *arguments],
            cwd=folder,
            env=environment | {"PREFECT_HOME": str(folder / "client")},
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    return run


def test_python_and_its_recorded_sweep_come_with_the_wheel(command):
    script = """
import sys, isoflop
assert not {"polars", "torch"} & set(sys.modules)
sweep = isoflop.sweep("demo", home=isoflop.RECORDED)
print(isoflop.__file__, isoflop.fit(sweep, bootstrap=0).law.exponent_N)
"""
    where, exponent = command("-c", script).split()
    assert "site-packages" in where
    assert 0 < float(exponent) < 1


def test_a_sweep_is_trained_in_this_process_and_by_workers_in_an_empty_folder(command, python):
    isoflop = python.with_name("isoflop")
    where = json.loads(
        command(
            "-c",
            "import json, analysis, flows, llama_core, sweeps; from flows.settings import Settings;"
            "print(json.dumps([m.__file__ for m in (analysis, flows, llama_core, sweeps)]))",
        )
    )
    assert all(Path(path).is_relative_to(python.parents[1]) for path in where)
    settings = [part for one in ("name=here", *SMALL) for part in ("--set", one)]
    # One loss gives no law.
    command(isoflop, "sweep", "smoke", *settings, status=1)
    up = command(isoflop, "up", "--workers", "2")
    address = next(line.split()[1] for line in up.splitlines() if "next:" in line)
    assert address.startswith("PREFECT_API_URL=http://127.0.0.1:")
    try:
        command(
            *("-m", "prefect", "deployment", "run", "sweep/chinchilla", "--watch"),
            *("-p", "spec=smoke"),
        )
    finally:
        assert "stopped 6 processes" in command(isoflop, "down")
    runs = json.loads(command(isoflop, "runs", "smoke", "--json", "-"))
    assert len(runs) > 1
    assert {run["status"] for run in runs} == {"finished"}
    # The environment is inside another repository, whose commit is not isoflop's.
    shown = json.loads(command(isoflop, "show", runs[0]["parent_run_id"], "--json", "-"))
    provenance = shown["provenance"]
    assert provenance["git_commit"] is None
    assert provenance["packages"]["isoflop"]
