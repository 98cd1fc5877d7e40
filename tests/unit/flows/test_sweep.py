"""A sweep trains what is missing, mirrors it, reports, and knows when to stop."""

import errno
import json
import math
import os
import shutil
import time
from dataclasses import asdict, replace
from functools import partial

import pytest
from prefect.exceptions import ParameterTypeError

from analysis.page import Page
from analysis.sweep.answer import find
from flows.cost.ledger import capped
from flows.dispatch.contract import SweepFailedError, always
from flows.dispatch.underway import controllers
from flows.files import write_whole
from flows.forecasts import by_sweep
from flows.forecasts.by_sweep import Foreteller
from flows.forecasts.registered import read_forecasts, read_scores
from flows.plans.plan import make_plan
from flows.plans.stored import read_plans
from flows.results import report as reports
from flows.runs.curve import CurveWriter
from flows.runs.directory import Observation, RunDir, RunResult
from flows.runs.state import not_finished
from flows.settings import Home
from flows.sweep import run_sweep, sweep
from flows.training.stacks import longest_first
from flows.watch.watcher import Watcher
from llama_core.corpus.documents import CorpusError
from sweeps.load import load_spec
from tests.conftest import ROOT
from tests.fakes import FakeTracker, evaluation


class FakeDispatcher:
    """Gives every run a chosen status, and losses of a known law."""

    def __init__(self, home, status="finished"):
        self.home, self.status, self.trained = home, status, []

    def loss(self, planned, tokens):
        return 2 + 500 / planned.run.model.d_model + 3e4 / tokens**0.8

    def train_all(self, runs, *, on_finished, on_tick, admit=always):
        for planned in longest_first(runs):
            if not admit(planned):
                continue
            run = RunDir(self.home.runs / planned.id)
            run.create(planned)
            horizon = planned.run.train.schedule.horizons[-1]
            end = evaluation(horizon // planned.run.train.batch_tokens)
            run.curve_path.write_text(json.dumps({"kind": "eval", **asdict(end)}) + "\n")
            result = RunResult(
                run_id=planned.id,
                status=self.status,
                reason="" if self.status == "finished" else "a bug",
                observations=tuple(
                    Observation(
                        tokens=cell.tokens,
                        val_loss=self.loss(planned, cell.tokens),
                        val_bpb=1.5,
                        weights_sha256="0" * 64,
                    )
                    for cell in planned.cells
                    if self.status == "finished"
                ),
                train_s=1.0,
                device="cpu",
                finished_at=1.0,
            )
            write_whole(run.result_path, result.model_dump_json())
            self.trained.append(planned.id)
            on_finished(planned, result)
            on_tick()


class ByVariant(FakeDispatcher):
    """Losses that rise away from the recipe's rate, and a block that is worth 0.05 nats."""

    def loss(self, planned, tokens):
        away = math.log(planned.rate_factor or 1) ** 2 / 50
        return super().loss(planned, tokens) + away - 0.05 * (planned.variant == "norm")


class CurvesFirst(FakeDispatcher):
    """Records each loss on its run's curve when it is reached, and ticks in between."""

    def train_all(self, runs, *, on_finished, on_tick, admit=always):
        for planned in longest_first(runs):
            run = RunDir(self.home.runs / planned.id)
            run.create(planned)
            curve, losses = CurveWriter(run.curve_path), []
            for cell in planned.cells:
                loss = 2 + 900 / planned.n_params**0.5 + 700 / cell.tokens**0.5
                end = replace(evaluation(1), horizon=cell.tokens, val_loss=loss, at=time.time())
                curve.append(end)
                losses.append(
                    Observation(
                        tokens=cell.tokens, val_loss=loss, val_bpb=1.5, weights_sha256="0" * 64
                    )
                )
                on_tick()
            curve.close()
            result = RunResult(
                run_id=planned.id, status="finished", observations=tuple(losses), train_s=1.0,
                device="cpu", finished_at=time.time(),
            )  # fmt: skip
            write_whole(run.result_path, result.model_dump_json())
            self.trained.append(planned.id)
            on_finished(planned, result)


@pytest.fixture(autouse=True)
def bare_pages(request, monkeypatch):
    """Reports without figures and of few draws, unless a test asks for more: most of the time."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(reports, "sweep_page", lambda name, *_, **__: Page(name))
        monkeypatch.setattr(reports, "find", partial(find, bootstrap=20))


@pytest.fixture
def drawn():
    """The report as it is."""


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A folder of English prose: this project's own pages and docstrings, written many ways."""
    folder = tmp_path_factory.mktemp("prose") / "text"
    folder.mkdir()
    pages = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("*/*.py"), *ROOT.glob("tests/*/*.py")]
    for number, page in enumerate(pages):
        (folder / f"{number}.txt").write_text(page.read_text())
    return folder


@pytest.fixture
def planned(text, tmp_path):
    return plan_on(text, Home(tmp_path))


@pytest.fixture(scope="module")
def first_sweep(text, tmp_path_factory):
    """A sweep that is trained and reported, and its home, for tests to copy."""
    home = Home(tmp_path_factory.mktemp("first"))
    planned = plan_on(text, home)
    run_sweep(planned, home, FakeTracker(), FakeDispatcher(home), [Watcher()])
    return planned, home


@pytest.fixture
def swept(first_sweep, tmp_path):
    """The plan of that sweep, which the test's own home has."""
    planned, home = first_sweep
    shutil.copytree(home.root, tmp_path, symlinks=True, dirs_exist_ok=True)
    return planned


def plan_on(text, home, *overrides):
    """A plan whose corpus is prepared once for all homes."""
    home.runs.mkdir(parents=True, exist_ok=True)
    shared, corpora = text.with_name("corpora"), home.root / "corpora"
    shared.mkdir(exist_ok=True)
    if not corpora.exists():
        corpora.symlink_to(shared)
    source = f"corpus.sources=[{{kind: files, path: {text}}}]"
    spec = load_spec("smoke", [source, "eval_tokens=1280", *overrides])
    return make_plan(spec, home)[0]


def test_a_sweep_trains_mirrors_and_reports_every_run(planned, tmp_path):
    home, tracker = Home(tmp_path), FakeTracker()
    dispatcher = FakeDispatcher(home)
    at_the_end = []

    class Ending(Watcher):
        def trained(self):
            at_the_end.append((not_finished(planned, home), list(home.sweeps.rglob("report.html"))))

    report = run_sweep(planned, home, tracker, dispatcher, [Ending()])
    assert at_the_end == [([], [])]
    assert sorted(dispatcher.trained) == sorted(run.id for run in planned.runs)
    assert set(tracker.run_ids("smoke")) == {*dispatcher.trained, "report"}
    assert report.page.exists()
    assert not_finished(planned, home) == []
    assert read_plans(home) == [planned]


def test_a_sweep_registers_what_it_foretells_scores_it_and_reports_the_hits(
    text, tmp_path, monkeypatch, drawn
):
    monkeypatch.setattr(by_sweep, "_EVERY_S", 0.0)
    home = Home(tmp_path)
    grid = ("ladder.widths=[16, 24, 32, 48, 64]", "grid.budgets=[5e9, 1e10, 2e10, 4e10, 8e10]")
    sweep = plan_on(text, home, *grid)
    watchers = [Foreteller(home)]
    report = run_sweep(sweep, home, FakeTracker(), CurvesFirst(home), watchers)
    largest = report.document["largest_budget"]
    before = [cell for cell in largest["cells"] if cell["said"] == "before"]
    assert len(largest["cells"]) == 5
    # The first two runs end before ten losses of three sizes are there.
    assert len(before) == 3
    assert largest["inside"] == 5
    assert largest["error_percent"] < 0.5
    assert report.verdict.splitlines()[-1].startswith("The largest budget, 8.00e+10 FLOPs, was")
    assert "The largest budget, foretold" in report.page.read_text()
    forecasts = read_forecasts(home)
    assert {f"{each.run_id}@{each.points[0].tokens:.0f}" for each in forecasts} == {
        cell["run_id"] for cell in before
    }
    scores = [score for each in forecasts for score in read_scores(each.name, home)]
    assert [score.inside for score in scores] == [True] * 3

    again = CurvesFirst(home)
    repeated = run_sweep(sweep, home, FakeTracker(), again, [Foreteller(home)])
    assert again.trained == []
    assert repeated.document["largest_budget"] == largest
    assert read_forecasts(home) == forecasts


def test_variants_are_scanned_trained_compared_and_found_again(text, tmp_path, drawn):
    home = Home(tmp_path)
    settings = ("variants={norm: {block: {norm: layer}}}", "ladder.widths=[16, 32, 48]")
    cap = "cap={kind: flops, flops: 1e11}"
    first, dispatcher = plan_on(text, home, *settings, cap), ByVariant(home)
    report = run_sweep(
        first, home, FakeTracker(), dispatcher, [Foreteller(home)],
        cap=lambda planned: capped(planned, home, []),
    )  # fmt: skip
    # The cap is one for all: it admits some scans and nothing else.
    assert 0 < len(dispatcher.trained) < 10
    assert report.verdict.startswith("No variant is trained yet")
    assert any("the cap of 1.00e+11 FLOPs leaves out" in line for line in report.unfinished)

    second, rest = plan_on(text, home, *settings), ByVariant(home)
    report = run_sweep(second, home, FakeTracker(), rest, [Foreteller(home)])
    trained = read_plans(home)[0]
    assert len(rest.trained) == len(trained.runs) - len(dispatcher.trained)
    assert plan_on(text, home, *settings).runs == trained.runs
    assert report.unfinished == ()
    assert "norm x1" in report.verdict
    assert report.document["scans"]["norm"]["factor"] == 1.0
    assert json.loads((home.sweeps / "smoke" / "scan.json").read_text())["norm"]["losses"]
    page = report.page.read_text()
    assert "How the learning rates were chosen" in page
    assert "What it did to the law" in page
    assert (home.sweeps / "smoke" / "norm" / "report.html").exists()
    assert not read_forecasts(home)


def test_a_second_sweep_trains_nothing_that_is_finished(swept, text, tmp_path):
    home = Home(tmp_path)
    wider = plan_on(text, home, "name=wider", "ladder.widths=[16, 24, 32, 48, 64]")
    dispatcher = FakeDispatcher(home)
    run_sweep(wider, home, FakeTracker(), dispatcher, [Watcher()])
    assert dispatcher.trained == [run.id for run in wider.runs if run.name == "d24"]
    assert len(dispatcher.trained) == 1


def test_the_same_name_on_another_corpus_sets_the_first_sweep_aside(swept, text, tmp_path):
    home = Home(tmp_path)
    other = plan_on(text, home, "corpus.val_fraction=0.1")
    run_sweep(other, home, FakeTracker(), FakeDispatcher(home), [Watcher()])
    names = [plan.spec.name for plan in read_plans(home)]
    assert names == ["smoke", f"smoke-{swept.data.digest[:8]}"]
    assert (home.sweeps / names[1] / "report.html").exists()
    assert read_plans(home)[0] == other


def test_a_bug_that_fails_the_first_trainings_stops_the_sweep(planned, tmp_path):
    home = Home(tmp_path)
    dispatcher = FakeDispatcher(home, status="failed")
    with pytest.raises(SweepFailedError, match=r"first 3 trainings failed.*a bug"):
        run_sweep(planned, home, FakeTracker(), dispatcher, [Watcher()])
    assert len(dispatcher.trained) == 3


def test_a_diverged_run_does_not_stop_the_sweep_and_is_reported(planned, tmp_path):
    home = Home(tmp_path)
    run_sweep(planned, home, FakeTracker(), FakeDispatcher(home, "diverged"), [Watcher()])
    assert not_finished(planned, home)[0].endswith("diverged: a bug")


def test_a_cap_skips_the_most_expensive_run_and_a_larger_cap_resumes(text, tmp_path):
    home = Home(tmp_path)
    whole = plan_on(text, home)
    costs = sorted((run.flops_spent, run.id) for run in whole.runs)
    affordable = sum(cost for cost, _ in costs[:-1])
    small = plan_on(text, home, f"cap={{kind: flops, flops: {affordable}}}")
    assert [run.id for run in small.runs] == [run.id for run in whole.runs]
    dispatcher, cap = FakeDispatcher(home), capped(small, home, [{}])
    run_sweep(small, home, FakeTracker(), dispatcher, [Watcher()], cap=lambda _: cap)
    assert set(dispatcher.trained) == {run for _, run in costs[:-1]}
    assert "leaves out 1 of 4 runs" in cap.refusal()
    assert "--max-flops" in cap.refusal()

    larger = plan_on(text, home, f"cap={{kind: flops, flops: {whole.flops_spent}}}")
    dispatcher, cap = FakeDispatcher(home), capped(larger, home, [{}])
    run_sweep(larger, home, FakeTracker(), dispatcher, [Watcher()], cap=lambda _: cap)
    assert dispatcher.trained == [costs[-1][1]]
    assert cap.refusal() is None


def test_a_cap_set_later_counts_what_the_sweep_spent_without_one(swept, text, tmp_path):
    home = Home(tmp_path)
    widths = "ladder.widths=[16, 24, 32, 48, 64]"
    cap = f"cap={{kind: flops, flops: {swept.flops_spent}}}"
    wider = plan_on(text, home, widths, cap)
    dispatcher, cap = FakeDispatcher(home), capped(wider, home, [{}])
    run_sweep(wider, home, FakeTracker(), dispatcher, [Watcher()], cap=lambda _: cap)
    assert dispatcher.trained == []
    assert "Spent: 0 FLOPs" not in cap.refusal()


def test_runs_that_another_sweep_paid_for_cost_a_capped_one_nothing(swept, text, tmp_path):
    home = Home(tmp_path)
    widths = "ladder.widths=[16, 24, 32, 48, 64]"
    [wide] = [run for run in plan_on(text, home, widths).runs if run.name == "d24"]
    cap = f"cap={{kind: flops, flops: {wide.flops_spent}}}"
    other = plan_on(text, home, "name=wider", widths, cap)
    dispatcher, cap = FakeDispatcher(home), capped(other, home, [{}])
    run_sweep(other, home, FakeTracker(), dispatcher, [Watcher()], cap=lambda _: cap)
    assert dispatcher.trained == [wide.id]
    assert cap.refusal() is None


@pytest.mark.parametrize(("allowed", "trained"), [(0, 1), (1, 2)])
def test_a_sweep_stops_at_the_failure_that_is_one_too_many(planned, tmp_path, allowed, trained):
    home = Home(tmp_path)
    dispatcher = FakeDispatcher(home, status="diverged")
    with pytest.raises(SweepFailedError, match=rf"{trained} trainings? did not.* {allowed} may"):
        run_sweep(planned, home, FakeTracker(), dispatcher, [Watcher()], max_failures=allowed)
    assert len(dispatcher.trained) == trained


def test_a_full_disk_ends_a_sweep_with_one_line_and_leaves_no_note(planned, tmp_path):
    class Full(FakeDispatcher):
        def train_all(self, runs, *, on_finished, on_tick, admit):
            raise OSError(errno.ENOSPC, "No space left on device")

    home = Home(tmp_path)
    with pytest.raises(SweepFailedError, match=r"disk is full.*No space left.*same command"):
        run_sweep(planned, home, FakeTracker(), Full(home), [Watcher()])
    assert controllers(home.sweeps / "smoke") == []


def test_a_sweep_under_way_notes_the_process_to_stop(planned, tmp_path):
    home, seen = Home(tmp_path), []

    class Looks(Watcher):
        def tick(self):
            seen.extend(controllers(home.sweeps / "smoke"))

    run_sweep(planned, home, FakeTracker(), FakeDispatcher(home), [Looks()])
    assert {(one.process.pid, one.alive, one.deployed) for one in seen} == {
        (os.getpid(), True, False)
    }
    assert controllers(home.sweeps / "smoke") == []


def test_a_corpus_too_short_for_the_validation_set_is_refused_before_training(text, tmp_path):
    with pytest.raises(CorpusError, match=r"--set eval_tokens=\d+, or"):
        plan_on(text, Home(tmp_path), "eval_tokens=12800000")


def test_a_corpus_smaller_than_one_batch_is_refused_before_training(text, tmp_path):
    huge = "recipe={kind: fixed, lr: 0.001, batch_tokens: 12800000}"
    grid = "grid={kind: tokens, tokens: [12800000]}"
    with pytest.raises(CorpusError, match="less than one batch of 12,800,000"):
        plan_on(text, Home(tmp_path), huge, grid)


def test_the_deployment_takes_a_design_and_its_target():
    parameters = {"spec": "demo", "design": "next", "target_flops": 1e15}
    assert sweep.validate_parameters(parameters)["design"] == "next"
    with pytest.raises(ParameterTypeError, match="next"):
        sweep.validate_parameters(parameters | {"design": "random"})


def test_a_sweep_with_a_design_says_what_it_chose_and_why_it_stopped(text, tmp_path, drawn):
    home = Home(tmp_path)
    whole = plan_on(text, home, "design={kind: next, target_flops: 1e15}")
    dispatcher = FakeDispatcher(home)
    report = run_sweep(whole, home, FakeTracker(), dispatcher, [Watcher()])
    # The smallest budgets with ten losses are the whole grid.
    assert sorted(dispatcher.trained) == sorted(run.id for run in whole.runs)
    assert "Designed in 1 round: 10 of the grid's 10 cells have a loss" in report.verdict
    assert "Stopped: every cell of the grid is trained." in report.verdict
    assert "How the runs were chosen" in report.page.read_text()
    assert report.document["design"]["rounds"][0]["target_flops"] == 1e15
    assert report.unfinished == ()
    again = FakeDispatcher(home)
    repeated = run_sweep(whole, home, FakeTracker(), again, [Watcher()])
    assert (again.trained, repeated.verdict) == ([], report.verdict)
