"""The default corpus: docstring prose of the installed packages, so no download is needed."""

import hashlib
import importlib.util
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Import name, distribution. All come with isoflop's own dependencies (sympy and networkx through
# torch; pandas, sklearn, matplotlib and sqlalchemy through mlflow); a missing one is skipped.
# plotly is not listed: its docstrings repeat one template thousands of times.
PACKAGES = (
    ("torch", "torch"),
    ("numpy", "numpy"),
    ("scipy", "scipy"),
    ("polars", "polars"),
    ("pandas", "pandas"),
    ("sklearn", "scikit-learn"),
    ("sympy", "sympy"),
    ("networkx", "networkx"),
    ("matplotlib", "matplotlib"),
    ("sqlalchemy", "SQLAlchemy"),
    ("mlflow", "mlflow"),
    ("prefect", "prefect"),
    ("pydantic", "pydantic"),
    ("optuna", "optuna"),
)
_SKIPPED_FOLDERS = {"tests", "test", "testing", "site-packages", "idle_test", "lib2to3"}


def environment_files() -> list[Path]:
    """Source files of Python and of the packages, sorted by package and path."""
    roots = [Path(sysconfig.get_paths()["stdlib"])]
    roots += [root for name, _ in PACKAGES if (root := _root(name)) is not None]
    return [path for root in roots for path in _sources(root)]


def environment_fingerprint() -> str:
    """Digest of the versions of Python and of the packages, which decide the default corpus."""
    versions = [f"python {'.'.join(map(str, sys.version_info[:3]))}"]
    for _, distribution in PACKAGES:
        try:
            versions.append(f"{distribution} {version(distribution)}")
        except PackageNotFoundError:
            versions.append(f"{distribution} absent")
    return hashlib.sha256("\n".join(versions).encode()).hexdigest()


def _root(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _sources(root: Path) -> list[Path]:
    return [
        path
        for path in sorted(root.rglob("*.py"))
        if not any(
            part in _SKIPPED_FOLDERS or part.startswith("test_")
            for part in path.relative_to(root).parts
        )
    ]
