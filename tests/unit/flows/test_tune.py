"""A study proposes the same trials after any fault, repeats none, and grows."""

import errno
import fcntl
import os
import shutil
import threading

import numpy as np
import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint

from analysis.page import Page
from analysis.tuning.page import study_page
from flows.dispatch.contract import SweepFailedError
from flows.dispatch.underway import controllers
from flows.files import write_whole
from flows.runs.directory import Observation, RunDir, RunResult
from flows.settings import Home, Settings
from flows.tune import run_tune
from flows.tuning import report as reports
from flows.tuning.plan import plan_study, prepare_tune
from flows.tuning.ranges import search_box
from flows.tuning.study import TrialOutcome, WidthStudy, propose
from llama_core.corpus.config import CorpusConfig, FileText
from sweeps.cap import FlopsCap
from sweeps.load import load_tune_spec
from sweeps.shapes import Make, shape
from sweeps.spec import DataRef
from tests.conftest import ROOT
from tests.fakes import FakeTracker

IMPORTANCES = WidthStudy.importances


class Killed(BaseException):
    """The process is gone."""


class SurfaceDispatcher:
    """Gives every run the losses of a known surface; may be killed after some trainings."""

    def __init__(self, home, *, kill_after=None, status="finished"):
        self.home, self.kill_after, self.status, self.trained = home, kill_after, status, []

    def train_all(self, runs, *, on_finished, on_tick, admit, more):
        # Trials end in another order than they were proposed in.
        waiting = [run for run in runs if admit(run)]
        while waiting:
            planned = waiting.pop()
            if self.kill_after is not None and len(self.trained) == self.kill_after:
                raise Killed
            self.trained.append(planned.id)
            run = RunDir(self.home.runs / planned.id)
            run.create(planned)
            run.curve_path.touch()
            result = self._result(planned)
            write_whole(run.result_path, result.model_dump_json())
            on_finished(planned, result)
            waiting += [run for run in more() if admit(run)]
            on_tick()

    def _result(self, planned):
        train = planned.run.train
        diverged = train.optimizer.lr > 0.055
        status = "diverged" if diverged and self.status == "finished" else self.status
        z = np.log(train.optimizer.lr / 0.012), np.log(train.batch_tokens / 800)
        # Noise that is a function of the run, as a training's is.
        luck = 0.003 * np.random.default_rng(int(planned.id[:8], 16)).standard_normal()
        return RunResult(
            run_id=planned.id,
            status=status,
            reason="" if status == "finished" else "told to",
            observations=tuple(
                Observation(
                    tokens=cell.tokens,
                    val_loss=3.5 + 0.03 * z[0] ** 2 + 0.02 * z[1] ** 2 + luck
                    + 10_000 / cell.tokens,
                    val_bpb=2.0,
                    weights_sha256="0" * 64,
                )
                for cell in planned.cells
                if status == "finished"
            ),
            train_s=1.0,
            device="cpu",
            finished_at=1.0,
        )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def bare_pages():
    """Reports without figures, which take half of a study's time; the law's test draws them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reports, "study_page", lambda name, *_: Page(name))
        patched.setattr(WidthStudy, "importances", lambda study: {})
        yield


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    for number, page in enumerate([*ROOT.glob("docs/**/*.md"), *ROOT.glob("*/*.py")]):
        (folder / f"{number}.txt").write_text(page.read_text())
    return folder


@pytest.fixture(scope="module")
def studied(text, tmp_path_factory):
    """A home with a finished study of nine trials a width, and the corpus of all homes."""
    home = Home(tmp_path_factory.mktemp("studied"))
    tune(home, text, SurfaceDispatcher(home), trials=9)
    return home


@pytest.fixture
def home(studied, tmp_path):
    (tmp_path / "corpora").symlink_to(studied.root / "corpora")
    return Home(tmp_path)


@pytest.fixture
def copied(studied, tmp_path):
    """A home of the test's own with that study."""
    shutil.copytree(studied.root, tmp_path / "copied")
    return Home(tmp_path / "copied")


def spec_of(text, **changes):
    spec = load_tune_spec("lr-batch", ["ladder.widths=[16, 24]", "eval_tokens=1280"])
    corpus = CorpusConfig(sources=(FileText(path=str(text)),))
    return spec.model_copy(update={"corpus": corpus, **changes})


def tune(home, text, dispatcher, **changes):
    home.runs.mkdir(parents=True, exist_ok=True)
    settings = Settings(optuna_uri=changes.pop("uri", None))
    tracker = changes.pop("tracker", FakeTracker())
    say = changes.pop("say", lambda line: None)
    spec = spec_of(text, **changes)
    data = DataRef(digest=prepare_tune(spec, home).digest)
    return run_tune(spec, data, settings, home, tracker, dispatcher, say)


def trials(home):
    return (home.tunes / "lr-batch" / "trials.csv").read_text()


def test_a_study_killed_twice_ends_with_the_same_trials_as_one_left_alone(home, text, tmp_path):
    alone = Home(tmp_path / "alone")
    alone.root.mkdir()
    (alone.root / "corpora").symlink_to((home.root / "corpora").resolve())
    tune(alone, text, SurfaceDispatcher(alone))
    trained = []
    for kill_after in (5, 14):
        dispatcher = SurfaceDispatcher(home, kill_after=kill_after)
        with pytest.raises(Killed):
            tune(home, text, dispatcher)
        trained += dispatcher.trained
    last = SurfaceDispatcher(home)
    tune(home, text, last)
    assert trials(home) == trials(alone)
    assert len(set(trained) & set(last.trained)) == 0


def test_a_finished_study_trains_only_additional_trials(copied, text):
    assert len(list(copied.runs.glob("*/result.json"))) == 18
    again = SurfaceDispatcher(copied)
    tune(copied, text, again, trials=9)
    assert again.trained == []
    grown = SurfaceDispatcher(copied)
    tune(copied, text, grown, trials=13)
    assert len(grown.trained) == 8


def test_a_study_that_grew_has_the_trials_of_one_that_was_large_from_the_start(
    home, text, tmp_path
):
    for count in (5, 9, 12):
        tune(home, text, SurfaceDispatcher(home), trials=count)
    large = Home(tmp_path / "large")
    large.root.mkdir()
    (large.root / "corpora").symlink_to((home.root / "corpora").resolve())
    tune(large, text, SurfaceDispatcher(large), trials=12)
    assert trials(home) == trials(large)


def test_a_database_holds_the_same_trials_as_the_journal(home, studied, text, tmp_path):
    tune(home, text, SurfaceDispatcher(home), trials=9, uri=f"sqlite:///{tmp_path}/optuna.db")
    assert trials(home) == trials(studied)
    assert not (home.tunes / "lr-batch" / "optuna.journal").exists()


def test_a_journal_torn_by_a_kill_and_its_lock_are_repaired(copied, text):
    journal = copied.tunes / "lr-batch" / "optuna.journal"
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "worker')
    (journal.parent / "optuna.journal.lock").symlink_to(journal)
    grown = SurfaceDispatcher(copied)
    tune(copied, text, grown, trials=10)
    assert len(grown.trained) == 2


@pytest.mark.parametrize("line", [0, 3, 9, 20, -1])
@pytest.mark.parametrize("damage", ["torn", "zeros", "not a line of a journal"])
def test_a_journal_damaged_inside_costs_no_training(copied, text, caplog, line, damage):
    home, expected = copied, trials(copied)
    journal = home.tunes / "lr-batch" / "optuna.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    whole = lines[line]
    lines[line] = {
        "torn": whole[: len(whole) // 2] + b"\n",
        "zeros": b"\0" * (len(whole) - 1) + b"\n",
        "not a line of a journal": b'["op_code"]\n',
    }[damage]
    journal.write_bytes(b"".join(lines))
    again = SurfaceDispatcher(home)
    tune(home, text, again, trials=9)
    assert again.trained == []
    assert trials(home) == expected
    assert f"is damaged from line {line % len(lines) + 1} on" in caplog.text
    assert (journal.parent / "optuna-set-aside-0.journal").read_bytes() == b"".join(lines)


def test_a_journal_that_optuna_cannot_replay_is_begun_again(copied, text, caplog):
    home, expected = copied, trials(copied)
    journal = home.tunes / "lr-batch" / "optuna.journal"
    _, *others = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([b'{"op_code":99,"worker_id":"x"}\n', *others]))
    again = SurfaceDispatcher(home)
    tune(home, text, again, trials=9)
    assert again.trained == []
    assert trials(home) == expected
    assert "is damaged from line 1 on" in caplog.text


def test_the_law_finds_what_the_surface_was_made_with(home, text, monkeypatch):
    monkeypatch.setattr(reports, "study_page", study_page)
    monkeypatch.setattr(WidthStudy, "importances", IMPORTANCES)
    report = tune(home, text, SurfaceDispatcher(home), trials=16)
    optima = report.document["optima"]
    assert [found["lr"]["value"] for found in optima] == pytest.approx([0.012] * 4, rel=0.25)
    assert 'id="law"' in report.page.read_text()


def test_trials_are_children_of_the_study_in_the_tracker(home, text):
    tracker = FakeTracker()
    dispatcher = SurfaceDispatcher(home)
    tune(home, text, dispatcher, trials=8, tracker=tracker)
    assert set(tracker.parents) == set(dispatcher.trained)


def test_a_study_reports_its_rounds_and_registers_its_process(home, text):
    lines, running = [], []

    def say(line):
        lines.append(line)
        running.extend(controllers(home.tunes / "lr-batch"))

    tune(home, text, SurfaceDispatcher(home), trials=8, say=say)
    assert lines[0] == "16 trials, 16 to train"
    assert len(lines) == 17
    assert lines[1].startswith("  d24-t007: lr ")
    assert {(one.process.pid, one.alive, one.deployed) for one in running} == {
        (os.getpid(), True, False)
    }
    assert controllers(home.tunes / "lr-batch") == []


def test_a_study_that_runs_in_another_process_is_waited_for_and_that_is_said(home, text):
    lines, folder = [], home.tunes / "lr-batch"
    folder.mkdir(parents=True)
    other = (folder / "lock").open("w")
    fcntl.flock(other, fcntl.LOCK_EX)

    def say(line):
        lines.append(line)
        other.close()

    ended = threading.Timer(20.0, other.close)
    ended.start()
    tune(home, text, SurfaceDispatcher(home), trials=8, say=say)
    ended.cancel()
    assert lines[0] == "study lr-batch runs in another process; waiting until that ends"


def test_the_next_trials_of_a_width_wait_for_no_other_width(home, text):
    dispatcher = SurfaceDispatcher(home)
    tune(home, text, dispatcher, trials=12)
    names = [RunDir(home.runs / run_id).planned().name for run_id in dispatcher.trained]
    # The fake trains what came last first, so that all of d24 ends before d16 has begun.
    assert [name[:3] for name in names] == ["d24"] * 12 + ["d16"] * 12
    assert {name[-3:] for name in names[8:12]} == {"008", "009", "010", "011"}


def test_later_trials_that_all_fail_stop_the_study(home, text):
    tune(home, text, SurfaceDispatcher(home), trials=8)
    with pytest.raises(SweepFailedError, match=r"all of 8 trainings failed.*told to"):
        tune(home, text, SurfaceDispatcher(home, status="failed"), trials=12)
    again = SurfaceDispatcher(home)
    tune(home, text, again, trials=12)
    assert len(again.trained) == 8


def test_too_few_trials_for_a_law_are_announced_before_the_first_is_trained(home, text):
    lines = []
    tune(home, text, SurfaceDispatcher(home), trials=3, say=lines.append)
    assert lines[0] == (
        "no law of 3 trials of a width: a surface over lr, batch_tokens needs 8 or more "
        "(--trials 8)"
    )
    assert lines[1] == "6 trials, 6 to train"


def test_a_round_in_which_every_trial_fails_stops_and_is_retried(home, text):
    with pytest.raises(SweepFailedError, match=r"all of 16 trainings failed.*told to"):
        tune(home, text, SurfaceDispatcher(home, status="failed"), trials=8)
    again = SurfaceDispatcher(home)
    tune(home, text, again, trials=8)
    assert len(again.trained) == 16


def test_a_full_disk_ends_a_study_with_one_line_and_leaves_no_note(home, text):
    class Full(SurfaceDispatcher):
        def train_all(self, runs, *, on_finished, on_tick, admit, more):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SweepFailedError, match=r"disk is full.*No space left.*same command"):
        tune(home, text, Full(home), trials=8)
    assert controllers(home.tunes / "lr-batch") == []


def test_proposals_depend_on_the_seed_and_on_earlier_losses(text):
    spec = spec_of(text)
    model = shape(spec.ladder, 16, Make(512))
    searched = search_box(spec, model)
    first = propose(spec, searched, [], 8)
    assert first == propose(spec, searched, [], 8)
    assert first != propose(spec.model_copy(update={"seed": 1}), searched, [], 8)
    told = [TrialOutcome(params, 3.0 + number / 10) for number, params in enumerate(first)]
    second = propose(spec, searched, told, 4)
    assert second == propose(spec, searched, told, 4)
    assert second != propose(spec, searched, [*told[:-1], TrialOutcome(told[-1].params, 1.0)], 4)
    assert second != propose(spec, searched, [*told[:-1], TrialOutcome(told[-1].params, None)], 4)


def test_every_deployment_of_prefect_yaml_names_a_flow_that_takes_its_parameters():
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    names = set()
    for deployment in deployments:
        found = load_flow_from_entrypoint(deployment["entrypoint"])
        names.add(f"{found.name}/{deployment['name']}")
        assert set(deployment.get("parameters", {})) <= set(found.parameters.properties)
    assert "tune/lr-batch" in names


def test_a_plan_has_the_trials_that_the_study_will_train(home, text):
    spec = spec_of(text, trials=10, dtype="float32")
    planned, corpus = plan_study(spec, home, None)
    assert corpus is not None
    assert [run.name for run in planned.runs[:2]] == ["d16-t000", "d16-t001"]
    assert len(planned.runs) == 20
    assert not (home.tunes / "lr-batch").exists()
    dispatcher = SurfaceDispatcher(home)
    tune(home, text, dispatcher, trials=10, dtype="float32")
    first = {run.id for run in planned.runs if int(run.name[-3:]) < spec.startup}
    assert len(first) == 16
    # The later ones stand for what the losses will propose, at the same cost.
    assert first == first & set(dispatcher.trained)
    again, _ = plan_study(spec, home, None)
    assert {run.id for run in again.runs} == set(dispatcher.trained)
    assert again.flops_spent == pytest.approx(planned.flops_spent, rel=0.02)


def test_a_cap_leaves_trials_open_that_a_larger_one_trains(home, text):
    changes = {"trials": 8, "dtype": "float32"}
    whole, _ = plan_study(spec_of(text, **changes), home, None)
    dispatcher = SurfaceDispatcher(home)
    capped = tune(home, text, dispatcher, **changes, cap=FlopsCap(flops=0.5 * whole.flops_spent))
    spent = sum(run.flops_spent for run in whole.runs if run.id in dispatcher.trained)
    assert 0.3 * whole.flops_spent < spent <= 0.5 * whole.flops_spent
    assert "leaves out" in capped.refusal
    assert "--max-flops" in capped.refusal
    report = tune(home, text, dispatcher, **changes, cap=FlopsCap(flops=1e15))
    assert report.refusal == ""
    assert sorted(dispatcher.trained) == sorted({run.id for run in whole.runs})


def test_a_cap_moves_no_trial(text):
    assert spec_of(text, cap=FlopsCap(flops=1.0)).identity == spec_of(text).identity
