"""A store in MLflow's artifacts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from flows.mirror.client import artifact_files, mlflow_exception
from flows.settings import masked
from flows.store.contract import StoreError


class MlflowArtifacts:
    """A `flows.store.contract.Store` behind the artifact proxy of an MLflow server, over HTTP."""

    def __init__(self, address: str, tracking_uri: str | None) -> None:
        """Args:
        address: mlflow-artifacts://HOST:PORT/FOLDER.
        tracking_uri: where runs are written; if a server, its scheme (http or https) is used.
        """
        host, folder = urlsplit(address).netloc, urlsplit(address).path.strip("/")
        if not host or not folder:
            raise StoreError(
                f"ISOFLOP_STORE={masked(address)} names no server or no folder. "
                "Give mlflow-artifacts://HOST:PORT/FOLDER."
            )
        server = tracking_uri if tracking_uri and tracking_uri.startswith("http") else None
        self._address = masked(address)
        self._files = artifact_files(address, server or f"http://{host}")

    def put(self, name: str, content: bytes) -> None:
        folder, _, last = name.rpartition("/")
        with self._store_errors(name), TemporaryDirectory() as scratch:
            (Path(scratch) / last).write_bytes(content)
            self._files.log_artifact(str(Path(scratch) / last), folder)

    def get(self, name: str) -> bytes:
        with self._store_errors(name), TemporaryDirectory() as scratch:
            return Path(self._files.download_artifacts(name, scratch)).read_bytes()

    def names(self, folder: str) -> list[str]:
        with self._store_errors(folder):
            entries = self._files.list_artifacts(folder)
            return [PurePosixPath(entry.path).name for entry in entries if not entry.is_dir]

    def remove(self, name: str) -> None:
        with self._store_errors(name):
            self._files.delete_artifacts(name)

    @contextmanager
    def _store_errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except (mlflow_exception(), OSError) as error:
            reason = str(error).partition("\n")[0]
            raise StoreError(f"{self._address}: {name}: {reason}") from error
