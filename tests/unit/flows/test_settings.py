"""Settings come from the environment and have safe defaults."""

import os
from types import SimpleNamespace
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

import httpx
import pytest
import sqlalchemy
from pydantic import ValidationError
from requests.utils import should_bypass_proxies
from sqlalchemy import create_engine

from flows import settings as module
from flows.settings import (
    HomeError,
    Settings,
    checkout,
    masked,
    note_addresses,
    open_home,
    open_settings,
    sqlite_url,
)
from tests.conftest import ROOT


def test_servers_bind_to_loopback_by_default(monkeypatch):
    monkeypatch.delenv("ISOFLOP_HOST", raising=False)
    assert Settings().host == "127.0.0.1"


def test_the_environment_overrides(monkeypatch, tmp_path):
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("ISOFLOP_MLFLOW_URI", "postgresql://db/mlflow")
    home = open_home()
    assert home.root == tmp_path / "elsewhere"
    assert home.runs.is_dir()
    assert Settings().tracking_uri(home) == "postgresql://db/mlflow"


def test_a_shell_that_does_not_know_the_ports_finds_the_stack(monkeypatch, tmp_path):
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path))
    for name in ("HOST", "PREFECT_PORT", "MLFLOW_PORT"):
        monkeypatch.delenv(f"ISOFLOP_{name}", raising=False)
    assert open_settings().prefect_port == 4200
    note_addresses(Settings(prefect_port=4333, mlflow_port=5333), open_home())
    assert (open_settings().prefect_port, open_settings().mlflow_port) == (4333, 5333)
    # The shell's own settings stay.
    monkeypatch.setenv("ISOFLOP_PREFECT_PORT", "4444")
    assert (open_settings().prefect_port, open_settings().mlflow_port) == (4444, 5333)
    (tmp_path / "addresses.json").write_text("{torn")
    assert open_settings().mlflow_port == 5000


def test_the_root_is_the_folder_of_the_packages_and_without_prefect_yaml_no_checkout(tmp_path):
    assert module.ROOT == ROOT
    assert checkout() == ROOT
    assert checkout(tmp_path) is None


def test_a_port_out_of_range_is_refused(monkeypatch):
    monkeypatch.setenv("ISOFLOP_PREFECT_PORT", "70000")
    with pytest.raises(ValidationError, match="65535"):
        Settings()


def test_a_home_under_a_file_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError, match="Set ISOFLOP_HOME"):
        open_home(Settings(home=tmp_path / "file" / "home"))


def test_one_form_of_address_serves_prefect_mlflow_and_optuna(monkeypatch, tmp_path):
    for name in ("PREFECT_DB", "MLFLOW_DB", "OPTUNA_URI"):
        monkeypatch.setenv(f"ISOFLOP_{name}", "postgresql://me:secret@db/isoflop")
    settings, home = Settings(), open_home(Settings(home=tmp_path))
    assert settings.prefect_database(home) == "postgresql+asyncpg://me:secret@db/isoflop"
    assert settings.tracking_uri(home) == "postgresql://me:secret@db/isoflop"
    assert "secret" not in repr(settings)


def test_the_mlflow_server_gets_no_tracking_uri_of_itself(tmp_path):
    home = open_home(Settings(home=tmp_path))
    settings = Settings(mlflow_uri="http://server:5000")
    assert settings.tracking_uri(home) == "http://server:5000"
    assert settings.mlflow_database(home) == f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:se/c@ret@db:5432/x", "postgresql://me:***@db:5432/x"),
        ("postgresql://db/x?user=me&password=secret", "postgresql://db/x?user=me&password=***"),
        ("s3://bucket/folder", "s3://bucket/folder"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
    ],
)
def test_a_masked_address_shows_all_but_the_password(address, shown):
    assert masked(address) == shown


@pytest.mark.parametrize(
    "name", ["a?b", "a#b", "a%41b", "a b", "a'b", 'a"b', "aüb", "a&b=c", "日本"]
)
def test_a_database_lies_in_the_home_whatever_its_letters(tmp_path, name):
    path = tmp_path / name / "mlflow.db"
    path.parent.mkdir()
    with create_engine(sqlite_url(path)).connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x)")
    assert path.is_file()
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_path_that_sqlalchemy_would_read_otherwise_is_refused_by_the_letter(
    tmp_path, monkeypatch
):
    # As SQLAlchemy 2.0 reads it.
    monkeypatch.setattr(sqlalchemy, "make_url", lambda url: SimpleNamespace(database="/a"))
    with pytest.raises(HomeError, match=r"such as \? or #. Set ISOFLOP_HOME"):
        sqlite_url(tmp_path / "a?b" / "mlflow.db")


@pytest.fixture
def proxies(monkeypatch):
    def set_to(**variables):
        for name in ("http", "https", "all", "no"):
            for spelling in (f"{name}_proxy", f"{name}_proxy".upper()):
                monkeypatch.delenv(spelling, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        # Restored at the end, whatever is set meanwhile.
        for spelling in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(spelling, os.environ.get(spelling, ""))
        open_settings()

    return set_to


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("given", ["", "intranet, .example.org"])
def test_this_machine_is_never_proxied(proxies, monkeypatch, name, given):
    monkeypatch.setenv("ISOFLOP_HOST", "10.1.2.3")
    proxies(**{name: "http://127.0.0.1:9", "NO_PROXY": given})
    for address in ("http://127.0.0.1:4200/api", "http://localhost:5000", "http://10.1.2.3:4200"):
        client = httpx.Client()
        assert client._transport_for_url(httpx.URL(address)) is client._transport
        assert should_bypass_proxies(address, no_proxy=None)
        assert proxy_bypass(urlsplit(address).hostname)
    assert not should_bypass_proxies("http://huggingface.co", no_proxy=None)
    assert os.environ["no_proxy"].startswith(given.replace(" ", ""))


def test_without_a_proxy_the_environment_stays(proxies):
    proxies()
    assert not os.environ["NO_PROXY"]


@pytest.mark.parametrize(
    ("proxy", "word"),
    [("socks5://127.0.0.1:9", "socksio"), ("http://p:port", "port"), ("ftp://x", "scheme")],
)
def test_a_proxy_that_prefect_cannot_use_is_dropped_with_a_line(proxies, caplog, proxy, word):
    proxies(ALL_PROXY=proxy)
    assert "ALL_PROXY" not in os.environ
    assert word in caplog.text
