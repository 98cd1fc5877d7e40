"""MLflow's page of a sweep and Prefect's form, as a person sees them."""

import time

import httpx
import pytest

from flows.mirror.addresses import sweep_address
from flows.settings import Home, Settings
from flows.stack.servers import free_port
from tests.browser import chromium, requested, resize
from tests.simulated_home import simulated_sweep

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(400)]
# MLflow asks for a user that a server without accounts does not have, and resizes its charts late;
# Prefect has no icon.
_THEIRS = ("users/current", "ResizeObserver loop", "favicon.ico")


@pytest.fixture
def stack(isoflop, home):
    """A stack whose MLflow has a sweep of simulated losses."""
    names = ("prefect_port", "mlflow_port", "dashboard_port")
    ports = {name: free_port("127.0.0.1") for name in names}
    given = {f"ISOFLOP_{name.upper()}": str(port) for name, port in ports.items()}
    simulated_sweep(home, "made", "grid.budgets=[4e10, 1e11]")
    done = isoflop("sync", **given)
    assert done.returncode == 0, done.stderr
    done = isoflop("up", "--workers", "1", **given)
    assert done.returncode == 0, done.stderr
    yield Settings(home=home, **ports)
    assert isoflop("down", **given).returncode == 0


def test_mlflow_shows_loss_against_n_and_d_and_prefect_a_form_with_presets(stack, home):
    deployment = httpx.get(f"{stack.prefect_api}/deployments/name/sweep/chinchilla").json()["id"]
    form = f"{stack.prefect_address}/deployments/deployment/{deployment}/run"
    charts = sweep_address("made", stack, Home(home))
    with chromium() as window:
        for address, words in (
            (charts, ("Loss against N and D", "scaling/loss_against_params", "C = 1.00e+11")),
            (charts.replace("=scaling", "=observations").replace("CHART", "TABLE"),
             ("Observations", "n_params", "train_flops", "val_loss")),
            (form, ("architectures", "smoke", "YAML file", "max_failures", "0 is fail-fast")),
        ):  # fmt: skip
            resize(window, 1280)
            window.get("about:blank")
            window.get(address)
            _wait_for(window, words)
            faults = [each["message"] for each in window.get_log("browser")
                      if each["level"] == "SEVERE"]  # fmt: skip
            assert not [fault for fault in faults if not any(name in fault for name in _THEIRS)]
            asked = {url for url in requested(window) if url.startswith("http")}
            assert all(url.startswith("http://127.0.0.1:") for url in asked)


def _wait_for(window, words):
    deadline = time.monotonic() + 40
    while True:
        text = window.find_element("tag name", "body").text
        missing = [word for word in words if word not in text]
        if not missing:
            return
        assert time.monotonic() < deadline, (missing, text)
        time.sleep(0.5)
