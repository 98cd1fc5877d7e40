"""Terminal and page print the same numbers of one answer, all taken from the answer itself."""

from html import unescape

import pytest

from analysis import published
from analysis.frontier.answer import Advice, Demand, advise
from analysis.frontier.decision import AtBudget
from analysis.frontier.figures import draw_regret, regret_data
from analysis.frontier.page import frontier_page
from analysis.frontier.serving import Device, Serving
from analysis.frontier.text import choice_table, extrapolation, menu_rows, rule_rows, spread_rows
from analysis.words import flops, short
from flows.commands.frontier_text import print_advice


@pytest.fixture(scope="module")
def advice() -> Advice:
    return advise(
        published.law("besiroglu"),
        AtBudget(1e23),
        Demand(generated=(1e12, 1e12)),
        serving=Serving(Device.named("h100")),
        unique_tokens=2e11,
    )


def test_every_row_reads_alike_in_terminal_and_page(
    advice: Advice, capsys: pytest.CaptureFixture[str]
) -> None:
    print_advice(advice)
    terminal = capsys.readouterr().out
    page = unescape(frontier_page(advice).html())
    _, choices = choice_table(advice)
    assert advice.served is not None
    for row in (*choices, *spread_rows(advice), *menu_rows(advice.served)):
        for cell in row:
            assert cell in terminal, row
            assert f">{cell}</td>" in page, row
    for row in rule_rows(advice):
        assert all(cell in terminal for cell in row[:3])
        assert all(f">{cell}</td>" in page for cell in row)
    extra = f"{advice.regret[0, 1]:.1%}"
    assert extra in terminal
    assert f'"{extra}"' in page


def test_the_table_holds_both_choices_and_the_interval(advice: Advice) -> None:
    header, rows = choice_table(advice)
    assert header[-1] == "90% interval"
    best = advice.frontier.optimum
    assert rows[0][2] == short(best.N.item())
    assert rows[3][2] == flops(best.train_flops.item())
    ends = advice.frontier.interval("D", 0.9)
    assert ends is not None
    assert rows[1][3] == f"{short(ends[0].item())} to {short(ends[1].item())}"


def test_an_answer_outside_the_data_is_marked_and_one_inside_is_not() -> None:
    law, demand = published.law("besiroglu"), Demand(generated=(1e9, 1e9))
    assert extrapolation(advise(law, AtBudget(1e21), demand)) == ""
    assert "outside" in extrapolation(advise(law, AtBudget(1e24), demand))
    bare = law.model_copy(update={"support": None})
    assert "does not say" in extrapolation(advise(bare, AtBudget(1e21), demand))


def test_the_worst_guess_in_the_title_is_the_worst_cell_of_the_figure(advice: Advice) -> None:
    title = draw_regret(regret_data(advice.regret_demands, advice.regret)).layout.title.text
    worst = advice.regret.max()
    # Here it is to plan for no demand and meet ten times the expected one.
    assert worst == advice.regret[-1, 0] > advice.regret[1:, 1:].max()
    assert title.endswith(f"the worst guess here costs {worst:.1%}")
