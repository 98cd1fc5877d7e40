"""A client of the Prefect server that these settings name."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flows.settings import Settings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


@contextmanager
def prefect_client(settings: Settings) -> Iterator["SyncPrefectClient"]:
    """A client of the settings' server, whatever address Prefect read when it was imported.

    Prefect takes PREFECT_API_URL once, at its import; set later, the variable moves nothing.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: settings.prefect_api}),
        get_client(sync_client=True) as client,
    ):
        yield client
