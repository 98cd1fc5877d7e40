"""Headless Chromium for the tests that look at pages as a person does."""

import argparse
import json
import os
import shutil
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_PATIENCE_S = 120


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


def colours(window: Any, scheme: str) -> None:
    """Make the screen that of a person who prefers `light` or `dark`."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


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


def wait_until(holds: Callable[[], Any]) -> None:
    """Wait for what a page comes to show, far longer than it takes, for a machine at work."""
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def picture(window: Any, address: str, path: Path, width: int, height: int | None) -> None:
    """Write what a page shows once its figures are drawn; as high as it is where height is None."""
    resize(window, width)
    window.get(address)
    ready = (
        "return document.querySelectorAll('.busy, ._dash-loading').length == 0 && "
        "document.querySelectorAll('main p, main table').length > 0 && "
        "[...document.querySelectorAll('.dash-graph')].every(g => g.querySelector('.main-svg'))"
    )
    wait_until(lambda: window.execute_script(ready))
    whole = window.execute_script("return document.documentElement.scrollHeight")
    size = {"width": width, "height": height or whole, "deviceScaleFactor": 1, "mobile": False}
    window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    window.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    time.sleep(1)  # figures take the new size
    path.write_bytes(b64decode(window.execute_cdp_cmd("Page.captureScreenshot", {})["data"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Take a picture of a page.")
    parser.add_argument("address")
    parser.add_argument("file", type=Path)
    parser.add_argument("--width", type=int, default=1120)
    parser.add_argument("--height", type=int, help="default: the whole page")
    given = parser.parse_args()
    with chromium() as opened:
        picture(opened, given.address, given.file, given.width, given.height)
