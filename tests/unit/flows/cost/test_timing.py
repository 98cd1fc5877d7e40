"""Timings are read off a training's records: steps in blocks, warm-up, validation, checkpoints."""

import io
from dataclasses import replace
from types import SimpleNamespace

import pytest

from flows.cost import timing as module
from flows.cost.timing import shape_of
from llama_core.config import Muon, Placement
from llama_core.records import CheckpointRecord
from tests.fakes import evaluation, planned_run, step

RUN = planned_run().run
START = 1_000.0


@pytest.fixture
def time(monkeypatch, tmp_path):
    """Times a shape whose step, validation and checkpoint take given seconds."""

    def of(steps, *, eval_s, checkpoint_s):
        seconds = steps

        def train(request, model, cfg, *, steps, placement=None, folder=None):
            at = START
            for number in range(1, steps + 1):
                at += seconds[min(number, len(seconds)) - 1]
                yield replace(step(number), at=at)
                if folder:
                    at += checkpoint_s
                    yield CheckpointRecord(number, 1024 * number, None, "c", at)
            yield replace(evaluation(steps), at=at + eval_s * cfg.eval_tokens)

        monkeypatch.setattr(module, "_train", train)
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: START))
        cpu = Placement(device="cpu")
        request = module.Request(home=tmp_path, corpus="c", placement=cpu, trainings=())
        return module._time(request, RUN.model, RUN.train)

    return of


def test_every_part_of_a_training_is_timed_for_itself(time):
    timing = time([2.0, 0.5, 0.3, 0.2], eval_s=1e-4, checkpoint_s=0.05)
    assert timing.step_s == pytest.approx(0.2)
    # The three first steps take 2.8 s, three steady ones 0.6 s.
    assert timing.warm_s == pytest.approx(2.8 - 0.6)
    assert timing.eval_s_per_token == pytest.approx(1e-4)


def test_a_checkpoint_costs_what_it_adds_to_the_steps(time):
    # The steps that are timed with checkpoints are as quick as the steady ones.
    timing = time([0.2], eval_s=1e-4, checkpoint_s=0.05)
    assert timing.checkpoint_s == pytest.approx(0.05)
    assert timing.warm_s == pytest.approx(0.0, abs=1e-9)


def test_quick_first_steps_make_no_negative_warm_up(time):
    assert time([0.1, 0.1, 0.1, 0.2], eval_s=1e-4, checkpoint_s=0.05).warm_s == 0.0


def test_steps_are_timed_in_blocks_of_four_until_there_are_enough(time):
    steps = [1.0, 1.0, 1.0, *(4 * [0.3]), *(4 * [0.1]), *(3 * [0.2]), 0.6]
    timing = time(steps, eval_s=1e-4, checkpoint_s=0.05)
    assert timing.blocks == pytest.approx((0.1, 0.3, 0.3))
    assert timing.step_s == pytest.approx(0.3)


def test_steps_that_fill_no_block_are_left_out(time):
    # Enough after 14 steady steps of 0.03 s: three blocks, and two steps more.
    steps = [1.0, 1.0, 1.0, *(12 * [0.03]), 0.02, 0.03]
    assert time(steps, eval_s=1e-4, checkpoint_s=0.05).blocks == pytest.approx((0.03,) * 3)


def test_very_short_steps_are_timed_for_longer(time):
    assert len(time([0.001], eval_s=1e-4, checkpoint_s=0.05).blocks) == 10


def test_final_weights_of_a_timed_training_do_not_stay_in_the_home(monkeypatch, tmp_path):
    def train(request, model, cfg, *, steps, placement, folder):
        # A slow disk holds the last record back until the weights are written, as
        # `llama_core.train` does: beside the checkpoints.
        folder.mkdir()
        (folder.parent / "final_4096.safetensors").touch()
        yield replace(step(steps), at=START)

    monkeypatch.setattr(module, "_train", train)
    request = module.Request(home=tmp_path, corpus="c", placement=Placement(), trainings=())
    module._checkpoint_seconds(request, RUN.model, RUN.train, 0.1)
    assert list(tmp_path.iterdir()) == []


def test_a_child_answers_one_line_for_each_shape_once_its_corpus_is_open(monkeypatch, tmp_path):
    other = planned_run(width=48).run
    opened, written, seconds = [], io.StringIO(), iter([100.0, 104.0])
    request = module.Request(
        home=tmp_path,
        corpus="c",
        placement=Placement(device="cpu"),
        trainings=((RUN.model, RUN.train), (other.model, other.train)),
    )
    timings = [timing_of(0.1), timing_of(0.2)]
    corpus = SimpleNamespace(open=opened.append)
    monkeypatch.setattr("llama_core.corpus.prepared.find_corpus", lambda home, digest: corpus)
    monkeypatch.setattr(module, "_time", lambda request, model, train: timings.pop(0))
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: next(seconds)))
    monkeypatch.setattr(module.sys, "stdin", io.StringIO(request.model_dump_json()))
    monkeypatch.setattr(module.sys, "stdout", written)
    assert module.main() == 0
    assert opened == [RUN.train]
    answers = [module.Answer.model_validate_json(line) for line in written.getvalue().splitlines()]
    assert answers == [module.Answer(loaded_at=100.0, ready_at=104.0, timing=timing_of(step_s))
                       for step_s in (0.1, 0.2)]  # fmt: skip


def timing_of(step_s):
    return module.Timing(
        step_s=step_s, blocks=(step_s,), warm_s=0.0, eval_s_per_token=0.0, checkpoint_s=0.0
    )


def test_a_shape_is_timed_on_a_short_training_without_warm_up(monkeypatch, tmp_path):
    opened, trained = [], []
    corpus = SimpleNamespace(open=opened.append)
    monkeypatch.setattr("llama_core.corpus.prepared.find_corpus", lambda home, digest: corpus)
    monkeypatch.setattr("llama_core.train.train", lambda *given, **kw: trained.append((given, kw)))
    cpu = Placement(device="cpu")
    request = module.Request(home=tmp_path, corpus="c", placement=cpu, trainings=())
    module._train(request, RUN.model, RUN.train, steps=5)
    [((model, train, _), options)] = trained
    assert (model, options) == (RUN.model, {"placement": cpu, "checkpoints": None})
    assert opened == [train]
    assert (train.schedule.tokens, train.warmup_tokens) == (5 * RUN.train.batch_tokens, 0)


def test_validation_is_timed_on_few_whole_sequences(monkeypatch, tmp_path):
    trained = []

    def train(request, model, cfg, *, steps):
        trained.append((cfg.eval_tokens, steps))
        yield replace(step(1), at=START + 3.0)
        yield replace(evaluation(1), at=START + 3.0 + cfg.eval_tokens / 1000)

    monkeypatch.setattr(module, "_train", train)
    request = module.Request(home=tmp_path, corpus="c", placement=Placement(), trainings=())
    # At most 16,384 tokens, but one sequence at least.
    for seq_len, eval_tokens, wanted in (
        (128, 4096, 4096),
        (128, 65_536, 16_384),
        (3000, 60_000, 15_000),
        (32_768, 65_536, 32_768),
    ):
        cfg = RUN.train.model_copy(update={"seq_len": seq_len, "eval_tokens": eval_tokens})
        assert module._eval_seconds_per_token(request, RUN.model, cfg) == pytest.approx(1e-3)
        assert trained.pop() == (wanted, 1)


def test_optimizers_are_timed_apart_and_adamws_timings_stay():
    run = planned_run().run
    muon = run.train.model_copy(update={"optimizer": Muon(lr=0.01)})
    shapes = [shape_of(run.model, train) for train in (run.train, muon)]
    assert shapes[0] != shapes[1]
    assert "optimizer" not in shapes[0].model_dump_json()
