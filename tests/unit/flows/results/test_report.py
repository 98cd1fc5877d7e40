"""A report's files, facts and sentences are those of the sweep as it is now."""

from types import SimpleNamespace

import pytest

from flows.plans.stored import read_plan, write_plan
from flows.results import report as module
from flows.results.report import finish_sweep, write_report
from flows.runs.directory import RunDir
from flows.settings import Home
from sweeps.load import load_spec
from sweeps.plan import plan
from sweeps.spec import DataRef

CORPUS = SimpleNamespace(
    digest="c0ffee" * 10, train_tokens=1_234_567, val_tokens=98_765, vocab_size=512,
    val_bytes_per_token=2.5,
    came_as_tokens=False,
)  # fmt: skip


def planned(*overrides):
    return plan(load_spec("smoke", ("name=mine", *overrides)), DataRef(digest="d"))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_corpus", lambda root, digest: CORPUS)
    home = Home(tmp_path)
    for folder in (home.runs, home.sweeps, home.tunes):
        folder.mkdir()
    return home


class Mirror:
    """Notes what is published, in order."""

    def __init__(self):
        self.done = []

    def publish_all(self, sweep, runs):
        self.done += [("publish", planned.name) for _, planned in runs]

    def catch_up(self):
        self.done.append(("catch up",))

    def log_observations(self, planned):
        pass

    def log_report(self, sweep, page, numbers, verdict):
        self.done.append(("report", sweep, page.name, page.exists(), numbers, verdict))


def test_a_finished_sweep_has_its_files_and_mirrors_the_runs_that_have_one(home):
    sweep, mirror = planned(), Mirror()
    RunDir(home.runs / sweep.runs[1].id).create(sweep.runs[1])
    report = finish_sweep(sweep, home, mirror)
    folder = home.sweeps / "mine"
    assert {path.name for path in folder.iterdir()} == {
        "observations.parquet", "curves.parquet", "report.html",
    }  # fmt: skip
    assert report.page == folder / "report.html"
    assert report.verdict.startswith("No law: ")
    assert report.no_law
    assert report.numbers == {}
    assert mirror.done == [
        ("publish", sweep.runs[1].name),
        ("catch up",),
        ("report", "mine", "report.html", True, {}, report.verdict),
    ]


def test_a_report_leaves_the_plan_to_the_sweep_which_may_be_a_round_further(home):
    first = planned("seeds=[1]")
    second = planned("seeds=[1,2]")
    write_plan(first, home)
    of_the_report = read_plan(home, "mine")
    write_plan(second, home)
    finish_sweep(of_the_report, home, Mirror())
    assert read_plan(home, "mine") == second


def test_a_report_without_a_law_removes_that_of_an_earlier_table(home, monkeypatch):
    sweep, folder = planned(), home.sweeps / "mine"
    folder.mkdir()
    (folder / "law.json").write_text("{}")
    write_report(sweep, home, folder)
    assert not (folder / "law.json").exists()
    law = SimpleNamespace(
        model_copy=lambda update: SimpleNamespace(model_dump_json=lambda indent: str(update))
    )
    findings = SimpleNamespace(
        group=SimpleNamespace(fit=SimpleNamespace(law=law), warnings=("read first",)),
        largest=None,
    )
    sources = []
    monkeypatch.setattr(
        module, "find", lambda table, source, registered: sources.append(source) or findings
    )
    monkeypatch.setattr(
        module, "sweep_page", lambda *_, **__: SimpleNamespace(html=lambda: "<html>")
    )
    monkeypatch.setattr(module, "add_tuned", lambda *_: None)
    monkeypatch.setattr(module, "verdict", lambda findings: "a law")
    monkeypatch.setattr(module, "numbers", lambda findings: {"E": 1.0})
    report = write_report(sweep, home, folder)
    assert (folder / "law.json").read_text() == "{'name': 'mine'}"
    assert sources == ["sweep mine"]
    assert (report.verdict, report.numbers) == ("a law", {"E": 1.0})
    assert report.document == {"warnings": ("read first",), "E": 1.0}


def test_the_facts_of_a_page_are_those_of_corpus_plan_and_recipe(home):
    sweep = planned().model_copy(update={"warnings": ("thin valleys",)})
    corpus, trainings, models, warning = module._facts(sweep, home)
    assert corpus == (
        "Corpus c0ffeec0ffee: 1,234,567 training and 98,765 validation tokens of a 512-piece "
        "SentencePiece vocabulary, 2.50 bytes per token, split by document."
    )
    assert trainings == (
        f"Planned: {len(sweep.runs)} trainings for {sweep.observations} observations, one for "
        "each size, with a cooldown branch to every budget (wsd); together "
        f"{sweep.flops_spent:.2e} counted FLOPs."
    )
    assert models == (
        "Every model has 2 layers and heads of 16; sequences of 128 tokens, 1,024 tokens a step, "
        "float32. Peak learning rate: width rule. Losses are nats per token on 16,384 held-out "
        "tokens."
    )
    assert warning == "Planned with a warning: thin valleys"
    alone = planned("ladder.widths=[32]", "grid={kind: tokens, tokens: [102400]}")
    assert module._facts(alone, home)[1].startswith("Planned: 1 training for 1 observation,")
    assert "one for each (cosine); " in module._facts(planned("schedule=cosine"), home)[1]


def test_the_facts_of_a_page_are_of_all_its_runs(home):
    ladder = (
        "ladder={shapes: [{n_layers: 1, d_model: 64}, {n_layers: 4, d_model: 64, head_dim: 32}]}"
    )
    by_size = planned(ladder, "grid={kind: tokens, tokens: [102400]}")
    assert module._facts(by_size, home)[2].startswith(
        "Every model has 1 to 4 layers and heads of 32 to 64; "
    )
    runs = list(by_size.runs)
    train = runs[-1].run.train.model_copy(update={"batch_tokens": 4_096, "dtype": "bfloat16"})
    runs[-1] = runs[-1].model_copy(update={"run": runs[-1].run.model_copy(update={"train": train})})
    other_batches = by_size.model_copy(update={"runs": tuple(runs)})
    words = "tokens, 1,024 to 4,096 tokens a step, bfloat16 or float32. "
    assert words in module._facts(other_batches, home)[2]


def test_a_cap_is_named_before_the_runs_without_a_loss(home):
    sweep = planned("ladder.widths=[16, 24, 32, 48]")
    runs = [f"{run.name} is not trained" for run in sweep.runs]
    folder = home.sweeps / "smoke"
    folder.mkdir(parents=True)
    report = write_report(sweep, home, folder)
    assert list(report.unfinished) == runs
    capped = report.refused("the cap leaves out d48")
    assert list(capped.unfinished) == ["the cap leaves out d48", *runs]
    assert not RunDir(home.runs / sweep.runs[0].id).path.exists()
