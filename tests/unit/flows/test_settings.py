"""Settings come from the environment and have safe defaults."""

import pytest
from pydantic import ValidationError

from flows import settings as module
from flows.settings import (
    HomeError,
    Settings,
    checkout,
    masked,
    note_addresses,
    open_home,
    open_settings,
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
