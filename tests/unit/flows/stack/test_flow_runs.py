"""Which server a client asks."""

import prefect  # noqa: F401 - it takes PREFECT_API_URL now, before the settings below are made

from flows.settings import Settings
from flows.stack.flow_runs import prefect_client


def test_a_client_asks_the_server_of_the_settings_whatever_prefect_read_at_its_import():
    settings = Settings(host="127.0.0.1", prefect_port=4999)
    with prefect_client(settings) as client:
        assert str(client.api_url).rstrip("/") == settings.prefect_api
