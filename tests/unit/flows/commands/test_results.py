"""What `show`, `runs` and `compare` print of a home, and what they refuse."""

import json
from types import SimpleNamespace

import pytest

from analysis.words import short
from flows.commands import results as module
from flows.commands.compare import compare
from flows.commands.results import export, print_verdict, runs, show
from flows.files import write_whole
from flows.plans.plan import sweep_folder
from flows.runs.directory import RunDir
from flows.runs.provenance import Provenance
from flows.settings import Settings, open_home
from sweeps.load import load_spec
from sweeps.plan import Plan
from sweeps.spec import DataRef
from tests.fakes import finished_run, planned_run

DONE, WAITING = planned_run(width=32, sweep="mine"), planned_run(width=48, sweep="mine")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path))
    home = open_home(Settings(home=tmp_path))
    spec = load_spec("smoke", ["name=mine"])
    plan = Plan(spec=spec, data=DataRef(digest="x"), runs=(DONE, WAITING), warnings=())
    write_whole(sweep_folder(plan, home) / "plan.json", plan.model_dump_json())
    finished_run(tmp_path, DONE)
    return home


def words(text):
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_a_run_is_shown_with_losses_attempts_and_provenance(home, capsys):
    run = RunDir(home.runs / DONE.id)
    environment = {"host": "h", "processor": "a CPU", "git_commit": "c" * 40,
                   "git_dirty_sha256": "d" * 64}  # fmt: skip
    made = Provenance(
        **environment, packages={"torch": "2.1", "polars": "1.0"}, lock_sha256="e" * 64,
        python="3.11", data_sha256="f" * 64,
    )  # fmt: skip
    run.provenance_path.write_text(made.model_dump_json())
    lines = [
        {"kind": "start", "number": 1, "at": 100.0, "steps": 0, "steps_before": 0,
         "environment": environment, "packages": None},
        {"kind": "end", "number": 1, "at": 190.0, "how": "finished", "steps": 1046},
    ]  # fmt: skip
    run.attempts_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    show(DONE.id[:6])
    printed = words(capsys.readouterr().out)
    N, total = DONE.n_params, DONE.n_params + 512 * 32
    assert printed[:6] == [
        f"run {DONE.id} mine/d32",
        "state finished",
        f"N {N:,} ({total:,} with the input embedding)",
        "steps 46 of 46, 1,024 tokens each",
        f"C {DONE.flops_spent:.2e} counted FLOPs; spent {1046 * DONE.flops_per_step:.2e} in 90 s",
        "peak lr 8.00e-03 (test), seed 0",
    ]
    losses = [line for line in printed if line.startswith(("20,480", "40,960"))]
    assert losses == [
        f"{cell.tokens:,} {cell.tokens / N:.3g} {cell.train_flops:.3g} {loss} 2.0000"
        for cell, loss in zip(DONE.cells, ("3.0500", "3.0250"), strict=True)
    ]
    [attempt] = [line for line in printed if line.endswith("a CPU cccccccccccc+")]
    assert " 90 0–1,046 finished h " in attempt
    assert f"commit {'c' * 40}, with uncommitted changes {'d' * 12}" in printed
    assert f"packages 2, lock {'e' * 12}; Python 3.11, torch 2.1" in printed
    assert f"data {'f' * 12}, tokenizer unknown" in printed
    assert "machine h, a CPU" in printed
    assert printed[-4].startswith("next isoflop generate")
    show("mine/d32", json="-")
    assert json.loads(capsys.readouterr().out)["id"] == DONE.id


def test_a_run_without_provenance_or_with_a_reason_says_so(home, capsys):
    run = RunDir(home.runs / DONE.id)
    failure = run.result().model_copy(update={"status": "failed", "reason": "a bug"})
    write_whole(run.result_path, failure.model_dump_json())
    show("d32")
    printed = words(capsys.readouterr().out)
    assert printed[1] == "state failed: a bug"
    assert "provenance was not recorded" in printed


def test_all_observations_are_listed_with_a_dash_for_no_loss(home, capsys):
    runs()
    printed = words(capsys.readouterr().out)
    assert printed[0] == "4 observations; loss in nats per token"
    C, lr = DONE.cells[0].train_flops, DONE.run.train.optimizer.lr
    assert printed[2] == (
        f"mine d32 {DONE.id} {short(DONE.n_params)} 20.5k {C:.2e} {lr:.2e} 3.0000 finished"
    )
    assert printed[-1].endswith(" – planned")
    runs("mine", json="-")
    assert len(json.loads(capsys.readouterr().out)) == 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare("mine", "mine"), "'mine' was named twice: name two sweeps."),
        (
            lambda: compare("mine", __file__, bootstrap=0),
            "--bootstrap 0 gives no intervals: take 1000.",
        ),
        (lambda: compare("mine", "x"), "no sweep 'x' in "),
        (lambda: runs("x"), "Sweeps there: mine."),
        (lambda: show("x"), "no run 'x' in "),
    ],
)
def test_what_cannot_be_shown_is_refused_with_status_two(home, capsys, call, message):
    with pytest.raises(SystemExit) as refusal:
        call()
    assert refusal.value.code == 2
    assert message in capsys.readouterr().err


def test_a_sweep_is_exported_to_a_folder_and_its_files_are_named(home, capsys, tmp_path):
    export("mine", format="csv", to=tmp_path / "out")
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "out" / "observations.csv"),
        str(tmp_path / "out" / "curves.csv"),
    ]
    export("mine", format="json", to=tmp_path / "out", json="-")
    document = json.loads(capsys.readouterr().out)
    assert document["sweep"] == "mine"
    assert [name[-5:] for name in document["files"]] == [".json"] * 2


@pytest.mark.parametrize(("answers", "flow_run"), [(True, "abc"), (False, None)])
def test_a_verdict_ends_with_the_pages_that_show_it(
    home, capsys, monkeypatch, tmp_path, answers, flow_run
):
    monkeypatch.setattr("flows.mirror.publish.Mirror.chart_path", lambda mirror, sweep: "/#/x")
    monkeypatch.setattr("flows.stack.servers.server_answers", lambda settings: answers)
    report = SimpleNamespace(verdict="No law: too few", page=tmp_path / "report.html")
    settings = Settings(home=tmp_path)
    plan = SimpleNamespace(spec=SimpleNamespace(name="mine"))
    print_verdict(plan, report, settings, home, flow_run)
    printed = words(capsys.readouterr().out)
    assert printed[0] == "No law: too few"
    assert printed[1] == f"report {(tmp_path / 'report.html').as_uri()}"
    assert printed[2] == f"MLflow {settings.mlflow_address}/#/x"
    page = "/runs/flow-run/abc" if flow_run else "/runs"
    assert printed[3] == f"Prefect {settings.prefect_address}{page}"
    assert printed[4:] == ([] if answers else ["(both pages are there after: isoflop up)"])
    assert module._short(None) == "unknown"


def test_of_many_runs_the_newest_are_listed_and_the_others_counted(home, capsys, monkeypatch):
    monkeypatch.setattr(module, "_SHOWN", 1)
    runs()
    title, _, *rows, counts, others = words(capsys.readouterr().out)
    assert title == "2 observations of the 1 newest runs; loss in nats per token"
    assert [row.split()[:2] for row in rows] == [["mine", "d32"]] * 2
    assert counts == "of 2 runs: 1 finished, 1 planned"
    assert "--all" in others
    runs("mine", all=True)
    title, _, *rows = words(capsys.readouterr().out)
    assert (title.partition(";")[0], len(rows)) == ("4 observations", 4)
    runs(json="-")
    assert len(json.loads(capsys.readouterr().out)) == 4


def test_runs_are_listed_by_their_state(home, capsys):
    runs(state=("planned", "failed"))
    title, _, *rows = words(capsys.readouterr().out)
    assert title == "2 observations; loss in nats per token"
    assert {row.split()[2] for row in rows} == {WAITING.id}


def test_runs_are_sorted_and_filtered(home, capsys):
    runs("mine", sort="D", where=["n_params > 0"])
    _, _, *rows = words(capsys.readouterr().out)
    assert [row.split()[4] for row in rows] == ["20.5k", "20.5k", "41k", "41k"]
    runs("mine", sort="loss", json="-")
    losses = [row["val_loss"] for row in json.loads(capsys.readouterr().out)]
    assert losses[-2:] == [None, None]
    runs("mine", where=["val_loss IS NOT NULL"], json="-")
    assert len(json.loads(capsys.readouterr().out)) == 2
    with pytest.raises(SystemExit):
        runs("mine", where=["nothing > 1"])
    assert "--where 'nothing > 1' does not work" in capsys.readouterr().err
