"""The presets for GPUs go through the sweep: planned and reported here, trained as a small copy."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from analysis import published
from flows import sweep as flow
from flows.commands import output
from flows.commands.planned.text import print_plan, print_runs
from flows.cost.quote import quote
from flows.files import write_whole
from flows.plans import plan as plans
from flows.plans.plan import make_plan, plan_ahead
from flows.results import report as reports
from flows.results.report import finish_sweep
from flows.runs.directory import Observation, RunDir, RunResult
from flows.settings import Home, Settings
from flows.sweep import run_sweep
from flows.training.execute import execute
from flows.watch.watcher import Watcher
from llama_core.counting import count_params
from sweeps.cap import AssumedSpeed
from sweeps.load import load_spec
from tests.conftest import ROOT
from tests.fakes import FakeTracker
from tests.unit.flows.test_sweep import FakeDispatcher

PRESETS = ("gpu-day", "gpu-week")
# The same spec with models of 10k parameters, short sequences and text of this project.
SMALL = (
    "corpus.vocab_size=512",
    "corpus.val_fraction=0.2",
    "ladder.depths=[1, 2, 3]",
    "ladder.aspect=16",
    "ladder.head_dim=16",
    "ladder.ffn_multiple_of=8",
    "grid.budgets=[1e9, 2e9]",
    "grid.tokens_per_param=[0.001, 50]",
    "seq_len=32",
    "eval_tokens=512",
    "placement.device=cpu",
    # Of many threads on busy cores each step waits for the slowest.
    "placement.threads=1",
)


class ByLaw(FakeDispatcher):
    """Gives every run the losses of a published law of Hoffmann et al.'s runs."""

    def train_all(self, runs, *, on_finished, on_tick, admit=None):
        loss = published.law("besiroglu").loss
        for planned in runs:
            run = RunDir(self.home.runs / planned.id)
            run.create(planned)
            N = count_params(planned.run.model).total
            result = RunResult(
                run_id=planned.id,
                status="finished",
                reason="",
                observations=tuple(
                    Observation(
                        tokens=cell.tokens,
                        val_loss=float(loss(N, cell.tokens)),
                        val_bpb=1.0,
                        weights_sha256="0" * 64,
                    )
                    for cell in planned.cells
                ),
                train_s=1.0,
                device="NVIDIA H100",
                finished_at=1.0,
            )
            write_whole(run.result_path, result.model_dump_json())
            on_finished(planned, result)


@pytest.mark.parametrize("name", PRESETS)
def test_a_gpu_preset_is_planned_and_printed_without_its_corpus(name, tmp_path, capsys):
    planned, corpus = plan_ahead(load_spec(name), Home(tmp_path))
    assert corpus is None
    print_plan(planned, None, Home(tmp_path), cost=None)
    printed = capsys.readouterr().out
    assert "warning" not in printed
    assert "HuggingFaceFW/fineweb-edu" in printed
    assert all(run.name in printed for run in planned.runs)


@pytest.mark.parametrize(("name", "devices"), [("gpu-day", 1), ("gpu-week", 8)])
def test_a_costed_gpu_preset_has_a_line_of_eighty_columns_for_each_run(
    name, devices, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(output, "width", lambda: 80)
    planned, _ = plan_ahead(load_spec(name), Home(tmp_path))
    speed = AssumedSpeed(gpu="h100")
    cost = quote(planned, Home(tmp_path), [{}] * devices, speed=speed, usd_per_hour=None)
    print_runs(planned, Home(tmp_path), cost)
    printed = capsys.readouterr().out.splitlines()
    assert all(any(line.startswith(run.name) for line in printed) for run in planned.runs)
    assert max(map(len, printed)) <= 80


def test_the_report_of_gpu_day_shows_a_minimum_at_every_budget(tmp_path, monkeypatch):
    batches = SimpleNamespace(validation_sources=lambda: np.zeros(1, np.int64), sources=[])
    corpus = SimpleNamespace(
        digest="c" * 64, train_tokens=10**10, val_tokens=10**8, vocab_size=32_000,
        val_bytes_per_token=4.5, came_as_tokens=False, notes=[],
        source_tokens={"fineweb-edu": 9.9e9}, open=lambda *_: batches,
    )  # fmt: skip
    monkeypatch.setattr(plans, "prepare", lambda *_: corpus)
    monkeypatch.setattr(reports, "find_corpus", lambda *_: corpus)
    reported = []

    def trained(planned, settings, home, dispatcher, watchers, *, cap, max_failures):
        assert planned.warnings == ()
        assert cap(planned) is None
        reported.append(run_sweep(planned, home, FakeTracker(), ByLaw(home), [Watcher()]))
        return reported[0]

    monkeypatch.setattr(flow, "open_settings", lambda: Settings(home=tmp_path))
    monkeypatch.setattr(flow, "rename", lambda name: None)
    monkeypatch.setattr(flow, "get_run_logger", lambda: logging.getLogger("test"))
    monkeypatch.setattr(flow, "LogWatcher", Watcher)
    monkeypatch.setattr(flow, "watched_sweep", trained)
    # As `prefect deployment run sweep/chinchilla -p spec=gpu-day` calls it.
    assert flow.sweep.fn(spec="gpu-day").is_completed()
    [report] = reported
    page = report.page.read_text()
    assert "IsoFLOP valleys" in page
    # The law that the losses follow counts the input embedding too, and N here does not.
    assert 0.5 < report.document["exponent_N_isoflop"] < 0.7
    assert report.document["warnings"] == ()


def test_a_small_copy_of_gpu_day_is_trained_on_a_cpu(tmp_path):
    home = Home(tmp_path / "home")
    home.runs.mkdir(parents=True)
    folder = tmp_path / "text"
    folder.mkdir()
    for number, page in enumerate(sorted(ROOT.glob("docs/**/*.md"))):
        (folder / f"{number}.txt").write_text(page.read_text())
    source = f"corpus.sources=[{{kind: files, path: {folder}}}]"
    spec = load_spec("gpu-day", [source, *SMALL])
    planned, _ = make_plan(spec, home)
    assert {run.run.model.n_layers for run in planned.runs} == {1, 2, 3}
    assert {run.run.train.dtype for run in planned.runs} == {"bfloat16"}
    for run in planned.runs:
        directory = RunDir(home.runs / run.id)
        directory.create(run)
        directory.place(planned.spec.placement)
        result = execute(directory, home)
        assert result.status == "finished"
        losses = [row.val_loss for row in result.observations]
        assert len(losses) == len(run.cells)
        # A uniform guess among 512 pieces costs 6.24 nats.
        assert all(1 < loss < 6.24 for loss in losses)
    report = finish_sweep(planned, home, FakeTracker())
    assert report.page.exists()
