"""Addresses of MLflow's pages for a sweep and its runs, read without MLflow and without writing."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flows.files import read_object
from flows.mirror.views import run_page, sweep_page
from flows.settings import Home, Settings


def sweep_address(sweep: str, settings: Settings, home: Home) -> str | None:
    """The page that compares a sweep's losses; None where its number is not in the home."""
    number = _experiment(sweep, settings, home)
    if number is None:
        return None
    return f"{settings.mlflow_address}{sweep_page(number, _tags(number, home))}"


def run_address(sweep: str, run: Path, settings: Settings, home: Home) -> str | None:
    """The page of a run, by its folder; None where it is not mirrored, or elsewhere."""
    return run_addresses(sweep, [run], settings, home).get(run.name)


def run_addresses(
    sweep: str, runs: Iterable[Path], settings: Settings, home: Home
) -> dict[str, str]:
    """The pages of a sweep's runs by their ids, without those that `run_address` has none of."""
    number = _experiment(sweep, settings, home)
    if number is None:
        return {}
    notes = {run.name: read_object(run / f"mirror-{sweep}.json").get("run") for run in runs}
    return {
        run: f"{settings.mlflow_address}/{run_page(number, quote(note))}"
        for run, note in notes.items()
        if isinstance(note, str)
    }


def _experiment(sweep: str, settings: Settings, home: Home) -> int | None:
    """MLflow's number of the experiment of a sweep, from the home's own database."""
    path = home.root / "mlflow.db"
    if settings.mlflow_uri is not None or settings.mlflow_db is not None or not path.is_file():
        return None
    query = "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'active'"
    rows = _rows(path, query, (sweep,))
    return int(rows[0][0]) if rows else None


def _tags(number: int, home: Home) -> set[str]:
    """The keys of the tags of an experiment."""
    query = "SELECT key FROM experiment_tags WHERE experiment_id = ?"
    return {str(key) for (key,) in _rows(home.root / "mlflow.db", query, (number,))}


def _rows(path: Path, query: str, values: tuple[object, ...]) -> list[Any]:
    try:
        with closing(
            sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0.2)
        ) as database:
            return database.execute(query, values).fetchall()
    except sqlite3.Error:
        return []
