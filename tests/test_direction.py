"""What is light stays light; who may import whom is held by `make lint`."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = {"analysis", "flows", "llama_core", "sweeps"}


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("sweeps.plan", {"torch", "polars", "prefect", "mlflow", "numpy"}),
        ("sweeps.load", {"torch", "polars", "prefect", "mlflow", "numpy"}),
        ("llama_core.counting", {"torch", "numpy"}),
        ("llama_core.train", {"prefect", "mlflow", "polars", "pandas"}),
        ("llama_core.corpus.prepared", {"prefect", "mlflow", "polars", "pandas", "torch"}),
        ("analysis.fit.parametric", {"torch", "prefect", "mlflow", "pandas"}),
        # scipy.stats takes a second to import; its quantiles are scipy.special's.
        ("flows.answers.fit", {"torch", "prefect", "mlflow", "pandas", "scipy.stats"}),
        ("analysis.frontier.allocation", {"torch", "prefect", "mlflow", "pandas"}),
        ("isoflop", {"torch", "prefect", "mlflow", "polars", "numpy", "pydantic"}),
        ("isoflop.words", {"torch", "prefect", "mlflow", "optuna", "pandas"}),
        ("flows.cli", {"torch", "prefect", "mlflow", "polars", "numpy", "pydantic"}),
        ("flows.training.child", {"torch", "prefect", "mlflow", "polars"}),
        ("flows.training.warm", {"torch", "prefect", "mlflow", "polars"}),
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
