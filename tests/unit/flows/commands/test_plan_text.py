"""A plan, and tables, show their numbers in the units and order that they state."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.commands import output, plan_text
from flows.commands.output import emit
from flows.commands.plan_text import _columns, _summary, plan_json, print_plan, print_runs
from flows.commands.time_text import duration
from flows.cost.estimate import Estimate, RunTime
from flows.cost.quote import Cost
from flows.runs.attempts import CompileChoice, StackChoice
from flows.settings import Home
from sweeps.cap import FlopsCap
from sweeps.choices import FixedRecipe, PublishedRecipe
from sweeps.load import load_spec
from sweeps.plan import Plan
from sweeps.plan import plan as plan_runs
from sweeps.spec import DataRef
from sweeps.trunk_cost import BASIS, left_by_run
from tests.fakes import planned_run

CORPUS = SimpleNamespace(
    digest="c0ffee", path="folder", vocab_size=512, train_tokens=12_345_678, val_tokens=9, notes=[]
)
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


def test_a_plan_of_mixtures_shows_shares_and_epochs_and_the_runs_of_one(tmp_path, capsys):
    sources = [{"kind": "files", "path": "x", "name": name} for name in ("prose", "code")]
    spec = load_spec(
        "smoke",
        [
            f"corpus.sources={sources}",
            "grid={kind: tokens, tokens: [65536]}",
            "mixtures={shares: {kind: lattice, parts: 4}, target_tokens: 1e6}",
        ],
    )
    tokens = {"prose": 500_000, "code": 250_000}
    whole = plan_runs(spec, DataRef(digest="x"), source_tokens=tokens)
    corpus = SimpleNamespace(**vars(CORPUS), source_tokens=tokens)
    print_plan(whole, corpus, Home(tmp_path), cost=None)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split() for line in printed if line.startswith("m0")][-5:] == [
        ["m00", "1.000", "x2", "0.000"],
        ["m01", "0.750", "x1.5", "0.250", "x1"],
        ["m02", "0.500", "x1", "0.500", "x2"],
        ["m03", "0.250", "x0.5", "0.750", "x3"],
        ["m04", "0.000", "1.000", "x4"],
    ]
    assert sum(line.startswith("m00-d") for line in printed) == 4
    assert any("each run reads a part of it as often" in line for line in printed)
    run = plan_json(whole, corpus, None, Home(tmp_path))["runs"][-1]
    assert (run["mixture"], run["epochs"]) == ("m04", {"prose": 0.0, "code": 4.0})
    # 65,536 of a million tokens are to 250,000 as 16,384, in whole windows of 128.
    assert run["unique_tokens"] == {"prose": 32_768, "code": 16_384}


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


def test_a_row_has_the_spans_of_a_runs_horizons_and_what_is_left_of_it(tmp_path):
    plan, home = plan_of(SMALL, LARGE), Home(tmp_path)
    N = SMALL.n_params
    bare = {
        "run": "d16", "N": f"{N / 1e3:.3g}k", "D": "20k–41k",
        "D/N": f"{20_480 / N:.2g}–{40_960 / N:.2g}", "steps": "46", "FLOPs": "6.4e9",
        "lr": "8.0e-3",
    }  # fmt: skip
    assert _columns(SMALL, home, None) == bare | {"state": "planned"}
    left = {"GiB": "1.2", "time": "30 min", "$": "1.25", "state": "planned"}
    assert _columns(SMALL, home, cost_of(plan)) == bare | left
    no_price = cost_of(plan, usd_per_hour=None)
    assert "$" not in _columns(SMALL, home, no_price)
    assert _columns(SMALL, home, cost_of(plan, left_s=14.4))["$"] == "0.01"
    # Cents of a hundred dollars are left out: a row has to fit.
    assert _columns(SMALL, home, cost_of(plan, left_s=1.44e5))["$"] == "100"
    assert _columns(LARGE, home, None)["D/N"] == f"{40_960 / LARGE.n_params:.2g}"


def test_the_state_is_a_column_once_a_run_is_begun_and_d_n_where_no_budget_has_it(
    tmp_path, capsys, monkeypatch
):
    home, grid = Home(tmp_path), {"kind": "tokens", "tokens": [40_960]}
    print_runs(plan_of(SMALL, LARGE), home, None)
    assert capsys.readouterr().out.splitlines()[-3].split() == [
        "run",
        "N",
        "D",
        "steps",
        "FLOPs",
        "lr",
    ]
    spec = load_spec("smoke", [f"grid={json.dumps(grid)}"])
    monkeypatch.setattr(
        plan_text, "run_state", lambda run: "finished" if SMALL.id in str(run.path) else "planned"
    )
    plan = Plan(spec=spec, data=DataRef(digest="x"), runs=(SMALL, LARGE), warnings=())
    print_runs(plan, home, None)
    header, first, _ = capsys.readouterr().out.splitlines()[-3:]
    assert header.split() == ["run", "N", "D", "D/N", "steps", "FLOPs", "lr", "state"]
    assert first.split()[-1] == "finished"


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
    assert "GiB" not in printed
    print_plan(plan, CORPUS, home, cost=cost_of(plan), given="smoke")
    printed = capsys.readouterr().out
    header = next(line for line in printed.splitlines() if line.startswith("run"))
    assert " ".join(header.split()) == ("run N D steps FLOPs lr GiB time $")
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
    assert header[-3:] == ["FLOPs", "lr", "trunk%"]
    assert (small[-1], large[-1]) == (f"{100 * worst:.2f}", "0.00")
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


def test_a_plan_without_its_corpus_says_what_preparing_takes_and_a_cost_is_optional(tmp_path):
    plan, home = plan_of(SMALL), Home(tmp_path)
    lines = _summary(plan, None, None)
    assert "the corpus has" not in lines[0]
    assert any("planned for the vocabulary asked for, 512 pieces" in line for line in lines)
    assert any("about 20 s of one core's work, shared by all cores" in line for line in lines)
    assert any(line.endswith("without run ids, the text's size unchecked") for line in lines)
    published = " ".join(_summary(plan_runs(load_spec("gpu-day"), DataRef(digest="")), None, None))
    assert "without run ids, the text's size checked by its publisher's figure" in published
    document = plan_json(plan, None, None, home)
    assert document["corpus"]["digest"] is document["elapsed_s"] is None
    assert document["warnings"] == ["thin valleys"]
    assert "time_s" not in document["runs"][0]


def test_a_plan_fits_eighty_columns(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(output, "width", lambda: 80)
    ladder = "ladder={sizes: [20e6, 125e6, 1.5e9]}"
    grid = "grid={kind: isoflop, budgets: [1e18, 3e19], tokens_per_param: [0.5, 2000]}"
    spec = load_spec("smoke", [ladder, grid, "corpus.vocab_size=32000", "seq_len=2048"])
    spec = spec.model_copy(update={"recipe": FixedRecipe(lr=3e-4, batch_tokens=2**19)})
    plan = plan_runs(spec, DataRef(digest="x"))
    print_plan(plan, CORPUS, Home(tmp_path), cost=cost_of(plan, left_s=123_456.0))
    printed = capsys.readouterr().out
    table_lines = printed.partition("trainings give")[0].splitlines()
    assert max(map(len, table_lines)) <= 80
    # What does not fit is cut off with an ellipsis.
    assert "…" not in printed
    assert "d1984x31" in printed
    assert "20M d384x6 (22.9M), 125M d832x13 (137M), 1.5B d1984x31 (1.54B)" in printed


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


def test_a_plan_says_what_is_compiled_and_without_any_why_not():
    plan = plan_of(SMALL, LARGE)

    def line(**choices):
        cost = cost_of(plan)
        by_run = {run.id: choices[run.name] for run in plan.runs if run.name in choices}
        shown = replace(cost, estimate=replace(cost.estimate, compiled=by_run))
        return [text for text in _summary(plan, None, shown) if text.startswith("compiled")]

    no = CompileChoice(compiled=False, reason="would save 6 s of 30 s for 32 s", gain_s=-26.0)
    nearly = no.model_copy(update={"gain_s": -2.0, "reason": "would save 30 s of 99 s for 32 s"})
    yes = CompileChoice(compiled=True, reason="measured here", gain_s=72.0)
    assert line() == []
    assert line(d16=no, d48=yes) == ["compiled: d48, to save about 72 s together"]
    assert line(d16=no, d48=nearly) == ["compiled: none; d48 would save 30 s of 99 s for 32 s"]
    missing = CompileChoice(compiled=False, reason="torch.compile needs a compiler.")
    assert line(d16=missing, d48=missing) == ["compiled: none; torch.compile needs a compiler."]


def test_a_plan_says_which_runs_train_as_one_program_and_without_any_why_not():
    plan = plan_of(SMALL, LARGE)

    def lines(gain, *, stacked):
        reason = f"{gain:.2f} times as fast as one by one, measured here"
        choice = StackChoice(stacked=stacked, runs=2, gain=gain, reason=reason)
        cost = cost_of(plan, left_s=100.0)
        ids = tuple(run.id for run in plan.runs)
        compiled = dict.fromkeys(ids, CompileChoice(compiled=False, reason="too short"))
        estimate = replace(cost.estimate, stacked=[(ids, choice)], compiled=compiled)
        shown = replace(cost, estimate=estimate)
        stack = plan_json(plan, CORPUS, shown, Home(Path("nowhere")))["runs"][0]["stack"]
        assert stack == choice.model_dump()
        return [text for text in _summary(plan, None, shown) if "program" in text or "comp" in text]

    assert lines(1.6, stacked=True) == [
        "as one program: d16 and 1 of its shape (1.60 times as fast), to save about 2 min of "
        "work; workers of a pool train each alone"
    ]
    assert lines(1.02, stacked=False) == [
        "as one program: none; d16 and 1 of its shape: 1.02 times as fast as one by one, "
        "measured here",
        "compiled: none; too short",
    ]


def test_a_plan_of_variants_has_what_each_changes_and_that_its_rate_is_to_be_scanned(
    tmp_path, capsys
):
    spec = load_spec("smoke", ["variants={norm: {block: {norm: layer}}, palm: {block: palm}}"])
    plan = plan_runs(spec, DataRef(digest="x"))
    print_plan(plan, CORPUS, Home(tmp_path), cost=None, given="smoke")
    text = capsys.readouterr().out
    assert "block norm layer" in text
    assert text.count("to be scanned") == 3
    assert "norm-d16" in text
    assert "norm-d16-lr-x0.25" not in text
    assert "15 of the trainings" in text
    assert "the rates shown are the recipe's, and so are not yet the runs' own" in text
    assert "sizes at each budget of base, norm" in text
    assert "was not checked" not in text
    assert plan_json(plan, CORPUS, None, Home(tmp_path))["tuned"] is None
    settled = plan_runs(spec.model_copy(update={"scan": None}), plan.data)
    print_plan(settled, CORPUS, Home(tmp_path), cost=None, given="smoke")
    assert "to be scanned" not in capsys.readouterr().out
