"""What a person reads in the dashboard, and what its callbacks answer; no browser, no server."""

import json
import re
import sqlite3
from base64 import b64encode
from io import StringIO
from types import SimpleNamespace

import polars as pl
import pytest
from dash.exceptions import PreventUpdate

from analysis.words import rate
from flows.dashboard.address import Address
from flows.dashboard.app import changed, dropped, make_app, shown, ticked
from flows.dashboard.library import Library
from flows.dashboard.screens.at import screen_at
from flows.dashboard.subjects import OWN, SweepSubject
from flows.plans.stored import write_plan
from flows.runs.attempts import recording_attempt
from flows.runs.directory import RunDir
from flows.settings import Home
from tests.dashboards import Never, assert_python_gives_the_data, desk_of, text_of, words
from tests.simulated import isoflops, table
from tests.simulated_home import simulated_study, simulated_sweep
from tests.unit.flows.results import test_mixtures as mixture_sweeps

# A page without parts, in whose place a whole body comes.
NOTHING = ([], [])


def test_home_shows_every_sweep_with_state_budget_and_best_loss(desk):
    text = text_of(desk, Address())
    assert "made finished no law yet" in text
    assert "begun 1 of 8 finished so far, 2 of 31 losses: no law yet" in " ".join(text.split())
    assert "(100%)" in text
    assert "No forecast is registered" in text
    body = json.dumps(shown(desk, Address())[2], default=lambda each: each.to_plotly_json())
    assert "data:image/svg+xml;base64," in body
    assert "best loss from" in body


def test_among_many_sweeps_those_that_hold_some_words_are_shown(desk, monkeypatch):
    assert "Show sweeps" not in text_of(desk, Address())
    monkeypatch.setattr("flows.dashboard.screens.home._FEW", 2)
    assert "Show sweeps" in text_of(desk, Address())
    text = text_of(desk, Address((), {"q": "fin 8"}))
    assert "begun 1 of 8 finished" in text
    assert "beside" not in text


def test_a_sweeps_answer_stands_above_its_figures(desk):
    text = text_of(desk, Address(("sweep", "made")))
    assert text.index("IsoFLOP: the best size grows as N*") < text.index("IsoFLOP valleys")
    for heading in ("The parametric law and its residuals", "Every loss curve", "Python"):
        assert heading in text


def test_before_its_fit_is_there_a_sweep_shows_valleys_and_says_so(root):
    desk = desk_of(root, Never)
    text = text_of(desk, Address(("sweep", "made")))
    assert "The answer is being computed" in text
    assert "IsoFLOP valleys" in text
    assert "Parametric law:" not in text


def test_every_view_of_a_sweep_without_a_step_opens(tmp_path):
    planned = simulated_sweep(tmp_path, "planned", finished=0)
    desk = desk_of(tmp_path)
    for view in ((), ("frontier",), ("next",)):
        text = text_of(desk, Address(("sweep", "planned", *view)))
        assert "no row is left to fit" in text
        assert "This view failed" not in text
    RunDir(tmp_path / "runs" / planned.runs[0].id).create(planned.runs[0])
    run = text_of(desk, Address(("run", planned.runs[0].id)))
    assert "How it was made" in run
    assert "This view failed" not in run


def test_a_table_too_small_for_a_law_says_why(desk):
    text = text_of(desk, Address(("sweep", "begun")))
    assert "There is no law yet: " in text
    assert "1 of 8 runs finished" in text


def test_another_count_of_N_and_C_moves_the_exponent_as_the_table_of_counts_has_it(desk):
    page = screen_at(desk, Address(("sweep", "made"))).page()
    [counts] = [part for part in page.parts if getattr(part, "header", ("",))[-1] == "D*/N*"
                and part.header[0] == "N"]  # fmt: skip
    by_count = {row[:2]: row[2] for row in counts.rows}
    query = {"n": "n_params_total", "c": "flops_6nd"}
    text = text_of(desk, Address(("sweep", "made"), query))
    assert f"N* ~ C^{float(by_count['every parameter', '6ND']):.2f}" in text
    assert "N counts every parameter." in text


def test_a_sweep_that_trains_has_its_law_so_far_on_the_first_view(tmp_path):
    simulated_sweep(tmp_path, "halfway", finished=7)
    desk = desk_of(tmp_path)
    text = " ".join(text_of(desk, Address()).split())
    [row] = re.findall(r"halfway 7 of 8 finished so far, (\d+) of 31 losses: .*?so far", text)
    assert int(row) < 31
    exponent = re.search(r"(0\.\d\d) \[0\.\d\d, 0\.\d\d\] so far", text)
    findings = SweepSubject(desk, desk.library.sweep("halfway")).findings(OWN).value
    assert float(exponent[1]) == round(findings.group.fit.law.exponent_N, 2)


def test_a_study_has_its_best_rate_and_batch_on_the_first_view_and_a_page(tmp_path):
    simulated_study(tmp_path)
    desk = desk_of(tmp_path)
    law = desk.library.study("tuned").law
    low, high = law.lr.interval
    # The trials' noise is a thousandth, and the surface a quadratic.
    assert law.lr.value == pytest.approx(0.012, rel=0.1)
    assert f"tuned finished {law.verdict}" in " ".join(text_of(desk, Address()).split())
    assert f"{rate(law.lr.value)} [{rate(low)} to {rate(high)}]" in text_of(desk, Address())
    screen = screen_at(desk, Address(("study", "tuned")))
    text = " ".join(words(screen.body()))
    assert text.index("lr* =") < text.index("The best rate and batch") < text.index("Surfaces")
    assert "/run/" in json.dumps(screen.body(), default=lambda each: each.to_plotly_json())
    trial = desk.library.study("tuned").runs[0].progress.run_id
    assert words(shown(desk, Address(("run", trial)))[1]) == ["Study tuned"]
    assert_python_gives_the_data(screen, "law", "surface-1", "loss-curves")
    assert "no study 'gone'" in text_of(desk, Address(("study", "gone")))


def test_a_study_that_trains_shows_its_trials_with_the_losses_that_are_there(tmp_path):
    spec = simulated_study(tmp_path, finished=3)
    desk = desk_of(tmp_path)
    address = Address(("study", "tuned"))
    text = text_of(desk, address)
    total = spec.trials * len(spec.ladder.widths)
    assert f"3 of {total} trials finished" in text
    assert "No law yet:" in text
    assert f"{total * 2} losses, {(total - 3) * 2} left out" in text
    stamp = shown(desk, address)[4]
    simulated_study(tmp_path, finished=4)
    body, *_ = ticked(desk, address, stamp, NOTHING)
    assert f"4 of {total}" in " ".join(words(body))


def test_a_slider_changes_the_frontier_as_the_question_changes(desk):
    address = Address(("sweep", "made", "frontier"))
    alone, *_ = changed(desk, address, {"target": "13", "demand": "0"}, NOTHING)
    asked = {"target": "13", "demand": "9", "gpu": "H100-80GB", "price": "3", "batch": "6"}
    served, *_ = changed(desk, address, asked, NOTHING)
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


def test_the_next_runs_and_the_command_that_writes_them_are_shown(desk):
    text = text_of(desk, Address(("sweep", "made", "next"), {"target": "13", "runs": "2"}))
    assert "isoflop next made --flops 1e+13 --runs 2 --to next.yaml" in text
    assert "Chosen from" in text


def test_sweeps_are_compared_with_the_first(desk):
    address = Address(("compare",), {"sweeps": "made,beside"})
    text = text_of(desk, address)
    assert text.index("beside needs") < text.index("What it did to the law")
    assert "Choose two sweeps or more." in text_of(desk, Address(("compare",)))


def test_sweeps_are_compared_by_bits_per_byte_where_the_address_asks(desk):
    asked = {"sweeps": "made,beside"}
    by_token, by_byte = (
        text_of(desk, Address(("compare",), query)) for query in (asked, asked | {"loss": "byte"})
    )
    assert "nats per token" in by_token.split("Loss in")[1][:20]
    assert "bits per byte" in by_byte
    assert by_token != by_byte


def test_a_sweep_that_is_not_compared_is_named(desk):
    address = Address(("compare",), {"sweeps": "made,gone,begun"})
    text = text_of(desk, address)
    assert "Left out: gone." in text
    assert "begun" in text


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


def test_variants_of_a_sweep_have_laws_of_their_own(tmp_path):
    change = 'variants={"gelu": {"block": {"ffn": "gelu"}}}'
    write_plan(simulated_sweep(tmp_path, "arch", change, rows=10), Home(tmp_path))
    desk = desk_of(tmp_path, Never)
    text = text_of(desk, Address(("sweep", "arch")))
    assert " base finished no law yet" in text
    assert " gelu finished no law yet" in text
    assert "Choose which of them are compared" in text
    assert "Frontier" not in text
    assert words(shown(desk, Address(("sweep", "arch")))[1])[0] == "Variants"
    assert "/sweep/arch.base/frontier" in text_of(desk, Address(("sweep", "arch", "frontier")))
    one = text_of(desk, Address(("sweep", "arch.gelu")))
    assert "8 of 8" not in one
    assert "IsoFLOP valleys" in one
    assert "All variants of arch" in one


def test_a_sweep_of_mixtures_shows_its_best_shares(tmp_path, monkeypatch):
    home, whole = Home(tmp_path), mixture_sweeps.planned()
    write_plan(whole, home)
    losses = mixture_sweeps.trained(whole, home)
    corpus = SimpleNamespace(source_tokens=mixture_sweeps.TOKENS)
    monkeypatch.setattr("flows.results.mixtures.find_corpus", lambda *_: corpus)
    monkeypatch.setattr("flows.dashboard.answers.observations_frame", lambda *_: losses)
    desk = desk_of(tmp_path)
    assert "mine planned a law of shares, on its page" in text_of(desk, Address())
    screen = screen_at(desk, Address(("sweep", "mine")))
    text = " ".join(words(screen.body()))
    assert text.index("with the shares below") < text.index("The best shares")
    assert "Frontier" not in text_of(desk, Address(("sweep", "mine")))
    assert screen.csv("effects").startswith("source,loss,factor")
    runs = Address(("sweep", "mine", "runs"), {"sort": "-share_code"})
    assert words(shown(desk, runs)[1])[0] == "Best shares"
    assert "+ mine" not in text_of(desk, Address(("compare",)))
    assert "share of code ▼" in text_of(desk, runs)
    rows = pl.read_csv(StringIO(screen_at(desk, runs).csv("runs")))
    assert rows["share_code"].is_sorted(descending=True)


def test_a_damaged_law_leaves_the_home_to_be_seen(tmp_path):
    simulated_sweep(tmp_path, "made", finished=0)
    for damaged in (b'{"a":', b"\xff\xfe"):
        (tmp_path / "sweeps" / "made" / "law.json").write_bytes(damaged)
        assert "made planned no law yet" in text_of(desk_of(tmp_path), Address())


def test_a_view_that_fails_says_so_and_the_others_go_on(root, monkeypatch):
    desk = desk_of(root, Never)
    monkeypatch.setattr(Library, "curves", lambda *_: 1 / 0)
    assert "This view failed (ZeroDivisionError" in text_of(desk, Address(("sweep", "made")))
    assert "31 of 31 observations" in text_of(desk, Address(("sweep", "made", "runs")))


def test_a_dropped_table_is_fitted_and_has_an_address(desk, tmp_path):
    N, D = isoflops(budgets=3)
    text = table(N, D, noise=0.002).write_csv()
    contents = f"data:text/csv;base64,{b64encode(text.encode()).decode()}"
    there, refused, _ = dropped(desk, contents, "theirs.csv")
    assert not refused
    address = Address.of(there, "")
    shown_text = text_of(desk, address)
    assert "Table theirs.csv" in shown_text
    assert "N* grows as C^" in shown_text
    assert "answer = isoflop.fit('theirs.csv')" in shown_text
    assert "Train" in text_of(desk, Address((*address.path, "frontier")))
    assert "is not here" in text_of(desk_of(tmp_path), address)


def test_a_dropped_file_that_is_no_table_says_what_is_wrong_with_it(desk):
    _, refused, role = dropped(desk, f"data:;base64,{b64encode(b'a,b').decode()}", "x.csv")
    assert "no rows" in refused or "no column" in refused
    assert role == "warn"


def test_a_run_has_a_page_with_its_losses_and_its_curve(desk, root):
    run = simulated_sweep(root, "made").runs[0]
    text = text_of(desk, Address(("run", run.id)))
    assert f"Run {run.name}" in text
    assert "isoflop generate" in text
    assert "no run 'none'" in text_of(desk, Address(("run", "none")))


def test_a_run_that_a_worker_trained_leads_to_its_flow_run(root, monkeypatch):
    planned = simulated_sweep(root, "made").runs[0]
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "abc")
    with recording_attempt(RunDir(root / "runs" / planned.id), Home(root)):
        pass
    [links] = shown(desk_of(root, Never), Address(("run", planned.id)))[1]
    assert links.children[-1].href == "http://127.0.0.1:4200/runs/flow-run/abc"


def test_runs_are_filtered_and_sorted_by_their_address(desk):
    address = Address(("sweep", "made", "runs"), {"q": "d64", "sort": "-loss"})
    rows = pl.read_csv(StringIO(screen_at(desk, address).csv("runs")))
    assert set(rows["name"]) == {"d64"}
    assert rows["val_loss"].is_sorted(descending=True)
    everything = screen_at(desk, Address(("sweep", "made", "runs"))).csv("runs")
    assert f"{rows.height} of {everything.count(chr(10)) - 1} observations" in text_of(
        desk, address
    )


def test_a_run_that_mlflow_has_leads_there(root):
    planned = simulated_sweep(root, "made")
    run = RunDir(root / "runs" / planned.runs[0].id)
    with sqlite3.connect(root / "mlflow.db") as database:
        database.execute("CREATE TABLE experiments (experiment_id, name, lifecycle_stage)")
        database.execute("INSERT INTO experiments VALUES (7, 'made', 'active')")
    database.close()
    note = run.path / "mirror-made.json"
    note.write_text(json.dumps({"run": "0f"}))
    body = shown(desk_of(root, Never), Address(("sweep", "made", "runs"), {"sort": "run"}))[2]
    hrefs = [each.href for part in body for each in part._traverse() if hasattr(each, "href")]
    there = "http://127.0.0.1:5000/#/experiments/7/runs/0f?workflowType=machine_learning"
    assert hrefs.count(there) == len(planned.runs[0].cells)
    assert "–" in words(body)
    for path in (note, root / "mlflow.db"):
        path.unlink()
    body = shown(desk_of(root, Never), Address(("sweep", "made", "runs")))[2]
    assert "MLflow" not in words(body)


def test_a_control_changes_the_body_and_the_address_and_an_unchanged_one_nothing(desk):
    address = Address(("sweep", "made", "runs"), {"sort": "loss"})
    body, *_, search, _ = changed(desk, address, {"q": "d64"}, NOTHING)
    assert Address.of("/sweep/made/runs", search).query == {"sort": "loss", "q": "d64"}
    assert "d96" not in words(body)
    with pytest.raises(PreventUpdate):
        changed(desk, address, {"q": ""}, NOTHING)
    [gone], *_ = changed(desk, Address(("sweep", "gone", "runs")), {"q": "d64"}, NOTHING)
    assert "no sweep 'gone'" in " ".join(words(gone))


def test_a_new_step_is_seen_at_the_next_tick_and_nothing_else_is_sent(tmp_path):
    planned = simulated_sweep(tmp_path, "live", finished=3)
    unfinished = RunDir(tmp_path / "runs" / planned.runs[2].id)
    unfinished.result_path.unlink()
    steps = [line for line in unfinished.curve_path.read_text().splitlines() if '"step"' in line]
    *earlier, last = [line for line in steps if '"kind": "step"' in line]
    unfinished.curve_path.write_text("\n".join(earlier) + "\n")
    desk = desk_of(tmp_path, Never)
    address = Address(("sweep", "live"))
    stamp = shown(desk, address)[4]
    with pytest.raises(PreventUpdate):
        ticked(desk, address, stamp, NOTHING)
    with unfinished.curve_path.open("a") as file:
        file.write(json.dumps(json.loads(last) | {"loss": 1.2345}) + "\n")
    body, *_, now = ticked(desk, address, stamp, NOTHING)
    assert now != stamp
    assert "1.2345" in screen_at(desk, address).csv("loss-curves")
    assert body


def test_the_curves_of_a_run_that_ends_take_the_place_of_those_so_far(tmp_path):
    planned = simulated_sweep(tmp_path, "live", finished=3)
    run = RunDir(tmp_path / "runs" / planned.runs[2].id)
    whole = desk_of(tmp_path, Never).library.curves(planned.runs)
    result = run.result_path.read_text()
    run.result_path.unlink()
    library = desk_of(tmp_path, Never).library
    assert library.curves(planned.runs).height == whole.height
    run.result_path.write_text(result)
    for _ in range(2):
        assert library.curves(planned.runs).sort("run_id", "tokens").equals(whole)


def test_visiting_every_view_writes_nothing(root):
    def files():
        return {path: path.stat().st_mtime_ns for path in root.rglob("*")}

    before = files()
    client = make_app(desk_of(root, Never)).server.test_client()
    for path in ("/", "/sweep/made", "/sweep/made/runs", "/forecasts", "/nowhere"):
        assert client.get(path, headers={"Host": "localhost"}).status_code == 200
        shown(desk_of(root, Never), Address.of(path, ""))
    assert files() == before


def test_data_are_served_to_this_machine_alone(desk):
    client = make_app(desk).server.test_client()
    there = "/data/isoflop/sweep/made"
    answer = client.get(there, headers={"Host": "127.0.0.1:8050"})
    assert answer.mimetype == "text/csv"
    assert answer.text.startswith("kind,flops_budget")
    assert client.get(there, headers={"Host": "evil.example"}).status_code == 403
    missing = client.get("/data/none/sweep/made", headers={"Host": "localhost"})
    assert missing.status_code == 404


def test_an_address_that_leads_nowhere_says_what_is_missing(desk):
    assert "no sweep 'gone'" in text_of(desk, Address(("sweep", "gone")))


def test_what_came_out_of_a_run_stays_text(tmp_path):
    planned = simulated_sweep(tmp_path, "marked", finished=1)
    run = RunDir(tmp_path / "runs" / planned.runs[0].id)
    result = run.result()
    reason = "<img src=x onerror=alert(1)>"
    failed = result.model_copy(update={"status": "failed", "reason": reason, "observations": ()})
    run.result_path.write_text(failed.model_dump_json())
    assert f"failed: {reason}" in words(
        shown(desk_of(tmp_path), Address(("sweep", "marked", "runs")))[2]
    )


@pytest.mark.parametrize(
    "address",
    [
        Address(),
        Address(("sweep", "a b/c"), {"q": "d64 & more", "n": "n_params"}),
    ],
)
def test_an_address_comes_back_from_a_browser(address):
    pathname, _, search = str(address).partition("?")
    assert Address.of(pathname, f"?{search}") == address
