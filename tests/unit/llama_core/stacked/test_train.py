from functools import partial
from itertools import count
from types import SimpleNamespace

import pytest

from llama_core.config import AdamW, Block, Muon, Placement, Wsd
from llama_core.records import (
    CheckpointRecord,
    DivergedRecord,
    EvalRecord,
    ResumeRecord,
    StepRecord,
    StoppedRecord,
)
from llama_core.stacked.member import Training
from llama_core.stacked.train import train_stacked, why_not
from llama_core.train import train
from tests.core_tools import SEQ_LEN, batches, recipe, tiny

HERE = Placement(device="cpu", checkpoint_every_s=1e9, threads=1)
EAGER = HERE.model_copy(update={"checkpoint_every_s": 1e-9})
# Sums in another order, after 40 steps in fp32.
ROUNDING = 1e-5


def alone(cfg, *, model=None, placement=HERE, checkpoints=None):
    model = model or tiny()
    return list(train(model, cfg, batches(cfg), placement=placement, checkpoints=checkpoints))


def together(configs, *, model=None, placement=HERE, folders=None, stop=lambda: False):
    """The records of each training of a stack."""
    folders = folders or [None] * len(configs)
    trainings = [
        Training(cfg, batches(cfg), folder) for cfg, folder in zip(configs, folders, strict=True)
    ]
    records = [[] for _ in configs]
    for number, record in train_stacked(model or tiny(), trainings, placement=placement, stop=stop):
        records[number].append(record)
    return records


def values(records):
    """The numbers of a curve that a stack may change by rounding alone."""
    rows = []
    for record in records:
        if isinstance(record, StepRecord):
            rows += [record.step, record.lr, record.loss, record.grad_norm]
        elif isinstance(record, EvalRecord):
            rows += [record.horizon, record.val_loss, record.val_bpb]
    return rows


def same(stacked, single, rounding=ROUNDING):
    return values(stacked) == pytest.approx(values(single), rel=rounding, abs=rounding)


MIXED = (
    recipe(6, 12),
    recipe(6, 12, seed=3, clip_norm=0.1),
    recipe(9, cosine=True, optimizer=AdamW(lr=0.003, beta1=0.8, beta2=0.99, weight_decay=0.0)),
    # A batch of five rows leaves parts to fill up.
    recipe(10, batch_tokens=5 * SEQ_LEN, schedule=Wsd(horizons=(10 * 5 * SEQ_LEN,))),
)


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"n_kv_heads": 2, "tie_embeddings": True, "qk_norm": False},
    ],
    ids=["grouped, qk-norm", "tied"],
)
def test_each_training_of_a_stack_has_the_losses_it_has_alone(shape):
    model = tiny(**shape)
    for stacked, cfg in zip(together(MIXED, model=model), MIXED, strict=True):
        assert same(stacked, alone(cfg, model=model))


def test_a_step_of_a_stack_lasts_as_long_as_its_own_work(monkeypatch):
    ticks = SimpleNamespace(perf_counter=count().__next__)
    monkeypatch.setattr("llama_core.stacked.train.time", ticks)
    for records in together([recipe(5), recipe(5, seed=1)]):
        steps = [record for record in records if isinstance(record, StepRecord)]
        rates = [step.tokens_per_s for step in steps]
        # The first has no update before it.
        assert rates[1:] == pytest.approx([rates[1]] * 4)


@pytest.mark.parametrize("changes", [{"z_loss": 1e-2}, {"dtype": "bfloat16"}])
def test_z_loss_and_bfloat16_are_those_of_single_trainings(changes):
    configs = [recipe(4, **changes), recipe(4, seed=1, **changes)]
    # One part in 256 is the rounding of bf16; few steps, as training amplifies it.
    rounding = 1e-5 if "z_loss" in changes else 4e-3
    for stacked, cfg in zip(together(configs), configs, strict=True):
        assert same(stacked, alone(cfg), rounding)


def test_a_diverged_training_leaves_the_others_alone():
    wild = recipe(40, optimizer=AdamW(lr=30.0))
    calm, other = recipe(12), recipe(12, seed=5)
    first, second, third = together([calm, wild, other])
    (diverged,) = [r for r in second if isinstance(r, DivergedRecord)]
    (expected,) = [r for r in alone(wild) if isinstance(r, DivergedRecord)]
    assert second[-1] == diverged
    assert diverged.step == expected.step
    assert same(first, alone(calm))
    assert same(third, alone(other))


def test_trainings_resume_from_any_mixture_of_checkpoints_and_single_ones_from_theirs(tmp_path):
    configs = [recipe(8, 16, seed=seed) for seed in range(4)]
    folders = [tmp_path / str(seed) / "checkpoints" for seed in range(4)]
    # Finished; stopped on a branch; stopped on the trunk; new.
    alone(configs[0], checkpoints=folders[0])
    for number, steps in [(1, 7), (2, 3)]:
        calls = count(1)
        stop = partial(_at, calls, steps)
        cfg, folder = configs[number], folders[number]
        list(train(tiny(), cfg, batches(cfg), placement=HERE, checkpoints=folder, stop=stop))

    halted = together(configs, folders=folders, stop=partial(_at, count(1), 10))
    assert [type(records[0]) for records in halted] == [ResumeRecord] * 3 + [StepRecord]
    assert len(halted[0]) == 1
    assert all(isinstance(records[-1], StoppedRecord) for records in halted[1:])
    # One of them goes on alone, from the stack's checkpoint; the others in a stack again.
    last = alone(configs[3], checkpoints=folders[3])
    rest = together(configs[:3], folders=folders[:3])
    for number, records in [(1, rest[1]), (2, rest[2]), (3, last)]:
        assert isinstance(records[0], ResumeRecord)
        end, whole = values(records), values(alone(configs[number]))
        assert end == pytest.approx(whole[-len(end) :], rel=ROUNDING, abs=ROUNDING)


def _at(calls, number):
    return next(calls) >= number


def test_a_stack_writes_the_files_of_single_trainings(tmp_path):
    cfg = recipe(6, 12)
    single, stacked = tmp_path / "single" / "checkpoints", tmp_path / "stacked" / "checkpoints"
    alone(cfg, placement=EAGER, checkpoints=single)
    records = together([cfg], placement=EAGER, folders=[stacked])[0]
    assert any(isinstance(record, CheckpointRecord) for record in records)
    written = [
        sorted(path.name for path in root.parent.glob("final_*")) for root in (single, stacked)
    ]
    assert written[0] == written[1]
    assert len(written[0]) == 2
    assert not list(stacked.glob("*.pending"))


def test_what_cannot_be_stacked_is_said():
    cfg, model = recipe(4), tiny()
    both = [(model, cfg), (model, cfg.model_copy(update={"dtype": "bfloat16"}))]
    assert "dtype" in why_not(both, HERE)
    assert why_not([(model, cfg)] * 2, HERE) == ""
    assert "ranks" in why_not([(model, cfg)], HERE.model_copy(update={"ranks": 2}))
    recomputed = HERE.model_copy(update={"activation_checkpointing": "full"})
    assert "recomputed" in why_not([(model, cfg)] * 2, recomputed)
    assert "block" in why_not([(tiny(block=Block(norm="layer")), cfg)], HERE)
    muon = cfg.model_copy(update={"optimizer": Muon(lr=0.01)})
    assert "muon" in why_not([(model, cfg), (model, muon)], HERE)
    with pytest.raises(ValueError, match="cannot be stacked"):
        together([cfg, both[1][1]])
