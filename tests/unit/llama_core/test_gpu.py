"""Tests that need a GPU; skipped without one."""

import pytest
import torch

from llama_core.config import Placement
from llama_core.inference.generate import generate_rows
from llama_core.inference.score import score_continuations
from llama_core.model import Llama
from llama_core.records import EvalRecord, StepRecord
from llama_core.stacked.member import Training
from llama_core.stacked.train import train_stacked
from llama_core.train import train
from tests.core_tools import batches, recipe, tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def curve(device, **placed):
    cfg = recipe(10, 20)
    placement = Placement(device=device, compile="off", checkpoint_every_s=1e9, **placed)
    records = train(tiny(), cfg, batches(cfg), placement=placement)
    return [r.loss if isinstance(r, StepRecord) else r.val_loss
            for r in records if isinstance(r, StepRecord | EvalRecord)]  # fmt: skip


def test_a_gpu_tracks_the_cpu():
    # Another order of summation in fp32, carried through forty steps.
    assert curve("cuda") == pytest.approx(curve("cpu"), abs=1e-4)


def test_a_stack_on_a_gpu_has_the_losses_of_single_trainings():
    configs = [recipe(10, 20, seed=seed) for seed in range(3)]
    here = Placement(device="cuda", compile="off", checkpoint_every_s=1e9)
    stacked = [[] for _ in configs]
    trainings = [Training(cfg, batches(cfg)) for cfg in configs]
    for number, record in train_stacked(tiny(), trainings, placement=here):
        if isinstance(record, StepRecord):
            stacked[number].append(record.loss)
    for losses, cfg in zip(stacked, configs, strict=True):
        alone = train(tiny(), cfg, batches(cfg), placement=here)
        single = [record.loss for record in alone if isinstance(record, StepRecord)]
        assert losses == pytest.approx(single, abs=1e-4)


def test_deterministic_algorithms_repeat_to_the_bit():
    assert curve("cuda", deterministic=True) == curve("cuda", deterministic=True)


def test_scores_and_greedy_answers_are_those_of_the_cpu():
    net = Llama(tiny(init_std=0.3))
    net.init_weights(0)
    pairs = [([1, 2, 3], [4, 5]), ([1], [7]), ([1, 9, 9, 9, 9], [2, 2, 2])]
    prompts = [[1, 5, 9, 2], [1], [1, 7, 7]]

    def answers():
        scores = dict(score_continuations(net, pairs, batch_tokens=16))
        texts = list(generate_rows(net, prompts, max_new_tokens=12))
        return [scores[place].log_probability for place in range(3)], texts

    on_cpu = answers()
    net.cuda()
    on_gpu = answers()
    # fp32, another order of summation.
    assert on_gpu[0] == pytest.approx(on_cpu[0], abs=1e-4)
    assert on_gpu[1] == on_cpu[1]
