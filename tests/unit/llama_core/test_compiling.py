"""Compiled training: the same losses to rounding, one graph a shape, and refusals in words."""

import warnings
from contextlib import contextmanager

import pytest
import torch

from llama_core import compiling
from llama_core.blocks import BUNDLES
from llama_core.compiling import compile_obstacle, compiles_whole
from llama_core.config import Placement
from llama_core.machine import compiles
from llama_core.records import EvalRecord, StepRecord
from llama_core.train import train
from tests.core_tools import batches, recipe, tiny

CPU, GPU = torch.device("cpu"), torch.device("cuda")
ON, OFF = Placement(compile="on", threads=1), Placement(compile="off", threads=1)


def losses(placement, cfg, model=None, **options):
    """Losses of all steps and horizons."""
    records = train(model or tiny(), cfg, batches(cfg), placement=placement, **options)
    return [
        record.loss if isinstance(record, StepRecord) else record.val_loss
        for record in records
        if isinstance(record, StepRecord | EvalRecord)
    ]


@contextmanager
def no_warning():
    """Fails at a warning that users see."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # torch's compiler causes these itself, and hides them from its users.
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
        warnings.filterwarnings("ignore", ".*autograd.function.Function.* instantiated")
        yield


@pytest.fixture
def graphs(monkeypatch):
    """Counts graphs, which are traced as always and then run by torch's own kernels: in seconds."""
    from torch._dynamo import config, reset
    from torch._dynamo.testing import CompileCounterWithBackend

    reset()
    counter, compile = CompileCounterWithBackend("eager"), torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda it, **settings: compile(it, backend=counter, **settings)
    )
    with config.patch(recompile_limit=1):
        yield counter
    reset()


def test_trunk_branches_and_evaluation_need_one_graph_a_shape_and_no_warning(graphs):
    cfg = recipe(8, 16)
    with no_warning():
        compiled = losses(ON, cfg)
        assert graphs.frame_count == 1
        # Another shape is compiled too, though torch's limit is reached.
        losses(ON, recipe(3), tiny(d_model=8))
        assert graphs.frame_count == 2
        # A second training of a shape needs no new graph.
        losses(ON, recipe(3))
        assert graphs.frame_count == 2
    assert compiled == pytest.approx(losses(OFF, cfg), rel=1e-6)


def test_batches_of_any_size_share_the_graph_of_a_micro_batch(graphs):
    small, large = recipe(3), recipe(3)
    large = large.model_copy(update={"batch_tokens": 2 * large.batch_tokens})
    rows = small.batch_tokens // small.seq_len
    split = ON.model_copy(update={"micro_batch_rows": rows})
    with no_warning():
        losses(split, small)
        compiled = losses(split, large)
    assert graphs.frame_count == 1
    assert compiled == pytest.approx(losses(OFF, large), rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "device", "whole"),
    [
        ({}, CPU, True),
        ({"ranks": 2}, CPU, False),
        ({"activation_checkpointing": "selective"}, CPU, False),
        ({}, GPU, False),
    ],
)
def test_model_and_loss_are_one_graph_where_layers_are_not_alone(changes, device, whole):
    assert compiles_whole(ON.model_copy(update=changes), device) == whole


def test_bf16_and_recomputed_layers_compile_without_warning(graphs):
    with no_warning():
        losses(ON, recipe(3, dtype="bfloat16"))
        losses(ON.model_copy(update={"activation_checkpointing": "full"}), recipe(3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_compiled_training_differs_by_rounding_and_resumes_to_the_bit(tmp_path):
    cfg = recipe(8, 16)
    whole = losses(ON, cfg)
    # Sums are taken in another order; over these steps fp32 rounding grows to about 1e-6.
    assert whole == pytest.approx(losses(OFF, cfg), rel=1e-5)
    steps = iter([False] * 4 + [True] * 99)
    first = losses(ON, cfg, checkpoints=tmp_path, stop=lambda: next(steps))
    assert first + losses(ON, cfg, checkpoints=tmp_path) == whole


@pytest.mark.parametrize(
    ("missing", "message"),
    [("which", "there is no g.. here"), ("headers", "Python's headers .* not installed")],
)
def test_without_a_compiler_on_is_refused_before_training(monkeypatch, tmp_path, missing, message):
    monkeypatch.delenv("CXX", raising=False)
    if missing == "which":
        monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    else:
        monkeypatch.setattr(compiling.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(ValueError, match=f"placement.compile is on, but .*{message}"):
        losses(ON, recipe(3))
    # Where a placement says auto, such a machine trains uncompiled.
    assert not compiles(Placement(), GPU)
    assert len(losses(Placement(threads=1), recipe(3))) == 4


def test_a_gpu_needs_triton(monkeypatch):
    monkeypatch.setattr(compiling, "find_spec", lambda name: None)
    assert "needs the package triton" in compile_obstacle(GPU)


@pytest.mark.parametrize("name", ["gpt3", "palm"])
def test_other_blocks_compile_whole_too(graphs, name):
    choice = BUNDLES[name]
    length = 16 if choice.block.positions == "learned" else None
    model = tiny(block=choice.block, tie_embeddings=choice.tie_embeddings, max_positions=length)
    cfg = recipe(3, z_loss=choice.z_loss)
    with no_warning():
        compiled = losses(ON, cfg, model)
    assert graphs.frame_count == 1
    assert compiled == pytest.approx(losses(OFF, cfg, model), rel=1e-5)
