"""The one module that imports mlflow."""

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PAGE = 1000


def client(uri: str) -> "MlflowClient":
    """MLflow's client for a tracking server or database."""
    load_mlflow()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def load_mlflow() -> None:
    """Import MLflow, with its output turned down."""
    # Read when mlflow is imported.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # A server that is down shows in seconds, not in minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow  # noqa: F401

    # Importing MLflow turns these up, and their lines would break a live table.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def all_runs(tracking: "MlflowClient", experiment: str, **options: Any) -> Iterator[Any]:
    """The runs of an experiment, page by page."""
    token = None
    while True:
        page = tracking.search_runs([experiment], max_results=_PAGE, page_token=token, **options)
        yield from page
        token = page.token
        if not token:
            return


def entities() -> Any:
    """MLflow's Metric, Param and RunTag, by those names."""
    from mlflow import entities

    return entities


def model_document(**about: Any) -> Any:
    """MLflow's description of a model, the file MLmodel."""
    from mlflow.models import Model

    return Model(**about)


def artifact_files(address: str, tracking_uri: str) -> Any:
    """Files behind the artifact proxy of an MLflow server."""
    load_mlflow()
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

    return MlflowArtifactsRepository(address, tracking_uri=tracking_uri)


def mlflow_exception() -> type[Exception]:
    """MLflow's own exception."""
    from mlflow.exceptions import MlflowException

    return cast(type[Exception], MlflowException)


def mirror_error() -> tuple[type[Exception], ...]:
    """The exceptions that MLflow raises."""
    from sqlalchemy.exc import SQLAlchemyError

    return mlflow_exception(), SQLAlchemyError, OSError
