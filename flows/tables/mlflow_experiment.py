"""The runs of an MLflow experiment as a table: parameters, last metrics, tags and state."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from analysis.table.files import Contents, described
from analysis.table.lines import typed
from analysis.table.observations import TableError
from flows.mirror.client import all_runs, client, mirror_error


def read_experiment(name: str, our_uri: Callable[[], str]) -> Contents:
    """The runs of an experiment, one a row.

    Args:
        our_uri: where MLflow is unless MLFLOW_TRACKING_URI says.

    Raises:
        TableError: there is no such experiment, it has no run, or MLflow cannot be reached.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or our_uri()
    _refuse_missing_store(uri)
    # MLflow closes its old store of folders to writers; we only read.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    try:
        tracking = client(uri)
        runs = list(_runs(tracking, name, uri))
    except mirror_error() as error:
        if uri.startswith("http") and "Max retries" in str(error):
            raise TableError(
                f"MLflow at {uri} does not answer. Start it, or set MLFLOW_TRACKING_URI."
            ) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TableError(f"MLflow at {uri} cannot be read: {reason}") from error
    if not runs:
        raise TableError(f"MLflow experiment {name!r} at {uri} has no runs.")
    return described(typed(_cells(runs)))


def _refuse_missing_store(uri: str) -> None:
    """Refuse a database or folder that does not exist: MLflow would make it."""
    from sqlalchemy.engine import make_url

    if uri.startswith("sqlite:"):
        path = Path(make_url(uri).database or "")
    elif uri.startswith("file:") or "://" not in uri:
        path = Path(uri.removeprefix("file://").removeprefix("file:"))
    else:
        return
    if not path.exists():
        raise TableError(
            f"there is no MLflow store {path}. Set MLFLOW_TRACKING_URI to the server, database or "
            "folder of the experiment."
        )


def _runs(tracking: Any, name: str, uri: str) -> Iterator[Any]:
    experiment = tracking.get_experiment_by_name(name)
    if experiment is None:
        known = [experiment.name for experiment in tracking.search_experiments(max_results=20)]
        raise TableError(
            f"MLflow at {uri} has no experiment {name!r}. It has {', '.join(known) or 'none'}. "
            "Another server: MLFLOW_TRACKING_URI."
        )
    return all_runs(tracking, experiment.experiment_id, order_by=["start_time"])


def _cells(runs: list[Any]) -> list[list[str]]:
    """The names of the columns, then each run's cells as text.

    A name of two kinds says which: `params.loss` and `metrics.loss`.
    """
    rows = [_row(run) for run in _observations(runs) or runs]
    kinds = dict.fromkeys(chain.from_iterable(rows))
    names = Counter(name for _, name in kinds)
    header = [name if names[name] == 1 else f"{kind}.{name}" for kind, name in kinds]
    return [header, *([row.get(key, "") for key in kinds] for row in rows)]


def _reason(data: Any) -> str:
    """Why a run is left out of a fit; empty where it is not."""
    verdict = str(data.tags.get("verdict", ""))
    if data.tags.get("isoflop.kind") == "observation":
        return verdict if verdict.startswith("left out") else ""
    # Parents of nested runs, and pages of reports.
    return "" if data.params and data.metrics else "no metrics or params"


def _observations(runs: list[Any]) -> list[Any]:
    """In the experiment of a sweep of ours, the runs that have one loss each."""
    return [run for run in runs if run.data.tags.get("isoflop.kind") == "observation"]


def _row(run: Any) -> Mapping[tuple[str, str], str]:
    """A run's values by kind and name."""
    info, data = run.info, run.data
    row = {
        ("run", "run_id"): info.run_id,
        ("run", "name"): info.run_name or "",
        ("run", "status"): info.status,
        ("run", "excluded_reason"): _reason(data),
    }
    row |= {("params", name): value for name, value in data.params.items()}
    row |= {("metrics", name): repr(value) for name, value in data.metrics.items()}
    row |= {
        ("tags", name): value for name, value in data.tags.items() if not name.startswith("mlflow.")
    }
    return row
