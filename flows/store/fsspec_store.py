"""A store on any filesystem that fsspec opens."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

from flows.settings import masked
from flows.store.contract import StoreError


class FsspecStore:
    """A `flows.store.contract.Store` in any file system that fsspec knows: file, s3, gs, memory."""

    def __init__(self, url: str) -> None:
        """Raises:
        StoreError: fsspec knows no such URL, or lacks the package for it.
        """
        from fsspec.core import url_to_fs

        self._url = masked(url)
        try:
            self._files, self._root = url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise StoreError(
                f"ISOFLOP_STORE={self._url}: {error}. Give mlflow-artifacts://HOST:PORT/FOLDER, "
                "or a URL that fsspec opens, such as file:///folder or s3://bucket/folder."
            ) from error

    def put(self, name: str, content: bytes) -> None:
        with self._store_errors(name):
            path = self._path(name)
            self._files.makedirs(self._files._parent(path), exist_ok=True)
            self._files.pipe_file(path, content)

    def get(self, name: str) -> bytes:
        with self._store_errors(name):
            return bytes(self._files.cat_file(self._path(name)))

    def names(self, folder: str) -> list[str]:
        with self._store_errors(folder):
            # Other hosts write here too, and fsspec caches listings.
            self._files.invalidate_cache()
            if not self._files.exists(self._path(folder)):
                return []
            return [PurePosixPath(path).name for path in self._files.find(self._path(folder))]

    def remove(self, name: str) -> None:
        with self._store_errors(name):
            self._files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    @contextmanager
    def _store_errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each of fsspec's file systems raises its library's errors
            raise StoreError(f"{self._url}: {name}: {error or type(error).__name__}") from error
