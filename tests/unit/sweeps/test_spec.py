"""A run's id depends on everything that can change its loss, and on nothing else."""

import pytest
from pydantic import ValidationError

from llama_core.config import AdamW, Block, Cosine, ModelConfig, Muon, Placement, TrainConfig, Wsd
from llama_core.schedule import steps_done, tokens_spent
from sweeps.load import load_spec
from sweeps.plan import plan
from sweeps.spec import DataRef, RunSpec


def run_spec(**train_changes: object) -> RunSpec:
    model = ModelConfig(
        vocab_size=512, d_model=32, n_layers=2, n_heads=2, n_kv_heads=2, head_dim=16, d_ffn=88
    )
    train = {
        "seq_len": 128,
        "batch_tokens": 1024,
        "warmup_tokens": 10_240,
        "schedule": Wsd(horizons=(102_400, 204_800)),
        "optimizer": AdamW(lr=0.008),
        "eval_tokens": 16_384,
        **train_changes,
    }
    return RunSpec(model=model, train=TrainConfig(**train), data=DataRef(digest="d" * 64))


def test_the_golden_id_never_changes():
    # A changed id means that every finished run of every user is trained again.
    assert run_spec().id == "f967f24929e35abd"


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"dtype": "bfloat16"},
        {"optimizer": AdamW(lr=0.008, beta2=0.99)},
        {"schedule": Wsd(horizons=(102_400, 204_800), cooldown_fraction=0.2)},
        {"schedule": Cosine(tokens=204_800)},
        {"eval_tokens": 32_768},
        {"z_loss": 1e-4},
        {"optimizer": Muon(lr=0.008)},
    ],
)
def test_every_setting_that_can_change_a_loss_changes_the_id(change):
    assert run_spec(**change).id != run_spec().id


def test_a_spec_read_back_from_json_has_the_same_id():
    spec = run_spec()
    assert RunSpec.model_validate_json(spec.model_dump_json()).id == spec.id


def test_a_block_and_an_optimizer_read_back_from_json_are_the_same_run():
    block = Block(positions="learned", norm="layer", parallel=True)
    model = run_spec().model.model_copy(update={"block": block, "max_positions": 128})
    spec = run_spec(optimizer=Muon(lr=0.02)).model_copy(update={"model": model})
    again = RunSpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    assert again.id == spec.id != run_spec(optimizer=Muon(lr=0.02)).id


def test_sequences_longer_than_the_learned_positions_are_refused():
    spec = run_spec()
    model = spec.model.model_dump() | {"block": {"positions": "learned"}, "max_positions": 64}
    with pytest.raises(ValidationError, match="max_positions of 128 or more"):
        RunSpec(model=ModelConfig(**model), train=spec.train, data=spec.data)


def test_the_placement_of_a_sweep_does_not_change_its_runs():
    spec = load_spec("smoke")
    moved = spec.model_copy(update={"placement": Placement(threads=2, compile="on"), "slots": 7})
    data = DataRef(digest="x")
    assert [run.id for run in plan(spec, data).runs] == [run.id for run in plan(moved, data).runs]


def test_horizons_that_are_not_whole_steps_are_refused_with_the_nearest_ones():
    with pytest.raises(ValidationError, match=r"Use 102,400 or 103,424"):
        run_spec(schedule=Wsd(horizons=(102_500,)))


def test_horizons_out_of_order_are_refused():
    with pytest.raises(ValidationError, match="rising order"):
        Wsd(horizons=(2048, 1024))


def test_trunk_and_branches_are_each_counted_once():
    train = run_spec().train
    # 30 % of the first horizon is its cooldown; the last horizon cools on the trunk itself.
    assert tokens_spent(train) == 204_800 + 30 * 1024


def test_steps_done_reaches_the_total_at_the_end_of_the_last_branch():
    train = run_spec().train
    assert steps_done(train, 204_800, 200) == tokens_spent(train) // 1024
    assert steps_done(train, None, 70) == 70
    assert steps_done(train, 102_400, 100) == 100
    # Back on the trunk, the finished branch counts.
    assert steps_done(train, None, 71) == 71 + 30


def test_a_cosine_has_no_branches():
    train = run_spec(schedule=Cosine(tokens=204_800)).train
    assert tokens_spent(train) == 204_800


def test_a_path_that_reads_as_a_number_stays_a_path():
    spec = load_spec("smoke", ['corpus.sources=[{"kind": "files", "path": "1e5"}]'])
    assert spec.corpus.sources[0].path == "1e5"
