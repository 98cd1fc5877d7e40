"""What only a GPU can show. Skipped by name without one."""

import pytest
import torch

from llama_core.config import Placement
from llama_core.records import EvalRecord, StepRecord
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


def test_deterministic_algorithms_repeat_to_the_bit():
    assert curve("cuda", deterministic=True) == curve("cuda", deterministic=True)
