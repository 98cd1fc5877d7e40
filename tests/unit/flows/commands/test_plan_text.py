"""A plan, and tables, show their numbers in the units and order that they state."""

import json
from types import SimpleNamespace

import pytest

from flows.commands import output, plan_text
from flows.commands.output import _cell, _numeric, emit, table
from flows.commands.plan_text import _row, _summary, duration, plan_json, print_plan
from flows.cost.estimate import Estimate, RunTime
from flows.cost.quote import Cost
from flows.settings import Home
from sweeps.cap import FlopsCap
from sweeps.load import load_spec
from sweeps.plan import Plan
from sweeps.spec import DataRef, PublishedRecipe
from sweeps.trunk_cost import BASIS, left_by_run
from tests.fakes import planned_run

CORPUS = SimpleNamespace(digest="c0ffee", train_tokens=12_345_678, notes=[])
SMALL, LARGE = planned_run(width=16), planned_run(width=48, steps=(40,))


def plan_of(*runs, **changes):
    spec = load_spec("smoke").model_copy(update=changes)
    return Plan(spec=spec, data=DataRef(digest="x"), runs=runs, warnings=("thin valleys",))


def cost_of(
    plan, *, left_s=1800.0, usd_per_hour=2.5, refusal=None, spread=(3000.0, 7200.0), idle_share=0.0
):
    times = {run.id: RunTime(3600.0, left_s, (left_s, left_s), 5.0) for run in plan.runs}
    device_s = left_s * len(times)
    elapsed_s = 3600.0 if left_s else 0.0
    estimate = Estimate(times, elapsed_s, spread, device_s, idle_share, 2, "timed in a test")
    memory = {run.id: 1.2345 for run in plan.runs}
    return Cost(estimate, memory, usd_per_hour, "as given", refusal, ("too little memory",))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"), (99.4, "99 s"), (100, "1.67 min"), (5999, "100 min"), (6000, "1.67 h"),
        (359_999, "100 h"), (360_000, "4.17 days"),
    ],
)  # fmt: skip
def test_a_duration_is_in_one_unit(seconds, text):
    assert duration(seconds) == text


def test_a_row_has_the_spans_of_a_runs_horizons_and_what_is_left_of_it(tmp_path):
    plan, home = plan_of(SMALL, LARGE), Home(tmp_path)
    N = SMALL.n_params
    ratios = f"{20_480 / N:.3g}–{40_960 / N:.3g}"
    bare = ["d16", N, "0.02–0.04", ratios, 2, 46, f"{SMALL.flops_spent:.3g}", "8.00e-03"]
    assert _row(SMALL, home, None) == [*bare, "planned"]
    assert _row(SMALL, home, cost_of(plan)) == [*bare, "1.23", "30 min", "1.25", "planned"]
    no_price = cost_of(plan, usd_per_hour=None)
    assert _row(SMALL, home, no_price) == [*bare, "1.23", "30 min", "planned"]
    assert _row(SMALL, home, cost_of(plan, left_s=2.0))[-2] == "1.4e-03"
    assert _row(SMALL, home, cost_of(plan, left_s=0.0))[-2] == "0.00"
    assert _row(SMALL, home, cost_of(plan, left_s=14.4))[-2] == "0.01"
    assert _row(LARGE, home, None)[2:5] == ["0.04", f"{40_960 / LARGE.n_params:.3g}", 1]


def test_a_summary_adds_up_time_and_money(tmp_path):
    plan = plan_of(SMALL, LARGE)
    first = (
        f"2 trainings give 3 losses for {plan.flops_spent:.3g} counted FLOPs, 1,024 tokens a "
        "step; the corpus has 12.35M tokens"
    )
    rate = "peak learning rate: test"
    assert _summary(plan, CORPUS, None) == [first, rate]
    assert _summary(plan, CORPUS, cost_of(plan)) == [
        first,
        rate,
        "about 60 min (50 min to 2 h) for what is left, 2 at once: timed in a test",
        "about $2.50: 1 device-hours at $2.5 an hour (as given)",
    ]
    waiting = _summary(plan, CORPUS, cost_of(plan, idle_share=0.2))
    assert waiting[-1].endswith(
        "(as given); 20% idle until the last training ends, $0.62 more where rented"
    )
    even = cost_of(plan, usd_per_hour=None, spread=(3000.0, 3000.0))
    assert _summary(plan, CORPUS, even)[2:] == [
        "about 60 min for what is left, 2 at once: timed in a test"
    ]
    assert _summary(plan, CORPUS, cost_of(plan, left_s=0.0))[2:] == ["nothing is left to train"]
    capped = plan_of(SMALL, LARGE, cap=FlopsCap(flops=1e12))
    assert _summary(capped, CORPUS, None)[-1] == "cap: 1e+12 FLOPs"
    refused = cost_of(capped, refusal="the cap leaves out d48")
    assert _summary(capped, CORPUS, refused)[-1] == "the cap leaves out d48"


def test_every_source_of_a_rate_names_its_runs():
    other = SMALL.model_copy(update={"lr_source": "a law"})
    assert plan_text._rates(plan_of(other, LARGE, SMALL)) == [
        "peak learning rate of d16: a law",
        "peak learning rate of d48, d16: test",
    ]


def test_a_plan_is_printed_with_its_warnings_and_for_plan_alone_with_its_tuning(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(plan_text, "tuned", lambda plan, home, given: None)
    monkeypatch.setattr(plan_text, "tuned_lines", lambda tuning: ["not checked"])
    plan, home = plan_of(SMALL, LARGE), Home(tmp_path)
    print_plan(plan, CORPUS, home, cost=None)
    printed = capsys.readouterr().out
    assert "warning: thin valleys" in printed
    assert "not checked" not in printed
    assert "time left" not in printed
    print_plan(plan, CORPUS, home, cost=cost_of(plan))
    printed = capsys.readouterr().out
    header = next(line for line in printed.splitlines() if line.startswith("run"))
    assert " ".join(header.split()) == (
        "run N D in M D/N losses steps FLOPs peak lr GiB time left $ left state"
    )
    assert "warning: thin valleys" in printed
    assert "warning: too little memory" in printed
    assert "not checked" in printed


def test_a_plan_shows_what_sharing_a_trunk_costs_where_the_rule_can_tell(tmp_path, capsys):
    plan = plan_of(SMALL, LARGE, recipe=PublishedRecipe(kind="steplaw"))
    worst = max(left_by_run(plan.spec, SMALL))
    print_plan(plan, CORPUS, Home(tmp_path), cost=None)
    printed = capsys.readouterr().out
    lines = [
        line.split() for line in printed.splitlines() if line.startswith(("run", "d16", "d48"))
    ]
    header, small, large = lines[:3]
    assert header[-4:] == ["lr", "trunk", "%", "state"]
    assert (small[-2], large[-2]) == (f"{100 * worst:.2f}", "0.00")
    assert BASIS in printed
    document = plan_json(plan, CORPUS, cost_of(plan), Home(tmp_path))
    assert [run["trunk_cost"] for run in document["runs"]] == [
        left_by_run(plan.spec, SMALL), [0.0],
    ]  # fmt: skip
    plain = plan_json(plan_of(SMALL), CORPUS, cost_of(plan_of(SMALL)), Home(tmp_path))
    assert plain["runs"][0]["trunk_cost"] is None


def test_the_json_of_a_plan_has_what_the_table_shows(tmp_path):
    home = Home(tmp_path)
    plan = plan_of(SMALL, LARGE)
    document = json.loads(json.dumps(plan_json(plan, CORPUS, cost_of(plan), home)))
    assert document["flops_left"] == 10.0
    assert (document["usd"], document["usd_per_hour"], document["device_s"]) == (2.5, 2.5, 3600.0)
    assert document["warnings"] == ["thin valleys", "too little memory"]
    first = document["runs"][0]
    assert first["tokens_per_param"] == [20_480 / SMALL.n_params, 40_960 / SMALL.n_params]
    assert (first["usd_left"], first["time_left_s"], first["memory_gib"]) == (1.25, 1800.0, 1.2345)
    assert [cell["tokens"] for cell in first["cells"]] == [20_480, 40_960]


@pytest.mark.parametrize(
    ("value", "numeric"),
    [
        (1, True), (2.5, True), ("1,234", True), ("11B", True), ("$12", True), ("1.00e+23", True),
        ("16.3%", True), ("-0.5", True), ("+0.01 [0, 1]", True), ("–", True), ("d16", False),
        ("", False), ("3 sizes", True), ("planned", False),
    ],
)  # fmt: skip
def test_numbers_are_told_from_words(value, numeric):
    assert _numeric(value) is numeric


def test_a_table_aligns_numbers_right_and_words_left(capsys):
    table("title", ["name", "count", "empty"], [["a", 1_234, ""], ["bcd", 5, ""]])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "title"
    assert lines[1:] == ["name  count  empty", "a     1,234", "bcd       5"]
    assert [_cell(value) for value in (1_234, 2.34567, "x")] == ["1,234", "2.346", "x"]


def test_without_a_terminal_a_table_has_140_columns(monkeypatch):
    console = SimpleNamespace(width=77, is_terminal=False)
    monkeypatch.setattr(output, "Console", lambda: console)
    assert output.width() == 140
    console.is_terminal = True
    assert output.width() == 77


def test_a_document_goes_to_standard_output_or_to_a_file_that_can_be_written(tmp_path, capsys):
    emit({"a": 1}, "-")
    assert json.loads(capsys.readouterr().out) == {"a": 1}
    emit({"a": 1}, str(tmp_path / "a.json"))
    assert (tmp_path / "a.json").read_text() == '{\n "a": 1\n}\n'
    with pytest.raises(SystemExit) as refusal:
        emit({}, str(tmp_path))
    assert refusal.value.code == 2
    assert f"cannot write --json {tmp_path}: " in capsys.readouterr().err
    with pytest.raises(ValueError, match="JSON"):
        emit({"a": float("nan")}, "-")
