"""A sweep's folder keeps what was paid for, and a plan says how to fit its corpus."""

import os
from types import SimpleNamespace

import numpy as np
import pytest

from analysis.tuning.study_law import StudyLaw
from flows.files import write_whole
from flows.plans import fitted_law as law_module
from flows.plans import plan as module
from flows.plans.find import find_run
from flows.plans.fitted_law import fitted_laws, with_fitted_law
from flows.plans.plan import make_plan, plan_ahead, sweep_folder
from flows.plans.stored import read_plans
from flows.runs.directory import RunDir
from flows.settings import Settings, open_home
from llama_core.corpus.documents import CorpusError
from sweeps.load import load_spec
from sweeps.plan import Plan
from sweeps.spec import DataRef
from tests.fakes import planned_run


@pytest.fixture
def home(tmp_path):
    return open_home(Settings(home=tmp_path))


def plan_of(name, *runs, digest="a" * 64):
    spec = load_spec("smoke", [f"name={name}"])
    return Plan(spec=spec, data=DataRef(digest=digest), runs=runs, warnings=())


def keep(plan, home):
    write_whole(sweep_folder(plan, home) / "plan.json", plan.model_dump_json())


def test_a_sweep_of_the_same_name_on_another_corpus_is_renamed(home, caplog):
    first, second = (plan_of("s", planned_run(), digest=digest * 64) for digest in "ab")
    keep(first, home)
    (home.sweeps / "s" / "report.html").write_text("paid for")
    # The same corpus keeps the folder.
    assert sweep_folder(first, home) == home.sweeps / "s"
    assert not (home.sweeps / "s-aaaaaaaa").exists()
    assert sweep_folder(second, home) == home.sweeps / "s"
    assert list((home.sweeps / "s").iterdir()) == []
    moved = home.sweeps / "s-aaaaaaaa"
    assert (moved / "report.html").read_text() == "paid for"
    assert "it is now called s-aaaaaaaa" in caplog.text
    [renamed] = read_plans(home)
    assert renamed.spec.name == "s-aaaaaaaa"
    assert [run.sweep for run in renamed.runs] == ["s-aaaaaaaa"]
    assert renamed.data == first.data


def test_a_sweep_that_goes_from_one_corpus_to_another_and_back_loses_no_folder(home):
    for number, digest in enumerate("abab"):
        plan = plan_of("s", digest=digest * 64)
        (sweep_folder(plan, home) / "report.html").write_text(f"{number}")
        keep(plan, home)
    reports = {path.parent.name: path.read_text() for path in home.sweeps.glob("*/report.html")}
    assert reports == {"s": "3", "s-aaaaaaaa": "0", "s-bbbbbbbb": "1", "s-aaaaaaaa-2": "2"}


def test_a_sweep_with_the_longest_name_is_still_read_once_it_is_renamed(home):
    name = "s" * 64
    keep(plan_of(name, digest="a" * 64), home)
    keep(plan_of(name, digest="b" * 64), home)
    assert {plan.data.digest[0] for plan in read_plans(home)} == {"a", "b"}


def test_plans_are_read_by_name_and_damaged_ones_skipped(home, caplog):
    for name in ("b", "a", "c"):
        keep(plan_of(name), home)
    (home.sweeps / "b" / "plan.json").write_text("{}")
    (home.sweeps / "empty").mkdir()
    (home.sweeps / "file").touch()
    assert [plan.spec.name for plan in read_plans(home)] == ["a", "c"]
    assert caplog.text.count("is damaged") == 1


def corpus_of(monkeypatch, *, val_tokens, error="too short"):
    """A corpus of one source, which refuses to be opened unless `error` is empty."""
    opened = []
    batches = SimpleNamespace(
        sources=[SimpleNamespace(name="text")], validation_sources=lambda: np.zeros(8, np.int64)
    )

    def refuse(train, mixture):
        assert mixture is None
        opened.append(train.batch_tokens)
        if error:
            raise CorpusError(error)
        return batches

    corpus = SimpleNamespace(
        digest="c" * 64, val_tokens=val_tokens, open=refuse, source_tokens={"text": 10**6}
    )
    monkeypatch.setattr(module, "prepare", lambda *_: corpus)
    return opened


@pytest.mark.parametrize(
    ("val_tokens", "remedy"),
    [
        # Nine tenths of 10,000 tokens are 70 whole sequences of 128.
        (10_000, " For this sweep: --set eval_tokens=8960, or --set corpus.val_fraction=0.2."),
        # 18,205 tokens are the first of which nine tenths hold 16,384.
        (18_200, " For this sweep: --set eval_tokens=16256, or --set corpus.val_fraction=0.2."),
        (18_205, ""),
        (100, ""),
    ],
)
def test_a_validation_split_that_is_too_small_comes_with_what_fits(
    home, monkeypatch, val_tokens, remedy
):
    corpus_of(monkeypatch, val_tokens=val_tokens)
    with pytest.raises(CorpusError) as refusal:
        make_plan(load_spec("smoke"), home)
    assert str(refusal.value) == f"too short{remedy}"


def test_every_batch_of_a_plan_is_opened_once_on_its_corpus(home, monkeypatch):
    opened = corpus_of(monkeypatch, val_tokens=10**6, error="")
    planned, corpus = make_plan(load_spec("smoke"), home)
    assert opened == [1024]
    assert planned.data.digest == corpus.digest == planned.runs[0].run.data.digest
    # The longest run of the preset reads less than a million tokens.
    assert not any("times the corpus" in warning for warning in planned.warnings)


def test_a_design_that_carries_no_law_is_told_in_the_plan_but_not_of_cells_added_to_another(
    home, monkeypatch
):
    corpus_of(monkeypatch, val_tokens=10**6, error="")
    widths, tokens = "ladder.widths=[16, 32]", "[16384, 65536, 262144]"
    for grid, told in (
        (f"grid={{kind: tokens, tokens: {tokens}}}", True),
        (f"grid={{kind: cells, tokens: {{16: {tokens}, 32: {tokens}}}}}", False),
    ):
        planned, _ = make_plan(load_spec("smoke", [widths, grid]), home)
        warnings = [each for each in planned.warnings if "cannot carry a law" in each]
        assert bool(warnings) is told
        assert all("only 2 model sizes" in each for each in warnings)
    assert not any(
        "cannot carry a law" in each for each in make_plan(load_spec("smoke"), home)[0].warnings
    )


def test_a_spec_that_cannot_be_planned_is_refused_before_its_corpus_is_prepared(home, monkeypatch):
    monkeypatch.setattr(module, "prepare", lambda *_: pytest.fail("prepared"))
    with pytest.raises(ValueError, match="not a multiple of 8"):
        make_plan(load_spec("smoke", ["ladder.widths=[20]"]), home)


def test_a_plan_ahead_warns_of_repetition_where_the_publisher_says_how_much_text_there_is(
    home, monkeypatch
):
    monkeypatch.setattr(module, "prepare", lambda *_: pytest.fail("prepared"))
    source = "{kind: hub, dataset: HuggingFaceFW/fineweb-edu, subset: sample-10BT, name: web}"
    for tokens, warned in ((9_000_000_000, False), (19_000_000_000, True)):
        grid = f"grid={{kind: tokens, tokens: [{tokens}]}}"
        overrides = [f"corpus.sources=[{source}]", "corpus.vocab_size=32000", grid]
        planned, corpus = plan_ahead(load_spec("smoke", overrides), home)
        assert corpus is None
        assert any("2.00 times the corpus" in each for each in planned.warnings) is warned


def test_many_runs_of_one_beginning_are_listed_by_six(home):
    for number in range(8):
        (home.runs / f"ab{number}").mkdir()
    with pytest.raises(ValueError, match="'ab' could be ab0, ab1, ab2, ab3, ab4, ab5 and 2 more: "):
        find_run("ab", home)
    for number in (6, 7):
        (home.runs / f"ab{number}").rmdir()
    with pytest.raises(ValueError, match=r"'ab' could be ab0, .*, ab5: give the id"):
        find_run("ab", home)


def test_an_id_comes_before_a_name_and_a_sweep_before_neither(home):
    first, second = planned_run(width=16), planned_run(width=32)
    keep(plan_of("one", first), home)
    keep(plan_of("two", second.model_copy(update={"name": first.id[:5]})), home)
    for planned in (first, second):
        RunDir(home.runs / planned.id).create(planned)
    assert find_run(first.id[:5], home).id == first.id
    assert find_run(f"two/{first.id[:5]}", home).id == second.id


KNOWN = {"intervals": {}, "points": 4, "reasons": []}


def law_of(*, coef=2.0, batch_coef=0.5):
    lr = {"coef": coef, "exponent_N": -0.5, "exponent_D": 0.25, **KNOWN}
    batch = {"coef": batch_coef, "exponent_D": 0.75, **KNOWN}
    return StudyLaw.model_validate(
        {
            "study": "s", "data": "d", "lr": lr, "batch": batch,
            "recipe": {"lr": lr | {"reasons": ["too few sizes"]}, "batch": batch, "published": {}},
            "level": 0.9, "optima": [], "support": {"N": [1.0, 2.0], "D": [3.0, 4.0]},
            "refusals": [], "advice": [],
        }
    )  # fmt: skip


def study(home, name, law, at):
    path = home.tunes / name / "law.json"
    path.parent.mkdir(parents=True)
    path.write_text(law.model_dump_json())
    os.utime(path, (at, at))


def test_laws_of_studies_are_the_newest_first(home):
    for name, at in (("old", 100.0), ("new", 300.0), ("middle", 200.0)):
        study(home, name, law_of(), at)
    assert list(fitted_laws(home)) == ["new", "middle", "old"]


def test_a_spec_takes_every_number_of_the_laws_recipe(home):
    study(home, "s", law_of(), 1.0)
    spec = load_spec("demo", ["recipe={kind: law, study: s}"])
    fitted = with_fitted_law(spec, home).recipe.fitted
    assert (fitted.lr_coef, fitted.lr_exponent_N, fitted.lr_exponent_D) == (2.0, -0.5, 0.25)
    assert (fitted.batch_coef, fitted.batch_exponent_D) == (0.5, 0.75)
    assert (fitted.N, fitted.D) == ((1.0, 2.0), (3.0, 4.0))


def test_a_study_without_a_law_of_the_rate_is_refused_with_its_reasons(home, monkeypatch):
    study(home, "s", law_of(coef=None), 1.0)
    spec = load_spec("demo", ["recipe={kind: law, study: s}"])
    with pytest.raises(ValueError, match="no law of the learning rate: too few sizes"):
        with_fitted_law(spec, home)
    # Numbers that the spec has already are not looked up.
    monkeypatch.setattr(law_module, "StudyLaw", None)
    other = load_spec("demo", ["recipe={kind: law, study: x, fitted: {lr_coef: 1, N: [1, 2], "
                               "D: [1, 2]}}"])  # fmt: skip
    assert with_fitted_law(other, home) == other
    assert with_fitted_law(load_spec("demo"), home) == load_spec("demo")
