"""The dashboard in a real browser, as a person would read it, on a desk and on a phone."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from analysis.sweep.answer import find
from analysis.sweep.page import sweep_page
from analysis.table.runs import own_table
from flows.runs.directory import RunDir
from flows.runs.table import curves, observations_frame
from flows.settings import Home
from flows.stack.servers import free_port, healthy
from tests.browser import chromium, colours, requested, resize, serious_findings, wait_until
from tests.conftest import ROOT, bare_environment
from tests.simulated import isoflops, table
from tests.simulated_home import simulated_study, simulated_sweep

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("home")
    simulated_sweep(root, "made")
    simulated_sweep(root, "beside", "recipe.coef=0.2")
    simulated_study(root)
    return root


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    port = free_port("127.0.0.1")
    with subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "dashboard", "--port", str(port)],
        env={**bare_environment(), "ISOFLOP_HOME": str(root), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        name, address = server.stdout.readline().split()
        assert (name, address) == ("dashboard", f"http://127.0.0.1:{port}")
        wait_until(lambda: healthy(f"{address}/health"))
        yield address
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    with chromium() as window:
        yield window


def text_of(window: Any) -> str:
    return str(window.execute_script("return document.querySelector('main')?.innerText ?? ''"))


def opened(window: Any, address: str, width: int, words: str) -> str:
    """The text of a view, once it holds some words."""
    resize(window, width)
    window.get(address)
    wait_until(lambda: words in text_of(window))
    return text_of(window)


@pytest.mark.parametrize("width", [1280, 390])
def test_every_view_is_read_without_errors_or_requests_elsewhere(window, address, width):
    for path, words in (
        ("/", "made"),
        ("/sweep/made", "Parametric law:"),
        ("/sweep/made/frontier", "over its life it takes"),
        ("/sweep/made/next", "Chosen from"),
        ("/sweep/made/runs?q=d64", "of 31 observations"),
        ("/compare?sweeps=made,beside", "What it did to the law"),
    ):
        opened(window, f"{address}{path}", width, words)
        assert window.execute_script("return document.documentElement.scrollWidth") <= width
        assert window.get_log("browser") == []
        assert all(url.startswith(f"{address}/") for url in requested(window))
        assert window.current_url.startswith(f"{address}{path}")


def test_axe_finds_nothing_serious_in_dashboard_and_report(window, address, root, tmp_path):
    for path, words in (
        ("/", "made"),
        ("/sweep/made", "Parametric law:"),
        ("/sweep/made/frontier", "over its life it takes"),
        ("/sweep/made/runs?q=d64", "of 31 observations"),
        ("/study/tuned", "The best rate and batch"),
        ("/compare?sweeps=made,beside", "What it did to the law"),
    ):
        opened(window, f"{address}{path}", 1280, words)
        assert serious_findings(window) == [], path
    page = report(root, tmp_path).as_uri()
    window.get(page)
    assert serious_findings(window) == []
    # On a phone other boxes scroll, and a dark screen has other colours.
    colours(window, "dark")
    for path, words in (("/", "made"), ("/sweep/made", "Parametric law:")):
        opened(window, f"{address}{path}", 390, words)
        assert serious_findings(window) == [], path
    window.get(page)
    assert serious_findings(window) == []
    assert window.execute_script("return getComputedStyle(document.body).color") == (
        "rgb(230, 230, 230)"
    )
    colours(window, "light")


def report(root: Path, folder: Path) -> Path:
    """The report of a sweep, but for its corpus."""
    runs, home = simulated_sweep(root, "made").runs, Home(root)
    findings = find(own_table(observations_frame(runs, home)), source="sweep made")
    path = folder / "report.html"
    path.write_text(sweep_page("made", findings, curves(runs, home), facts=["A fact."]).html())
    return path


def test_every_control_shows_that_the_keyboard_is_on_it(window, address):
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    opened(window, f"{address}/sweep/made/frontier", 1280, "over its life it takes")
    reached = set()
    for _ in range(20):
        window.switch_to.active_element.send_keys(keys.TAB)
        name, outline = window.execute_script(
            "const on = document.activeElement;"
            "return [on.tagName, getComputedStyle(on).outlineStyle]"
        )
        reached.add(name)
        assert outline == "solid", name
    assert {"A", "INPUT"} <= reached


def test_links_lead_from_the_first_view_to_a_run_and_back(window, address):
    from selenium.common.exceptions import StaleElementReferenceException

    opened(window, f"{address}/", 1280, "made")

    def clicked(text: str) -> bool:
        link = window.find_element("link text", text)
        try:
            window.execute_script("arguments[0].scrollIntoView({block: 'center'})", link)
            link.click()
        except StaleElementReferenceException:  # its view was drawn anew
            return False
        return True

    def click(text: str, words: str) -> None:
        wait_until(lambda: clicked(text))
        wait_until(lambda: words in text_of(window))

    click("made", "Parametric law:")
    click("Frontier", "over its life it takes")
    click("Next runs", "Chosen from")
    click("Runs", "31 of 31 observations")
    click("d64", "How it was made")
    click("Sweep made", "Parametric law:")
    click("every parameter", "N counts every parameter.")
    assert "n=n_params_total" in window.current_url
    window.back()
    wait_until(lambda: "N counts all but the input embedding." in text_of(window))
    click("Home", "Registered forecasts")
    click("tuned", "The best rate and batch")
    click("Compare", "Choose two sweeps or more.")
    click("+ made", "made ✕")
    click("+ beside", "What it did to the law")
    links = "[...document.links].filter(link => link.innerText == 'data (CSV)')"
    data = window.execute_script(f"return {links}.map(link => link.href)")
    assert data
    for each in data:
        answer = httpx.get(each)
        assert answer.headers["content-type"].startswith("text/csv")
    assert window.get_log("browser") == []


def test_a_slider_moved_by_the_keyboard_changes_the_frontier_and_the_address(window, address):
    opened(window, f"{address}/sweep/made/frontier", 1280, "over its life it takes")
    title, bill = (
        f"return document.querySelector('#title-{name}').innerText" for name in ("frontier", "life")
    )
    before, before_below = window.execute_script(title), window.execute_script(bill)
    # Until Plotly is there each has another element in its place.
    wait_until(lambda: len(window.find_elements("css selector", ".js-plotly-plot")) == 3)
    drawn = window.find_elements("css selector", ".dash-graph")
    slider = window.find_element("css selector", "input[type=range][id*=demand]")
    slider.send_keys("\ue014" * 8)  # the right arrow
    wait_until(lambda: window.execute_script(title) != before)
    wait_until(lambda: window.execute_script(bill) != before_below)
    # Each in its place: nothing below it was made anew.
    assert window.find_elements("css selector", ".dash-graph") == drawn
    assert "demand=" in window.current_url
    there = window.current_url
    text = text_of(window)
    window.get("about:blank")
    assert (
        opened(window, there, 1280, "over its life it takes").splitlines()[:12]
        == (text.splitlines()[:12])
    )


# The Python of a figure.
_FOLD = "#beside-loss-curves details"


def test_a_new_step_arrives_while_the_page_is_open(window, address, root):
    planned = simulated_sweep(root, "live", finished=3)
    unfinished = RunDir(root / "runs" / planned.runs[2].id)
    unfinished.result_path.unlink()
    steps = unfinished.curve_path.read_text().splitlines()
    *earlier, last = [line for line in steps if '"kind": "step"' in line]
    unfinished.curve_path.write_text("\n".join(earlier) + "\n")
    opened(window, f"{address}/sweep/live", 1280, "2 of 8")
    lowest = (
        "return Math.min(...document.querySelector('#figure-loss-curves .js-plotly-plot')"
        "._fullData.flatMap(line => Array.from(line.y || [])).filter(Number.isFinite))"
    )
    wait_until(lambda: window.execute_script("return !!document.querySelector('.js-plotly-plot')"))
    window.find_element("css selector", f"{_FOLD} summary").click()
    fold = window.find_element("css selector", _FOLD)
    assert fold.get_property("open")
    with unfinished.curve_path.open("a") as file:
        file.write(json.dumps(json.loads(last) | {"loss": 0.4321}) + "\n")
    wait_until(lambda: window.execute_script(lowest) < 1)
    assert window.execute_script(lowest) == pytest.approx(0.4321)
    # What is around a figure that changed is another element by now, and is open again.
    wait_until(lambda: window.find_element("css selector", _FOLD) != fold)
    wait_until(lambda: window.find_element("css selector", _FOLD).get_property("open"))


def test_a_dropped_table_is_fitted(window, address, tmp_path):
    path = tmp_path / "theirs.csv"
    table(*isoflops(budgets=3), noise=0.002).write_csv(path)
    opened(window, f"{address}/", 390, "Drop a table")
    window.find_element("css selector", "input[type=file]").send_keys(str(path))
    wait_until(lambda: "N* grows as C^" in text_of(window))
    assert "/table/" in window.current_url
