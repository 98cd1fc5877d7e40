import plotly.graph_objects as go
import pytest
from plotly.subplots import make_subplots

from analysis.page import Page


def test_what_came_out_of_a_run_cannot_write_markup() -> None:
    page = Page("<b>title</b>")
    page.text("</p><script>alert(1)</script>")
    page.table(("a",), [("<img>",)])
    page.points(["<i>"])
    page.key_figures([("<u>", "<s>")])
    html = page.html()
    for markup in ("<b>title", "<script>alert", "<img>", "<i>", "<u>", "<s>"):
        assert markup not in html


def test_a_figure_cannot_end_its_script() -> None:
    page = Page("p")
    page.figure(go.Figure(go.Scatter(x=[1], y=[2], name="</script>")), name="one")
    script = page.html().rpartition("</script></body>")[0].rsplit("<script>", 1)[1]
    assert "</script>" not in script
    assert "\\u003c/script>" in script


def test_a_figures_title_becomes_text() -> None:
    page = Page("p")
    page.figure(go.Figure(layout={"title": {"text": "What follows"}}), name="one")
    html = page.html()
    assert "<h3>What follows</h3>" in html
    assert html.count("What follows") == 1


def test_a_page_without_figures_is_small() -> None:
    page = Page("p")
    page.text("words")
    assert len(page.html()) < 5000


def test_columns_of_words_stand_left_and_numbers_right() -> None:
    page = Page("p")
    page.table(("name", "why", "n"), [("a", "words", "+3%"), ("b", "", "4")])
    html = page.html()
    assert '<td class="words">words</td>' in html
    assert "<td>+3%</td>" in html


def test_a_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="row of 1 cells under a header of 2"):
        Page("p").table(("a", "b"), [("1",)])


def test_sentences_in_a_cell_wrap_even_where_one_begins_with_a_number() -> None:
    page = Page("p")
    page.table(["quantity", "reason"], [["N*", "6 rows for 5 constants leave 1 to judge by, few."]])
    assert '<td class="long">6 rows' in page.html()
    assert '<td class="words">N*' in page.html()


def test_folded_figures_have_names_and_are_drawn() -> None:
    page, inner = Page("p"), Page("more <b>")
    inner.figure(go.Figure(), name="one")
    page.folded(inner)
    html = page.html()
    assert "<summary>more &lt;b&gt;</summary>" in html
    assert 'draw("one"' in html
    assert list(page.figures) == ["one"]


def test_panels_share_the_whole_width_as_they_shared_the_figure() -> None:
    figure = make_subplots(cols=2, column_widths=[0.75, 0.25], horizontal_spacing=0)
    for col in (1, 2):
        figure.add_scatter(x=[1], y=[1], row=1, col=col)
    page = Page("p")
    page.figure(figure, name="two", panels=True)
    html = page.html()
    assert 'id="two" style="height:480px;flex:75 1 300px"' in html
    assert 'id="two-2" style="height:480px;flex:25 1 300px"' in html
