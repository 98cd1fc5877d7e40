"""Packages know only what stands below them, and light ones stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = {"analysis", "flows", "llama_core", "sweeps"}
ALLOWED = {
    "analysis": {"analysis"},
    "llama_core": {"llama_core"},
    "sweeps": {"sweeps", "llama_core.config", "llama_core.counting"},
    "flows": OURS,
}


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module


@pytest.mark.parametrize("package", sorted(OURS))
def test_a_package_imports_only_what_it_may(package):
    for path in (ROOT / package).rglob("*.py"):
        for name in imported_modules(path):
            if name.split(".")[0] in OURS:
                allowed = any(name == one or name.startswith(f"{one}.") for one in ALLOWED[package])
                assert allowed, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("library", ["mlflow"])
def test_only_tracking_imports_mlflow(library):
    users = {
        path.relative_to(ROOT).as_posix()
        for package in OURS
        for path in (ROOT / package).rglob("*.py")
        if any(name.split(".")[0] == library for name in imported_modules(path))
    }
    assert users == {"flows/tracking.py"}


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("sweeps.plan", {"torch", "polars", "prefect", "mlflow", "numpy"}),
        ("sweeps.load", {"torch", "polars", "prefect", "mlflow", "numpy"}),
        ("llama_core.counting", {"torch", "numpy"}),
        ("llama_core.train", {"prefect", "mlflow", "polars", "pandas"}),
        ("llama_core.corpus", {"prefect", "mlflow", "polars", "pandas", "torch"}),
        ("analysis.parametric", {"torch", "prefect", "mlflow", "pandas"}),
        ("analysis.frontier", {"torch", "prefect", "mlflow", "pandas"}),
        ("flows.cli", {"torch", "prefect", "mlflow", "polars", "numpy", "pydantic"}),
        ("flows.child", {"torch", "prefect", "mlflow", "polars"}),
        ("flows.warm", {"torch", "prefect", "mlflow", "polars"}),
    ],
)
def test_an_import_brings_nothing_heavy_along(module, forbidden):
    script = f"import sys, {module}; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not forbidden & set(done.stdout.split())


def test_packages_have_empty_inits():
    for package in OURS:
        for path in (ROOT / package).rglob("__init__.py"):
            assert path.read_text() == "", path
