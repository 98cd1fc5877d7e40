"""The documentation as a reader opens it: `make docs`, from a folder, without a network."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.browser import chromium, requested, resize

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "build" / "site" / "html"


@pytest.mark.slow
@pytest.mark.browser
def test_the_site_is_built_with_true_links_and_read_and_searched_without_a_network():
    pytest.importorskip("zensical")
    built = subprocess.run(
        [sys.executable, "-m", "docs.site"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    with chromium() as window:
        for width in (1280, 390):
            resize(window, width)
            for page in ("index.html", "frontier/mathematics.html", "reference/spec.html"):
                window.get((HTML / page).as_uri())
                assert window.find_element("tag name", "h1").text
                # Tables scroll in themselves: a phone's page is no wider than its screen.
                assert window.execute_script("return document.documentElement.scrollWidth") <= width
            assert [url for url in requested(window) if not url.startswith("file:")] == []
            assert [entry["message"] for entry in window.get_log("browser")] == []
        resize(window, 1280)
        window.get((HTML / "index.html").as_uri())
        assert "Settings of a sweep" in _searched(window, "cooldown_fraction")


def _searched(window, words: str) -> str:
    """What a search shows; `/` opens it."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.support.ui import WebDriverWait

    # The frame that stands in for a worker appears a second later.
    time.sleep(1)
    ActionChains(window).send_keys("/").pause(1).send_keys(words).perform()
    wait = WebDriverWait(window, 20)
    return wait.until(lambda _: words in (text := window.execute_script(_RESULTS)) and text)


_RESULTS = """
    const host = [...document.querySelectorAll("*")].find((each) => each.shadowRoot);
    const found = [...(host?.shadowRoot.querySelectorAll("a") ?? [])];
    return found.map((each) => each.textContent).join(" ");
"""
