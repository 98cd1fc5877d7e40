"""The lines under a plan's tables add up time and money, and say what is still open."""

from dataclasses import replace

import pytest

from flows.commands.planned.document import plan_json
from flows.commands.planned.lines import _rates, duration, summary
from flows.runs.attempts import CompileChoice, StackChoice
from flows.settings import Home
from sweeps.cap import FlopsCap
from sweeps.load import load_spec
from sweeps.plan import plan as plan_runs
from sweeps.spec import DataRef
from tests.unit.flows.commands.planned.plans import CORPUS, LARGE, SMALL, cost_of, plan_of


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.4, "< 1 s"),
        (99.4, "99 s"), (100, "1.67 min"), (5999, "100 min"), (6000, "1.67 h"),
        (359_999, "100 h"), (360_000, "4.17 days"),
    ],
)  # fmt: skip
def test_a_duration_is_in_one_unit(seconds, text):
    assert duration(seconds) == text


def test_a_summary_adds_up_time_and_money(tmp_path):
    plan = plan_of(SMALL, LARGE)
    first = (
        f"2 trainings for 3 losses: {plan.flops_spent:.2e} counted FLOPs, 1,024 tokens a "
        "step; the corpus has 12.3M tokens"
    )
    rate = "peak learning rate: test"
    assert summary(plan, CORPUS, None) == [first, rate]
    assert summary(plan, CORPUS, cost_of(plan)) == [
        first,
        rate,
        "about 60 min (50 min to 2 h) for what is left, 2 at once: timed in a test",
        "about $2.50: 1 device-hours at $2.50 an hour (as given)",
    ]
    waiting = summary(plan, CORPUS, cost_of(plan, idle_share=0.2))
    assert waiting[-1].endswith(
        "(as given); 20% idle until the last training ends, $0.62 more where rented"
    )
    even = cost_of(plan, usd_per_hour=None, spread=(3000.0, 3000.0))
    assert summary(plan, CORPUS, even)[2:] == [
        "about 60 min for what is left, 2 at once: timed in a test"
    ]
    assert summary(plan, CORPUS, cost_of(plan, left_s=0.0))[2:] == ["nothing is left to train"]
    capped = plan_of(SMALL, LARGE, cap=FlopsCap(flops=1e12))
    assert summary(capped, CORPUS, None)[-1] == "cap: 1.00e+12 FLOPs"
    refused = cost_of(capped, refusal="the cap leaves out d48")
    assert summary(capped, CORPUS, refused)[-1] == "the cap leaves out d48"


def test_every_source_of_a_rate_names_its_runs():
    other = SMALL.model_copy(update={"lr_source": "a law"})
    assert _rates(plan_of(other, LARGE, SMALL)) == [
        "peak learning rate of d16: a law",
        "peak learning rate of d48, d16: test",
    ]


def test_a_plan_says_what_is_compiled_and_without_any_why_not():
    plan = plan_of(SMALL, LARGE)

    def line(**choices):
        cost = cost_of(plan)
        by_run = {run.id: choices[run.name] for run in plan.runs if run.name in choices}
        shown = replace(cost, estimate=replace(cost.estimate, compiled=by_run))
        return [text for text in summary(plan, None, shown) if text.startswith("compiled")]

    no = CompileChoice(compiled=False, reason="would save 6 s of 30 s for 32 s", gain_s=-26.0)
    nearly = no.model_copy(update={"gain_s": -2.0, "reason": "would save 30 s of 99 s for 32 s"})
    yes = CompileChoice(compiled=True, reason="measured here", gain_s=72.0)
    assert line() == []
    assert line(d16=no, d48=yes) == ["compiled: d48, to save about 72 s together"]
    assert line(d16=no, d48=nearly) == ["compiled: none; d48 would save 30 s of 99 s for 32 s"]
    missing = CompileChoice(compiled=False, reason="torch.compile needs a compiler.")
    assert line(d16=missing, d48=missing) == ["compiled: none; torch.compile needs a compiler."]


def test_a_plan_says_which_runs_train_as_one_program_and_without_any_why_not(tmp_path):
    plan = plan_of(SMALL, LARGE)

    def lines(gain, *, stacked):
        reason = f"{gain:.2f} times as fast as one by one, measured here"
        choice = StackChoice(stacked=stacked, runs=2, gain=gain, reason=reason)
        cost = cost_of(plan, left_s=100.0)
        ids = tuple(run.id for run in plan.runs)
        compiled = dict.fromkeys(ids, CompileChoice(compiled=False, reason="too short"))
        estimate = replace(cost.estimate, stacked=[(ids, choice)], compiled=compiled)
        known = replace(cost, estimate=estimate)
        document = plan_json(plan, CORPUS, known, Home(tmp_path))
        assert document["runs"][0]["stack"] == choice.model_dump()
        return [
            text for text in summary(plan, None, known) if "one program" in text or "comp" in text
        ]

    assert lines(1.6, stacked=True) == [
        "as one program: d16 and 1 of its shape (1.60 times as fast), to save about 2 min of "
        "work; workers of a pool train each alone"
    ]
    assert lines(1.02, stacked=False) == [
        "as one program: none; d16 and 1 of its shape: 1.02 times as fast as one by one, "
        "measured here",
        "compiled: none; too short",
    ]


def test_a_plan_without_its_corpus_says_what_preparing_takes_and_a_cost_is_optional(tmp_path):
    plan, home = plan_of(SMALL), Home(tmp_path)
    lines = summary(plan, None, None)
    assert "the corpus has" not in lines[0]
    assert any("planned for the vocabulary asked for, 512 pieces" in line for line in lines)
    assert any("about 20 s of one core's work, shared by all cores" in line for line in lines)
    assert any(
        line.endswith("without run ids; whether its text repeats is not checked") for line in lines
    )
    published = " ".join(summary(plan_runs(load_spec("gpu-day"), DataRef(digest="")), None, None))
    assert "whether its text repeats is checked against about 9.95B tokens" in published
    document = plan_json(plan, None, None, home)
    assert document["corpus"]["digest"] is document["elapsed_s"] is None
    assert document["warnings"] == ["thin valleys"]
    assert "time_s" not in document["runs"][0]
