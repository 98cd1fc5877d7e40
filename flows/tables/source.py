"""What TABLE names: a file, an MLflow experiment, an Optuna study, a TensorBoard folder."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.table.files import Contents

_MLFLOW, _OPTUNA = "mlflow:", "optuna:"


def is_service(name: str) -> bool:
    """Whether TABLE names something other than a path or a sweep."""
    return name.startswith((_MLFLOW, _OPTUNA))


def table_source(name: str, our_uri: Callable[[], str]) -> "Path | Contents":
    """The path of a file, or the contents of what is no file.

    Args:
        our_uri: where MLflow is unless MLFLOW_TRACKING_URI says.

    Raises:
        TableError: there is no such source, or it cannot be read.
    """
    from analysis.table.observations import TableError
    from flows.tables.mlflow_experiment import read_experiment
    from flows.tables.optuna_study import is_journal, read_study
    from flows.tables.tensorboard_folder import has_events, read_folder

    if name.startswith(_MLFLOW):
        return read_experiment(name.removeprefix(_MLFLOW), our_uri)
    if name.startswith(_OPTUNA):
        return read_study(name.removeprefix(_OPTUNA))
    path = Path(name)
    if path.is_dir():
        if not has_events(path):
            raise TableError(
                f"{name} is a folder without TensorBoard's event files (*tfevents*). Give the "
                "table's file."
            )
        return read_folder(path)
    return read_study(name) if is_journal(path) else path
