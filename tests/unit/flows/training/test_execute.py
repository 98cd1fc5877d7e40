"""One attempt of a training: what is durable when, and how it ends."""

import logging
from types import SimpleNamespace

import pytest
import torch

from flows.runs.curve import CurveBehindError, CurveWriter
from flows.runs.directory import RunDir
from flows.settings import Home
from flows.training.execute import execute
from flows.training.loop import train_in_process
from flows.training.signals import Interrupted
from llama_core.config import Placement
from llama_core.records import CheckpointRecord, DivergedRecord, ResumeRecord, StoppedRecord
from tests.disk import DiskOrder
from tests.fakes import evaluation, planned_run, step

CPU = Placement(device="cpu")


class Corpus:
    """A corpus that these tests never read."""

    def open(self, train, mixture):
        return None


@pytest.fixture
def run(tmp_path):
    planned = planned_run()
    directory = RunDir(tmp_path / "runs" / planned.id)
    directory.create(planned)
    directory.place(CPU)
    return directory


@pytest.fixture
def training(monkeypatch):
    """Replaces the training loop by given records of each attempt."""
    sittings = []
    monkeypatch.setattr("llama_core.corpus.prepared.find_corpus", lambda home, digest: Corpus())
    monkeypatch.setattr("llama_core.train.train", lambda *_, **settings: iter(sittings.pop(0)))
    return sittings


def path():
    """The records of the whole path of a run with horizons at 20 and 40 steps."""
    trunk, branch = range(1, 15), [step(number, horizon=20_480) for number in range(15, 21)]
    last = [step(number, horizon=40_960) for number in range(29, 41)]
    after = [step(number) for number in range(15, 29)]
    return [*map(step, trunk), *branch, evaluation(20), *after, *last, evaluation(40)]


def test_rows_before_a_checkpoint_are_durable_when_it_is_committed(run, training, monkeypatch):
    disk, seen = DiskOrder(monkeypatch), []

    def records():
        yield step(1)
        yield step(2)
        seen.append(disk.durable(run.curve_path))
        yield CheckpointRecord(2, 2048, None, "c", 1.0)
        # The training commits when the next record is asked for.
        seen.append(disk.durable(run.curve_path))
        yield DivergedRecord(3, 3072, None, "loss is nan", 1.0)

    training.append(records())
    train_in_process(run, Home(run.path.parent.parent))
    assert seen == [False, True]
    assert disk.durable_from_its_renaming_on(run.result_path)


def test_a_finished_training_has_the_loss_of_every_horizon_in_its_result(run, training):
    training.append(path())
    result = execute(run, Home(run.path.parent.parent))
    assert (result.status, result.reason) == ("finished", "")
    assert [(seen.tokens, seen.val_loss) for seen in result.observations] == [
        (20_480, 3.0 + 1 / 20),
        (40_960, 3.0 + 1 / 40),
    ]
    assert run.result() == result
    # Settled: nothing is trained again.
    assert execute(run, Home(run.path.parent.parent)) == result


def test_the_result_has_the_losses_from_before_a_resume(run, training):
    records = path()
    curve = CurveWriter(run.curve_path)
    for record in records[:25]:
        curve.append(record)
    curve.close()
    resumed = ResumeRecord(18, 24, None, "000000024-002", (), 1.0)
    training.append([resumed, *records[24:]])
    result = execute(run, Home(run.path.parent.parent))
    assert [seen.tokens for seen in result.observations] == [20_480, 40_960]
    assert sum(row["kind"] == "step" for row in run.curve.rows()) == 46


def test_a_training_that_ends_without_a_horizons_loss_has_no_result(run, training):
    training.append([record for record in path() if record != evaluation(20)])
    with pytest.raises(CurveBehindError, match=r"\[40960\], and \[20480, 40960\]"):
        train_in_process(run, Home(run.path.parent.parent))
    assert run.result() is None


def test_a_diverged_training_has_its_reason_and_earlier_losses(run, training):
    training.append([*path()[:21], DivergedRecord(15, 15_360, None, "loss is nan", 1.0)])
    result = execute(run, Home(run.path.parent.parent))
    assert (result.status, result.reason) == ("diverged", "loss is nan")
    assert [seen.tokens for seen in result.observations] == [20_480]
    assert run.settled()
    assert not run.finished()


def test_a_curve_behind_its_checkpoint_sets_checkpoints_aside_and_restarts(run, training):
    run.checkpoints.mkdir()
    (run.checkpoints / "000000005-000.json").write_text("{}")
    curve = CurveWriter(run.curve_path)
    curve.append(step(1))
    curve.close()
    training += [[ResumeRecord(5, 5, None, "000000005-000", (), 1.0), step(6)], path()]
    assert execute(run, Home(run.path.parent.parent)).status == "finished"
    assert (run.path / "checkpoints-set-aside-0" / "000000005-000.json").exists()
    assert not training


def test_a_curve_that_was_lost_while_a_branch_was_trained_has_every_step_again(run, training):
    run.checkpoints.mkdir()
    rest = path()[16:]
    training += [[ResumeRecord(16, 16, 20_480, "000000016-001", (), 1.0), *rest], path()]
    assert execute(run, Home(run.path.parent.parent)).status == "finished"
    steps = [(row["horizon"], row["step"]) for row in run.curve.rows() if row["kind"] == "step"]
    assert steps == [(each.horizon, each.step) for each in path() if hasattr(each, "loss")]


def test_a_curve_that_is_behind_twice_is_an_error(run, training):
    run.checkpoints.mkdir()
    training += [[step(5)], [step(5)]]
    with pytest.raises(CurveBehindError, match="step 5 comes next"):
        execute(run, Home(run.path.parent.parent))


def test_a_training_that_was_stopped_is_not_settled(run, training):
    training.append([step(1), StoppedRecord(1, 1024, None, 1.0)])
    with pytest.raises(Interrupted, match="at step 1"):
        execute(run, Home(run.path.parent.parent))
    assert run.result() is None
    assert run.curve.last()["step"] == 1


def test_memory_that_ran_out_is_a_result_and_a_bug_is_not(run, training):
    def records(error):
        yield step(1)
        raise error

    training.append(records(MemoryError("no room for logits\nand more")))
    result = train_in_process(run, Home(run.path.parent.parent))
    assert (result.status, result.reason) == ("out_of_memory", "no room for logits")
    training.append(records(RuntimeError("shapes do not match")))
    with pytest.raises(RuntimeError, match="shapes"):
        train_in_process(run, Home(run.path.parent.parent))


def test_memory_that_runs_out_in_a_trial_is_a_result_too(run, training, monkeypatch):
    def trial(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("flows.training.loop.settled", trial)
    assert train_in_process(run, Home(run.path.parent.parent)).status == "out_of_memory"


def test_a_log_says_how_many_steps_are_trained_again(run, training, caplog):
    caplog.set_level(logging.INFO)
    records = path()
    training += [[*records[:10], StoppedRecord(10, 10_240, None, 1.0)], records]
    with pytest.raises(Interrupted):
        execute(run, Home(run.path.parent.parent))
    resumed = ResumeRecord(6, 6, None, "000000006-000", ("a torn checkpoint",), 1.0)
    training[0] = [resumed, *records[6:]]
    run.checkpoints.mkdir()
    train_in_process(run, Home(run.path.parent.parent))
    assert f"run {run.id}: a torn checkpoint" in caplog.text
    assert f"run {run.id} resumes from step 6: 4 steps are trained again" in caplog.text


def test_a_result_has_the_seconds_of_its_last_attempt_whatever_the_clock_says(
    run, training, monkeypatch
):
    seconds = iter([100.0, 142.0])
    monkeypatch.setattr(
        "flows.training.loop.time", SimpleNamespace(monotonic=lambda: next(seconds))
    )
    monkeypatch.setattr("flows.training.loop.now", lambda: 143.0)
    training.append(path())
    result = train_in_process(run, Home(run.path.parent.parent))
    assert (result.train_s, result.finished_at, result.device) == (42.0, 143.0, "cpu")


def test_a_training_without_a_checkpoint_starts_again_from_its_first_step(run, training, caplog):
    caplog.set_level(logging.INFO)
    curve = CurveWriter(run.curve_path)
    for number in range(1, 4):
        curve.append(step(number))
    curve.close()
    training.append(path())
    train_in_process(run, Home(run.path.parent.parent))
    assert f"run {run.id} starts again: 3 steps are trained again" in caplog.text
