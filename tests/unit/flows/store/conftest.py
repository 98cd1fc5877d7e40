"""Stores of every kind."""

import pytest

from flows.mirror.tracker import open_tracker
from flows.settings import Settings, open_home
from flows.stack.processes import process_of
from flows.stack.servers import free_port, healthy, start_mlflow_server, stop, wait_healthy
from flows.store.fsspec_store import FsspecStore
from flows.store.mlflow_store import MlflowArtifacts


@pytest.fixture(scope="session")
def mlflow_address(tmp_path_factory):
    """A real MLflow server that serves artifacts."""
    root = tmp_path_factory.mktemp("store-server")
    settings = Settings(home=root, mlflow_port=free_port("127.0.0.1"), mlflow_uri=None)
    home = open_home(settings)
    open_tracker(settings, home)
    server = start_mlflow_server(settings, home)
    wait_healthy(f"{settings.mlflow_address}/health", server, home.logs / "mlflow-server.log")
    yield f"127.0.0.1:{settings.mlflow_port}"
    stop([process_of("mlflow-server", server.pid)])
    server.wait()
    assert not healthy(f"{settings.mlflow_address}/health")


@pytest.fixture(params=["file", "memory", "mlflow"])
def store(request, tmp_path):
    if request.param == "mlflow":
        address = request.getfixturevalue("mlflow_address")
        return MlflowArtifacts(f"mlflow-artifacts://{address}/{tmp_path.name}", None)
    return FsspecStore(
        {"file": f"file://{tmp_path}/store", "memory": f"memory://{tmp_path}"}[request.param]
    )


@pytest.fixture
def memory(tmp_path):
    return FsspecStore(f"memory://{tmp_path}")
