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
        # A setting is found by its name, though many pages speak of evaluations and tokens.
        for setting in ("cooldown_fraction", "eval_tokens"):
            window.get((HTML / "index.html").as_uri())
            assert _results(window, setting, "Settings of a sweep") < 10


def _results(window, words: str, title: str) -> int:
    """How many results a search shows once a page of this title is among them; `/` opens it."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.support.ui import WebDriverWait

    # From a folder the search runs in a frame, which the page adds about a second after loading.
    time.sleep(1)
    ActionChains(window).send_keys("/").pause(1).send_keys(words).perform()
    wait = WebDriverWait(window, 60)
    wait.until(lambda _: any(title in text for text in window.execute_script(_RESULTS)), title)
    return len(window.execute_script(_RESULTS))


_RESULTS = """
    const host = [...document.querySelectorAll("*")].find((each) => each.shadowRoot);
    return [...(host?.shadowRoot.querySelectorAll("a") ?? [])].map((each) => each.textContent);
"""
