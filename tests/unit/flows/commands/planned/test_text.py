"""The tables of a plan show their numbers in the units and order that they state."""

import json
from types import SimpleNamespace

from flows.commands import output
from flows.commands.planned import text
from flows.commands.planned.document import plan_json
from flows.commands.planned.text import _columns, print_plan, print_runs
from flows.settings import Home
from sweeps.choices import FixedRecipe, PublishedRecipe
from sweeps.load import load_spec
from sweeps.plan import Plan
from sweeps.plan import plan as plan_runs
from sweeps.spec import DataRef
from sweeps.trunk_cost import BASIS, left_by_run
from tests.unit.flows.commands.planned.plans import CORPUS, LARGE, SMALL, cost_of, plan_of


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


def test_a_plan_on_parts_of_the_text_says_how_often_each_is_read(tmp_path, capsys):
    whole = plan_runs(load_spec("repetition", ["ladder.widths=[16]"]), DataRef(digest="x"))
    print_plan(whole, None, Home(tmp_path), cost=None)
    words = " ".join(capsys.readouterr().out.split())
    assert "the longest run reads 24.6k 32 times, 65.5k 12 times, 197k 4 times" in words
    runs = plan_json(whole, None, None, Home(tmp_path))["runs"]
    times = {run["name"]: run.get("epochs") for run in runs}
    assert times["d16"] is None
    assert times["d16-U24576"] == {"environment": 32.0}


def test_a_row_has_the_spans_of_a_runs_horizons_and_what_is_left_of_it(tmp_path):
    plan, home = plan_of(SMALL, LARGE), Home(tmp_path)
    N = SMALL.n_params
    bare = {
        "run": "d16", "N": f"{N / 1e3:.3g}k", "D": "20k–41k",
        "D/N": f"{20_480 / N:.2g}–{40_960 / N:.2g}", "steps": "46", "FLOPs": "6.45e+09",
        "lr": "8.00e-03",
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
        text, "run_state", lambda run: "finished" if SMALL.id in str(run.path) else "planned"
    )
    plan = Plan(spec=spec, data=DataRef(digest="x"), runs=(SMALL, LARGE), warnings=())
    print_runs(plan, home, None)
    header, first, _ = capsys.readouterr().out.splitlines()[-3:]
    assert header.split() == ["run", "N", "D", "D/N", "steps", "FLOPs", "lr", "state"]
    assert first.split()[-1] == "finished"


def test_a_plan_is_printed_with_its_warnings_and_for_plan_alone_with_its_tuning(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(text, "tuned", lambda plan, home, given: None)
    monkeypatch.setattr(text, "tuned_lines", lambda tuning: ["not checked"])
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


def test_a_plan_fits_eighty_columns(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(output, "width", lambda: 80)
    ladder = "ladder={sizes: [20e6, 125e6, 1.5e9]}"
    grid = "grid={kind: isoflop, budgets: [1e18, 3e19], tokens_per_param: [0.5, 2000]}"
    spec = load_spec("smoke", [ladder, grid, "corpus.vocab_size=32000", "seq_len=2048"])
    spec = spec.model_copy(update={"recipe": FixedRecipe(lr=3e-4, batch_tokens=2**19)})
    plan = plan_runs(spec, DataRef(digest="x"))
    print_plan(plan, CORPUS, Home(tmp_path), cost=cost_of(plan, left_s=123_456.0))
    printed = capsys.readouterr().out
    table_lines = printed.partition("trainings for")[0].splitlines()
    assert max(map(len, table_lines)) <= 80
    # What does not fit is cut off with an ellipsis.
    assert "…" not in printed
    assert "d1984x31" in printed
    assert "20M d384x6 (22.9M), 125M d832x13 (137M), 1.5B d1984x31 (1.54B)" in printed


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
