"""Settings come from the environment and have safe defaults."""

import pytest
from pydantic import ValidationError

from flows.settings import HomeError, Settings, open_home


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


def test_a_port_out_of_range_is_refused(monkeypatch):
    monkeypatch.setenv("ISOFLOP_PREFECT_PORT", "70000")
    with pytest.raises(ValidationError, match="65535"):
        Settings()


def test_a_home_under_a_file_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError, match="Set ISOFLOP_HOME"):
        open_home(Settings(home=tmp_path / "file" / "home"))
