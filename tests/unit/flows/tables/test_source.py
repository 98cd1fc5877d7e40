"""What TABLE names is told from the name and from what lies at the path."""

from pathlib import Path

import pytest

from analysis.table.observations import TableError
from flows.tables.source import is_service, table_source


def _never() -> str:
    raise AssertionError("a file needs no tracking server")


def test_a_path_is_itself_even_if_nothing_lies_there(tmp_path: Path) -> None:
    assert table_source("none.csv", _never) == Path("none.csv")
    path = tmp_path / "runs.csv"
    path.write_text("N,D,loss\n")
    assert table_source(str(path), _never) == path


def test_a_folder_without_events_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="without TensorBoard's event files"):
        table_source(str(tmp_path), _never)


@pytest.mark.parametrize(
    ("name", "service"), [("mlflow:a", True), ("optuna:a@b", True), ("mlflow.csv", False)]
)
def test_services_are_told_by_their_prefix(name: str, service: bool) -> None:
    assert is_service(name) == service
