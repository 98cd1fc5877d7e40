"""Addresses of MLflow's pages for a sweep and its runs, read without MLflow and without writing."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flows.files import read_object
from flows.mirror.views import TAG, run_page, sweep_page
from flows.settings import Home, Settings


def sweep_address(sweep: str, settings: Settings, home: Home) -> str | None:
    """The page that compares a sweep's losses; None where its number is not in the home."""
    number = _experiment(sweep, settings, home)
    if number is None:
        return None
    return f"{settings.mlflow_address}{sweep_page(number, has_views=_has_views(number, home))}"


def run_address(sweep: str, run: Path, settings: Settings, home: Home) -> str | None:
    """The page of a run, by its folder; None where it is not mirrored, or elsewhere."""
    number, note = _experiment(sweep, settings, home), read_object(run / f"mirror-{sweep}.json")
    if number is None or not isinstance(note.get("run"), str):
        return None
    return f"{settings.mlflow_address}/{run_page(number, quote(note['run']))}"


def _experiment(sweep: str, settings: Settings, home: Home) -> int | None:
    """MLflow's number of the experiment of a sweep, from the home's own database."""
    path = home.root / "mlflow.db"
    if settings.mlflow_uri is not None or settings.mlflow_db is not None or not path.is_file():
        return None
    query = "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'active'"
    row = _first_row(path, query, (sweep,))
    return None if row is None else int(row[0])


def _has_views(number: int, home: Home) -> bool:
    """Whether the views of an experiment were logged: a link to one that is missing is an error."""
    query = "SELECT 1 FROM experiment_tags WHERE experiment_id = ? AND key = ?"
    return _first_row(home.root / "mlflow.db", query, (number, f"{TAG}scaling")) is not None


def _first_row(path: Path, query: str, values: tuple[object, ...]) -> Any:
    try:
        with closing(
            sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0.2)
        ) as database:
            return database.execute(query, values).fetchone()
    except sqlite3.Error:
        return None
