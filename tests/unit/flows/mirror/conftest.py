"""Trackers that the tests of this room share: the fake, and MLflow on SQLite."""

import pytest

from tests.fakes import FakeTracker, ReadableTracker


@pytest.fixture(scope="session")
def mlflow_tracker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    tracker = ReadableTracker(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")
    tracker.initialise()
    return tracker


@pytest.fixture(params=["fake", "mlflow"])
def tracker(request):
    return FakeTracker() if request.param == "fake" else request.getfixturevalue("mlflow_tracker")


@pytest.fixture
def sweep(request):
    # The MLflow database is shared by the tests, so each has a sweep of its own.
    return f"sweep-{request.node.name}"
