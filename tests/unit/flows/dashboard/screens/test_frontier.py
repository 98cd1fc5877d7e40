"""The views of a frontier and of the next runs."""

from base64 import b64encode

from analysis.frontier.answer import Demand
from analysis.frontier.decision import AtBudget
from flows.answers.frontier import frontier
from flows.answers.question import Priced
from flows.dashboard.address import Address
from flows.dashboard.app import changed, dropped, shown
from tests.dashboards import Never, desk_of, text_of, words
from tests.others_tables import DISAGREEING, write_table

# A page without parts, in whose place a whole body comes.
NO_PARTS = ([], [])


def test_a_slider_changes_the_frontier_as_the_question_changes(desk):
    address = Address(("sweep", "made", "frontier"))
    alone, *_ = changed(desk, address, {"target": "13", "demand": "0"}, NO_PARTS)
    asked = {"target": "13", "demand": "9", "gpu": "H100-80GB", "price": "3", "batch": "6"}
    served, *_ = changed(desk, address, asked, NO_PARTS)
    assert "no serving" in " ".join(words(alone))
    text = " ".join(words(served))
    assert "1B tokens served, on H100-80GB at $3.00 an hour, batch 64." in text
    assert text.index("over its life, ") < text.index("The frontier")
    assert "In dollars" in text


def test_a_frontier_waits_for_its_forecast_and_bars_stand_alone(root, desk):
    address = Address(("sweep", "made", "frontier"))
    assert "The forecast is being computed" in text_of(desk_of(root, Never), address)
    text = text_of(desk, Address(("sweep", "begun", "frontier")))
    assert "There is no law yet: " in text
    assert "Train" not in text


def test_methods_that_disagree_on_n_star_are_named_as_on_the_terminal(desk, tmp_path):
    table = write_table(tmp_path / "runs.csv", ("N", "D", "loss"), DISAGREEING)
    contents = f"data:text/csv;base64,{b64encode(table.read_bytes()).decode()}"
    there, *_ = dropped(desk, contents, table.name)
    address = Address.of(there, "?target=12")
    text = text_of(desk, address.with_path(*address.path, "frontier"))
    asked = frontier(str(table), AtBudget(1e12), Priced(Demand()), level=0.9)
    [sentence] = [line for line in asked.warnings if line.startswith("Methods disagree")]
    assert 0 < text.index(sentence) < text.index("Train ")


def test_another_gpu_comes_with_its_own_price(desk):
    address = Address(("sweep", "made", "frontier"))
    _, _, body, search, *_ = shown(desk, address)
    assert "price=2" in search
    hrefs = [each.href for part in body for each in part._traverse() if hasattr(each, "href")]
    [there] = [href for href in hrefs if "gpu=A100-80GB" in href]
    path, _, query = there.partition("?")
    assert "on A100-80GB at $1.50 an hour" in text_of(desk, Address.of(path, query))
    unlisted = Address.of(path, query).with_query(gpu="L4-24GB")
    assert "L4-24GB has no list price" in text_of(desk, unlisted)


def test_the_next_runs_and_the_command_that_writes_them_are_shown(desk):
    text = text_of(desk, Address(("sweep", "made", "next"), {"target": "13", "runs": "2"}))
    assert "isoflop next made --flops 1e+13 --runs 2 --to next.yaml" in text
    assert "Chosen from" in text
