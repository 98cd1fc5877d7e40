"""The retrodiction page in a real browser, as a person would read it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis import published
from analysis.retrodict.answer import retrodict
from analysis.retrodict.page import retrodict_page
from tests.browser import chromium, requested, resize

pytestmark = pytest.mark.browser
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium that records its console and its requests."""
    with chromium() as window:
        yield window


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "retrodiction.html"
    path.write_text(retrodict_page(retrodict(published.six_laws()), level=0.9).html())
    return path


def opened(browser: Any, page: Path, width: int) -> Any:
    """The page at a width, drawn to the last figure."""
    from selenium.webdriver.support.ui import WebDriverWait

    resize(browser, width)
    browser.get(page.as_uri())
    drawn = (
        "const figures = [...document.querySelectorAll('.figure')];"
        "return figures.length > 0 && figures.every(one => one.querySelector('.main-svg'))"
    )
    WebDriverWait(browser, 60).until(lambda window: window.execute_script(drawn))
    return browser


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_opens_without_errors_or_requests(browser: Any, page: Path, width: int) -> None:
    window = opened(browser, page, width)
    assert window.get_log("browser") == []
    assert requested(window) == {page.as_uri()}


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen(browser: Any, page: Path, width: int) -> None:
    window = opened(browser, page, width)
    assert window.execute_script("return document.documentElement.scrollWidth") <= width
    figures = window.execute_script(
        "return [...document.querySelectorAll('.figure .main-svg')]"
        ".map(figure => figure.getBoundingClientRect().right)"
    )
    assert max(figures) <= width


def test_a_person_reads_the_answer_first(browser: Any, page: Path) -> None:
    window = opened(browser, page, 1280)
    assert window.execute_script("return document.querySelector('h1').innerText") == (
        "The inference bill LLaMA assumed"
    )
    keys = window.execute_script(
        "return [...document.querySelectorAll('.key')].map(key => key.innerText)"
    )
    assert keys[0].startswith("1.06×")
    assert "90% interval 0.74 to 1.57" in keys[0]
    assert keys[1].startswith("426B to 695B")
    sections = window.execute_script(
        "return [...document.querySelectorAll('h2')].map(heading => heading.innerText)"
    )
    assert [title[0] for title in sections[:7]] == list("1234567")


def test_the_chart_has_a_row_for_each_model(browser: Any, page: Path) -> None:
    window = opened(browser, page, 1280)
    rows = window.execute_script(
        "return [...document.querySelectorAll('#bill .ytick')].map(tick => tick.textContent)"
    )
    assert set(rows) == set(published.models()["model"])


def test_a_law_can_be_hidden_by_its_legend(browser: Any, page: Path) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    window = opened(browser, page, 1280)
    shown = "return document.querySelectorAll('#bill .scatterlayer .trace').length"
    before = window.execute_script(shown)
    assert before == 6
    toggle = window.find_element("css selector", "#bill .legendtoggle")
    window.execute_script("arguments[0].scrollIntoView({block: 'center'})", toggle)
    window.execute_script(
        "for (const kind of ['mousedown', 'mouseup'])"
        " arguments[0].dispatchEvent(new MouseEvent(kind, {bubbles: true}))",
        toggle,
    )
    # A click waits for a possible second one before it hides the law.
    WebDriverWait(window, 10).until(lambda page: page.execute_script(shown) == before - 1)


def test_hovering_over_a_model_shows_its_numbers(browser: Any, page: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.support.ui import WebDriverWait

    window = opened(browser, page, 1280)
    window.execute_script("document.querySelector('#bill').scrollIntoView({block: 'center'})")
    # The last point of the first law is the model with the largest bill.
    point = window.find_elements(
        "css selector", "#bill .scatterlayer .trace:first-child .points path"
    )[-1]
    ActionChains(window).move_to_element(point).perform()
    WebDriverWait(window, 10).until(
        lambda page: page.find_elements("css selector", "#bill .hovertext")
    )
    text = window.execute_script("return document.querySelector('#bill .hovertext').textContent")
    assert "Llama-3-8B" in text
    assert "4.22 × training bill" in text


def test_every_row_of_the_break_even_table_is_there(browser: Any, page: Path) -> None:
    window = opened(browser, page, 390)
    rows = window.execute_script(
        "return [...document.querySelector('table').querySelectorAll('tbody tr')]"
        ".map(row => row.cells[0].innerText)"
    )
    assert rows == published.models()["model"].to_list()
    never = window.execute_script(
        "return [...document.querySelector('table').querySelectorAll('tbody tr')]"
        ".filter(row => row.cells[4].innerText === 'never').map(row => row.cells[0].innerText)"
    )
    assert never == ["Gopher", "GPT-3", "PaLM-62B", "PaLM-540B"]
