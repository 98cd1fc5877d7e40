"""How a body takes the place of another, part by part."""

import plotly.graph_objects as go
from dash import html, no_update

from analysis.page import Page
from flows.dashboard.address import Address
from flows.dashboard.app import changed, followed
from flows.dashboard.parts import Parts
from flows.dashboard.render import components, graphs_of
from flows.dashboard.screens.at import screen_at
from tests.dashboards import words


def body(*figures, height=400, text="asked"):
    page = Page("a page")
    page.text(text)
    for name in figures:
        page.figure(go.Figure(layout_title_text=f"of {name}"), name=name, height=height)
        page.text(f"after {name}")
    return components(page, lambda part: (f"/data/{part.name}", None), {})


def there(parts):
    """The ids of a page that shows them."""
    graphs = [graph.id for box in parts.figures for graph in graphs_of(box)]
    return [box.id for box in parts.between], graphs


def graphs_in(body):
    return [graph for box in body for graph in graphs_of(box)]


def figures_of(parts):
    return [graph.figure for box in parts.figures for graph in graphs_of(box)]


def test_parts_hold_a_body_in_reading_order():
    for figures in ((), ("one",), ("one", "two")):
        parts = Parts.of(body(*figures))
        assert words(parts.components) == words(body(*figures))
        assert len(parts.figures) == len(figures)


def test_the_first_figure_and_what_is_before_it_change_first_and_the_others_after_it():
    page = there(Parts.of(body("one", "two")))
    new = Parts.of(body("one", "two", text="asked anew"))
    (between, figures), (below, others) = new.beginning(page), new.rest(page)
    assert words(between[0]) == ["asked anew", "of one"]
    assert figures[0] == figures_of(new)[0]
    assert between[1:] == [no_update, no_update]
    assert figures[1:] == others[:1] == below[:1] == [no_update]
    assert words(below[1:]) == ["data (CSV)", "after one", "of two", "data (CSV)", "after two"]
    assert others[1] == figures_of(new)[1]


def test_a_body_of_other_figures_or_heights_is_no_change_in_place():
    page = there(Parts.of(body("one", "two")))
    for other in (body("two", "one"), body("one", "two", height=500), body("one", "two", "three")):
        assert Parts.of(other).beginning(page) is Parts.of(other).rest(page) is None
    # It may be the beginning of one, whose rest will tell.
    assert Parts.of(body("one")).beginning(page) is not None
    assert Parts.of(body("one")).rest(page) is None
    assert Parts.of(body()).beginning(page) is None


def test_a_folded_figure_is_made_anew_with_what_is_around_it():
    page, folded = Page("a page"), Page("more")
    for part in (page, folded):
        part.figure(go.Figure(), name=part.title.replace(" ", "-"))
    page.folded(folded)
    parts = Parts.of(components(page, lambda part: (None, None), {}))
    between, _ = there(parts)
    graphs = [{"figure": "a-page"}, {"figure": "more"}]
    assert there(parts)[1] == graphs[:1]
    assert parts.beginning((between, graphs))[1][1] is no_update
    below, others = parts.rest((between, graphs))
    assert graphs_of(below[1][-1]) == []
    assert others == [no_update, no_update]
    assert "more" in words(below)


def test_a_message_in_place_of_a_view_is_all_of_a_page_without_figures():
    page = there(Parts.of([html.P("before")]))
    between, figures = Parts.of([html.P("failed")]).beginning(page)
    assert words(between) == ["failed"]
    assert figures == []


def test_what_follows_a_slider_completes_the_body_of_its_address(desk):
    address = Address(("sweep", "made", "frontier"), {"target": "13", "demand": "8"})
    asked = address.with_query(demand="9")
    parts = Parts.of(screen_at(desk, asked).body())
    body, *first, later, _, _ = changed(desk, address, {"demand": "9"}, there(parts))
    assert later
    same, *rest = followed(desk, asked, there(parts))
    assert body is same is no_update
    whole = [
        [before if after is no_update else after for before, after in zip(*both, strict=True)]
        for both in zip(first, rest, strict=True)
    ]
    assert words(whole[0]) == words([box.children for box in parts.between])
    assert whole[1] == figures_of(parts)
    assert len(whole[1]) == 3


def test_a_frontier_comes_before_its_reasons_are_worked_out(desk, monkeypatch):
    address = Address(("sweep", "made", "frontier"), {"target": "13", "demand": "8"})
    page = there(Parts.of(screen_at(desk, address).body()))

    def never(*_):
        raise AssertionError("asked for too early")

    monkeypatch.setattr("flows.dashboard.screens.frontier.add_reasons", never)
    body, between, [frontier, *others], later, _, _ = changed(desk, address, {"demand": "9"}, page)
    assert body is no_update
    assert "1B tokens served" in " ".join(words(between[0]))
    assert frontier["data"]
    assert later
    assert others == [no_update, no_update]


def test_a_page_of_other_parts_is_replaced_when_what_follows_has_others(desk):
    address = Address(("sweep", "made", "frontier"), {"target": "13", "demand": "9"})
    page = there(Parts.of(screen_at(desk, address).body()))
    # Without tokens to serve there is no wrong guess of them, and no figure of it.
    least = {"demand": "0"}
    assert changed(desk, address, least, page)[0] is no_update
    body, *unchanged = followed(desk, address.with_query(**least), page)
    assert len(graphs_in(body)) == 2
    assert all(each is no_update for part in unchanged for each in part)
