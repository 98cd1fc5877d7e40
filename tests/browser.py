"""Headless Chromium for the tests that look at pages as a person does."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def chromium() -> Iterator[Any]:
    """A window that records its console and its requests; skips the test without Chromium."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium: install the Debian packages chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    # No sandbox: CI runs as root in a container, where Chromium has none.
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield window
    finally:
        window.quit()


def resize(window: Any, width: int) -> None:
    """Make the screen as wide as a phone's or a desk's, and forget what was recorded."""
    window.get_log("browser")
    window.get_log("performance")
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def serious_findings(window: Any) -> list[tuple[str, str, str]]:
    """What axe-core has against the page: impact, rule and elements; skips the test without it.

    ISOFLOP_AXE names another axe.min.js than that of the package, such as a newer one.
    """
    package = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    packaged = Path(package.__file__).with_name("axe.min.js")
    window.execute_script(Path(os.environ.get("ISOFLOP_AXE", packaged)).read_text())
    window.set_script_timeout(120)
    # Plotly's thousands of shapes take axe most of its time, and are an image to a reader.
    violations = window.execute_async_script(
        "axe.run({exclude: ['.svg-container']}, {resultTypes: ['violations']})"
        ".then(result => arguments[0](result.violations.map("
        "each => [each.impact, each.id, each.nodes.map(node => node.html).join(' ')])))"
    )
    return [tuple(each) for each in violations if each[0] in ("serious", "critical")]


def requested(window: Any) -> set[str]:
    """The addresses that the window has asked for, besides those that hold their own data."""
    messages = [json.loads(entry["message"])["message"] for entry in window.get_log("performance")]
    urls = {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }
    return {url for url in urls if not url.startswith(("data:", "blob:"))}
