"""MLflow's page of a sweep and Prefect's form, as a person sees them."""

import time

import httpx
import pytest

from flows.mirror.addresses import run_address, sweep_address
from flows.runs.directory import RunDir
from flows.runs.exports import Export, modified_ns, record
from flows.settings import Home, Settings
from flows.stack.servers import free_port
from tests.browser import chromium, requested, resize
from tests.simulated_home import simulated_sweep

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(900)]
# MLflow asks for a user that a server without accounts does not have, and resizes its charts late;
# Prefect has no icon.
_THEIRS = ("users/current", "ResizeObserver loop", "favicon.ico")


@pytest.fixture
def stack(isoflop, home, tmp_path):
    """A stack whose MLflow has a sweep of simulated losses, one of its runs exported."""
    names = ("prefect_port", "mlflow_port", "dashboard_port")
    ports = {name: free_port("127.0.0.1") for name in names}
    given = {f"ISOFLOP_{name.upper()}": str(port) for name, port in ports.items()}
    run = simulated_sweep(home, "made", "grid.budgets=[4e10, 1e11]", seeds=2).runs[0]
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    record(
        RunDir(home / "runs" / run.id),
        Export(
            tokens=run.cells[-1].tokens, folder=tmp_path, architecture="LlamaForCausalLM",
            weights_sha256="0" * 64, modified_ns=modified_ns(tmp_path), at=0,
        ),
    )  # fmt: skip
    done = isoflop("sync", **given)
    assert done.returncode == 0, done.stderr
    done = isoflop("up", "--workers", "1", **given)
    assert done.returncode == 0, done.stderr
    yield Settings(home=home, **ports), RunDir(home / "runs" / run.id)
    assert isoflop("down", **given).returncode == 0


def test_mlflow_shows_loss_against_n_and_d_and_prefect_a_form_with_presets(stack, home):
    settings, run = stack
    deployment = httpx.get(f"{settings.prefect_api}/deployments/name/sweep/chinchilla").json()["id"]
    form = f"{settings.prefect_address}/deployments/deployment/{deployment}/run"
    charts = sweep_address("made", settings, Home(home))
    observations = charts.replace("=scaling", "=observations").replace("CHART", "TABLE")
    page = run_address("made", run.path, settings, Home(home))
    with chromium() as window:
        for address, words, wide in (
            (charts, ("scaling/loss_against_params",), ("Loss against N and D", "C = 1.00e+11")),
            (observations, ("n_params", "tokens"), ("Observations", "train_flops", "val_loss")),
            (page, ("Register model", "peak learning rate"), ("Model training",)),
            (form, ("architectures", "smoke", "YAML file", "max_failures", "0 is fail-fast"), ()),
        ):  # fmt: skip
            for width in (1280, 390):
                resize(window, width)
                window.get("about:blank")
                window.get(address)
                if width == 390 and address is not form:
                    _make_room(window)
                _wait_for(window, words if width == 390 else (*words, *wide))
                _look_for_faults(window)
        _register(window, page)
        _wait_for(window, ("Registered models", "small"))
    models = httpx.get(f"{settings.mlflow_address}/api/2.0/mlflow/registered-models/search").json()
    [version] = models["registered_models"][0]["latest_versions"]
    assert version["source"].endswith(f"/model_{run.planned().cells[-1].tokens}")


def _make_room(window):
    """Close MLflow's menu and assistant, which take the width of a phone."""
    _wait_for(window, ("Model registry",))
    for name in ("Toggle sidebar", "Close"):
        for button in window.find_elements("css selector", f"[aria-label='{name}']"):
            # The assistant's lies beyond the edge, where a finger scrolls to it.
            window.execute_script("arguments[0].click()", button)


def _register(window, page):
    """Register the model of a run's page under a new name, as a person does."""
    resize(window, 1280)
    window.get("about:blank")
    window.get(page)
    _wait_for(window, ("Register model",))
    window.find_element("xpath", "//button[normalize-space()='Register model']").click()
    dialog = "[role=dialog] input"
    time.sleep(1)
    choice = window.find_element("css selector", dialog)
    choice.click()
    choice.send_keys("\ue007")
    time.sleep(1)
    window.find_elements("css selector", dialog)[-1].send_keys("small")
    window.find_element(
        "xpath", "//*[@role='dialog']//button[normalize-space()='Register']"
    ).click()


def _look_for_faults(window):
    faults = [each["message"] for each in window.get_log("browser") if each["level"] == "SEVERE"]
    assert not [fault for fault in faults if not any(name in fault for name in _THEIRS)]
    asked = {url for url in requested(window) if url.startswith("http")}
    assert all(url.startswith("http://127.0.0.1:") for url in asked)


def _wait_for(window, words):
    deadline = time.monotonic() + 120
    while True:
        text = window.find_element("tag name", "body").text
        missing = [word for word in words if word not in text]
        if not missing:
            return
        assert time.monotonic() < deadline, (missing, text)
        time.sleep(0.5)
