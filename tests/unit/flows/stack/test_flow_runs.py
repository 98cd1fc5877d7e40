"""Which server a client asks, and how often."""

from types import SimpleNamespace

import prefect  # noqa: F401 - it takes PREFECT_API_URL now, before the settings below are made
from prefect.client.schemas.objects import StateType

from flows.settings import Settings
from flows.stack.flow_runs import prefect_client, read_flow_runs


def test_a_client_asks_the_server_of_the_settings_whatever_prefect_read_at_its_import():
    settings = Settings(host="127.0.0.1", prefect_port=4999)
    with prefect_client(settings) as client:
        assert str(client.api_url).rstrip("/") == settings.prefect_api


def test_more_flow_runs_than_one_answer_of_the_server_are_all_read():
    there = list(range(450))

    def read(*, flow_run_filter, offset):
        assert flow_run_filter.state.type.any_ == [StateType.SCHEDULED]
        return there[offset : offset + 200]

    client = SimpleNamespace(read_flow_runs=read)
    assert read_flow_runs(client, [StateType.SCHEDULED]) == there
