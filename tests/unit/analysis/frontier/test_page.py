"""Terminal and page print the same numbers of one answer, all taken from the answer itself."""

from html import unescape

import pytest

from analysis import published
from analysis.frontier.answer import Advice, Demand, advise
from analysis.frontier.decision import AtBudget, AtLoss, Like
from analysis.frontier.figures import draw_regret, regret_data
from analysis.frontier.page import frontier_page
from analysis.frontier.serving import Device, Serving
from analysis.frontier.text import (
    batch_rows,
    choice_table,
    dollar_rows,
    extrapolation,
    lead_sentences,
    menu_table,
    rule_rows,
    spread_rows,
    warnings,
)
from analysis.words import dollars, flops, short
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
    menu_header, menu = menu_table(advice.served)
    # A column without a word in it is left out.
    assert ("why not" in menu_header) == (len(menu_header) == 7)
    for row in (*choices, *spread_rows(advice), *menu):
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
    N, D, training = (header.index(name) for name in ("N", "D", "training"))
    best = advice.frontier.optimum
    assert rows[1][N] == short(best.N.item())
    assert rows[1][training] == flops(best.train_flops.item())
    ends = advice.frontier.interval("D", 0.9)
    assert ends is not None
    assert [row[0] for row in rows[2:]] == ["90% from", "to"]
    assert [row[D] for row in rows[2:]] == [short(end.item()) for end in ends]


def test_an_answer_asked_in_dollars_leads_in_dollars_and_names_its_batch(advice: Advice) -> None:
    assert advice.served is not None
    choice, batches = advice.served.choice, advice.served.batches
    lead, assumed, in_flops = lead_sentences(advice)
    assert lead.startswith(f"Train {short(choice.N)} [")
    assert f"{dollars(choice.total_usd)} over its life" in lead
    assert "H100-80GB at $2.00 an hour, batch 8, context 1,024, 16-bit weights" in assumed
    assert batches["batch"].to_list() == [1, 8, 32, 128]
    # At batch 8 the answer itself; a larger batch makes tokens cheaper and the model larger.
    assert batches["N"][1] == choice.N
    assert batches["N"].is_sorted()
    assert batches["total_usd"].is_sorted(descending=True)
    assert f"{short(batches['N'][3])} for {dollars(batches['total_usd'][3])} at 128" in assumed
    assert in_flops.startswith("In FLOPs alone the best is ")


def test_draws_that_cannot_reach_the_goal_are_told_before_the_answer() -> None:
    law = published.law("besiroglu")
    # Below E under about half of the draws.
    answer = advise(law, AtLoss(law.E + 0.02), Demand(generated=(1e11, 1e13)))
    share = answer.frontier.unreachable
    assert 0 < share < 1
    first = f"MAY BE OUT OF REACH: under {share:.1%} of the draws no N and D reach loss "
    assert sum(line.startswith(first) for line in warnings(answer)) == 1
    page = unescape(frontier_page(answer).html())
    assert first in page
    planned = f"Demand 100B to 10T: planned for {short(answer.planned)}, where the worst regret"
    assert f"Pays once {short(answer.break_even)} tokens are served. {planned}" in page


def test_a_batch_that_fits_no_gpu_is_a_row_that_says_so() -> None:
    serving = Serving(Device.named("a100-40", usd_per_hour=1.0), gpus=1)
    demand = Demand(generated=(2e11, 2e11))
    advice = advise(published.law("besiroglu"), AtBudget(3e23), demand, serving=serving)
    assert advice.served is not None
    assert batch_rows(advice.served)[-1] == ["128", "does not fit", "–", "–", "–"]


def test_a_model_asked_for_is_priced_beside_the_answer() -> None:
    law, goal = published.law("besiroglu"), Like(8e9, 15e12)
    demand = Demand(prompt=(5e12, 5e12), generated=(1e12, 1e12))
    plain = advise(law, goal, demand)
    assert choice_table(plain)[1][-1][:3] == ["8B on 15T", "8B", "15T"]
    assert plain.asked is not None
    assert plain.asked.total == pytest.approx(6 * 8e9 * 15e12 + 2 * 8e9 * 6e12)
    times = plain.asked.total / plain.frontier.optimum.total.item()
    assert lead_sentences(plain)[1].endswith(f"{times:.3g} times as much.")
    priced = advise(law, goal, demand, serving=Serving(Device.named("h100")))
    assert priced.served is not None
    assert priced.served.asked_usd is not None
    total = sum(priced.served.asked_usd)
    assert total > priced.served.choice.total_usd
    assert dollar_rows(priced, priced.served)[-1][-1] == dollars(total)
    assert lead_sentences(priced)[2].startswith(f"8B on 15T itself takes {dollars(total)} over")
    # The compute-optimal model's bill of the table is the one that the saving is told against.
    assert dollar_rows(priced, priced.served)[0][-1] == dollars(priced.served.choice.baseline_usd)


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
    assert title.endswith(f"the worst guess here costs {worst:.0%} more")
