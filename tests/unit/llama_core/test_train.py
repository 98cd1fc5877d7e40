import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from llama_core.ahead import LaunchedSteps
from llama_core.blocks import bundle
from llama_core.checkpoints.store import CheckpointStore
from llama_core.config import AdamW, Block, Muon, Placement
from llama_core.counting import count_params
from llama_core.guard import LossGuard
from llama_core.records import (
    CheckpointRecord,
    DivergedRecord,
    EvalRecord,
    ResumeRecord,
    StepRecord,
    StoppedRecord,
)
from llama_core.train import train
from tests.core_tools import BATCH_TOKENS, batches, recipe, tiny

# A checkpoint after every step.
EAGER = Placement(checkpoint_every_s=1e-9, threads=1)
# No checkpoint before the end.
LAZY = Placement(checkpoint_every_s=1e9, threads=1)


def run(cfg, *, model=None, placement=LAZY, checkpoints=None):
    model = model or tiny()
    return list(train(model, cfg, batches(cfg), placement=placement, checkpoints=checkpoints))


def curve(records):
    """The values of records that must not depend on time or machine."""
    rows = []
    for record in records:
        if isinstance(record, StepRecord):
            rows.append((record.step, record.horizon, record.loss, record.lr, record.grad_norm))
        elif isinstance(record, EvalRecord):
            rows.append((record.horizon, record.val_loss, record.val_bpb, record.weights_sha256))
    return rows


def stopped_and_resumed(cfg, folder, stops):
    """The records a careful listener has when the run is stopped after each of these counts."""
    rows = []
    for stop in (*stops, None):
        records = train(tiny(), cfg, batches(cfg), placement=EAGER, checkpoints=folder)
        for count, record in enumerate(records):
            if isinstance(record, ResumeRecord):
                stems = [Path(getattr(row, "path", "")).stem for row in rows]
                rows = rows[: stems.index(record.checkpoint) + 1]
                continue
            if count == 0:
                rows = []  # no checkpoint was committed: the run starts again
            rows.append(record)
            if count == stop:
                break
        records.close()
    return rows


def test_training_lowers_the_loss_and_ends_with_one_evaluation_for_each_horizon():
    cfg = recipe(60, 120)
    records = run(cfg)
    steps = [r for r in records if isinstance(r, StepRecord)]
    evals = [r for r in records if isinstance(r, EvalRecord)]
    assert [r.horizon for r in evals] == list(cfg.schedule.horizons)
    assert evals[1].val_loss < evals[0].val_loss < math.log(32) - 0.3
    assert steps[0].loss == pytest.approx(math.log(32), abs=0.05)
    # 42 + 18, then 42 + 36 more.
    assert len(steps) == 42 + 18 + 42 + 36
    assert all(r.tokens == r.step * BATCH_TOKENS for r in steps)


@pytest.mark.parametrize("name", ["gpt3", "palm"])
def test_other_blocks_learn_too(name):
    made = bundle(name)
    learned = 16 if made.block.positions == "learned" else None
    model = tiny(
        block=made.block, tie_embeddings=made.tie_embeddings, qk_norm=False, max_positions=learned,
        d_ffn=made.d_ffn(16, multiple_of=8),
    )  # fmt: skip
    cfg = recipe(60, z_loss=made.z_loss)
    (last,) = [r for r in run(cfg, model=model) if isinstance(r, EvalRecord)]
    assert last.val_loss < math.log(32) - 0.3


def test_a_model_with_too_few_learned_positions_is_refused_before_training():
    model = tiny(block=Block(positions="learned"), max_positions=15)
    with pytest.raises(ValueError, match="sequence of 16 tokens is longer than the table"):
        run(recipe(4), model=model)


def test_bits_per_byte_follow_from_nats_and_the_bytes_of_a_token():
    (last,) = [r for r in run(recipe(5)) if isinstance(r, EvalRecord)]
    # Every token of the generated stream counts as two bytes.
    assert last.val_bpb == pytest.approx(last.val_loss / math.log(2) / 2)


def test_a_branch_leaves_the_trunk_as_it_was():
    whole = [r for r in run(recipe(20, 40)) if isinstance(r, StepRecord) and r.horizon is None]
    alone = [r for r in run(recipe(40)) if isinstance(r, StepRecord) and r.horizon is None]
    assert curve(whole) == curve(alone)


def test_a_horizons_loss_does_not_depend_on_the_other_horizons_of_its_run():
    several, single = run(recipe(20, 30, 40)), run(recipe(30))
    of_30 = [row for row in curve(several) if row[0] == 30 * BATCH_TOKENS]
    assert of_30 == [row for row in curve(single) if row[0] == 30 * BATCH_TOKENS]


def test_the_same_seed_gives_the_same_curve_and_another_seed_another():
    assert curve(run(recipe(10))) == curve(run(recipe(10)))
    assert curve(run(recipe(10))) != curve(run(recipe(10, seed=1)))


def test_micro_batches_change_the_loss_by_rounding_alone():
    whole = run(recipe(10), placement=LAZY)
    parts = run(recipe(10), placement=LAZY.model_copy(update={"micro_batch_rows": 1}))
    for first, second in zip(whole, parts, strict=True):
        if isinstance(first, StepRecord):
            # Another order of summation in fp32, carried through ten steps.
            assert first.loss == pytest.approx(second.loss, abs=2e-5)


@pytest.mark.parametrize(
    "changes", [{}, {"dtype": "bfloat16"}, {"optimizer": Muon(lr=0.01), "z_loss": 1e-4}]
)
def test_stopped_anywhere_and_resumed_the_curve_is_the_same(tmp_path, changes):
    cfg = recipe(8, 16, **changes)
    expected = curve(run(cfg))
    stops = [0, 5, 9, 14, 1, 20, 3]
    rows = stopped_and_resumed(cfg, tmp_path / "checkpoints", stops)
    assert curve(rows) == expected


def a_step_ahead(monkeypatch):
    """Train on the CPU as on a GPU; the order of launches and reads of numbers is returned."""
    order = []
    launch, finish = LaunchedSteps.add, LaunchedSteps.finish

    def adding(self, step, *rest):
        order.append(("launched", step))
        launch(self, step, *rest)

    def finishing(self, *, leave):
        for done in finish(self, leave=leave):
            order.append(("read", done.step))
            yield done

    monkeypatch.setattr("llama_core.train.steps_ahead", lambda device: 1)
    monkeypatch.setattr(LaunchedSteps, "add", adding)
    monkeypatch.setattr(LaunchedSteps, "finish", finishing)
    return order


def test_a_step_launched_before_the_last_is_read_changes_no_record(tmp_path, monkeypatch):
    cfg = recipe(5, 10)
    diverging = recipe(400, optimizer=AdamW(lr=30.0), clip_norm=1e9, warmup_tokens=0)
    whole, bad = curve(run(cfg)), run(diverging)
    order = a_step_ahead(monkeypatch)
    assert curve(run(cfg)) == whole
    # The trunk's three steps: the second runs when the first is read; a branch waits for all.
    launched, read = "launched", "read"
    assert order[:6] == [
        (launched, 1), (launched, 2), (read, 1), (launched, 3), (read, 2), (read, 3),
    ]  # fmt: skip
    assert curve(stopped_and_resumed(cfg, tmp_path / "c", (4, 5, 9))) == whole
    late = run(diverging)
    assert curve(late) == curve(bad)
    assert (late[-1].step, late[-1].reason) == (bad[-1].step, bad[-1].reason)


def test_no_checkpoint_is_written_after_a_step_that_diverged(tmp_path, monkeypatch):
    a_step_ahead(monkeypatch)
    diverging = recipe(400, optimizer=AdamW(lr=30.0), clip_norm=1e9, warmup_tokens=0)
    records = run(diverging, placement=EAGER, checkpoints=tmp_path / "c")
    saved = [record.step for record in records if isinstance(record, CheckpointRecord)]
    assert isinstance(records[-1], DivergedRecord)
    assert max(saved) < records[-1].step


def test_a_finished_run_yields_only_a_resume_record(tmp_path):
    cfg = recipe(4)
    run(cfg, checkpoints=tmp_path / "c")
    (only,) = run(cfg, checkpoints=tmp_path / "c")
    assert isinstance(only, ResumeRecord)
    assert only.step == 4


def test_a_checkpoint_is_committed_only_when_the_next_record_is_requested(tmp_path):
    cfg = recipe(10)
    records = train(tiny(), cfg, batches(cfg), placement=EAGER, checkpoints=tmp_path / "c")
    while not isinstance(next(records), CheckpointRecord):
        pass
    records.close()
    first = next(train(tiny(), cfg, batches(cfg), placement=LAZY, checkpoints=tmp_path / "c"))
    assert isinstance(first, StepRecord)
    assert first.step == 1


def test_weights_of_every_horizon_are_kept_beside_the_checkpoints(tmp_path):
    cfg = recipe(4, 8)
    evals = [r for r in run(cfg, checkpoints=tmp_path / "c") if isinstance(r, EvalRecord)]
    for record in evals:
        kept = load_file(tmp_path / f"final_{record.horizon}.safetensors")
        assert sum(w.numel() for w in kept.values()) == count_params(tiny()).total
    assert evals[0].weights_sha256 != evals[1].weights_sha256


def test_a_damaged_checkpoint_is_skipped_and_named(tmp_path):
    cfg = recipe(2_000)
    records = train(tiny(), cfg, batches(cfg), placement=EAGER, checkpoints=tmp_path)
    for _ in range(3):
        while not isinstance(next(records), CheckpointRecord):
            pass
    records.close()
    # The third is written but was not committed: two count.
    older, newest = (path.with_suffix(".safetensors") for path in sorted(tmp_path.glob("*.json")))
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(bytes(content))
    first = next(train(tiny(), cfg, batches(cfg), placement=LAZY, checkpoints=tmp_path))
    assert isinstance(first, ResumeRecord)
    assert first.checkpoint == older.stem
    assert newest.stem in first.skipped[0]


def test_a_checkpoint_whose_header_cannot_be_opened_is_skipped_and_named(tmp_path):
    cfg = recipe(3)
    run(cfg, checkpoints=tmp_path)
    [header] = tmp_path.glob("*.json")
    header.unlink()
    header.mkdir()
    newest = CheckpointStore(tmp_path, identity="", keep=2).newest()
    assert newest.checkpoint is None
    assert f"{header.stem} is damaged: its header cannot be read" in newest.skipped[0]


def test_checkpoints_of_another_run_are_refused(tmp_path):
    cfg = recipe(3)
    run(cfg, checkpoints=tmp_path / "c")
    with pytest.raises(ValueError, match="another run"):
        run(recipe(4), checkpoints=tmp_path / "c")


def test_a_learning_rate_far_too_high_ends_as_diverged_never_as_an_observation():
    cfg = recipe(400, optimizer=AdamW(lr=30.0), clip_norm=1e9, warmup_tokens=0)
    records = run(cfg)
    assert isinstance(records[-1], DivergedRecord)
    assert "loss" in records[-1].reason
    assert not any(isinstance(r, EvalRecord) for r in records)


def test_z_loss_moves_training_but_is_not_in_the_loss_reported():
    plain, pulled = run(recipe(10)), run(recipe(10, z_loss=0.1))
    assert plain[0].loss == pulled[0].loss
    assert curve(plain)[-1] != curve(pulled)[-1]


def test_batches_of_another_recipe_are_refused():
    with pytest.raises(ValueError, match="another recipe"):
        next(train(tiny(), recipe(4, seed=2), batches(recipe(4))))


def test_a_vocabulary_smaller_than_the_tokenizers_is_refused():
    cfg = recipe(4)
    with pytest.raises(ValueError, match="vocab_size"):
        next(train(tiny(vocab_size=8), cfg, batches(cfg)))


def test_torchs_settings_are_restored_after_training():
    before = (torch.get_num_threads(), torch.backends.mkldnn.matmul.fp32_precision)
    run(recipe(2), placement=replace_threads(1))
    assert (torch.get_num_threads(), torch.backends.mkldnn.matmul.fp32_precision) == before


@pytest.mark.parametrize(("dtype", "warns"), [("float32", False), ("bfloat16", True)])
def test_bf16_on_a_processor_without_it_is_warned_about(monkeypatch, caplog, dtype, warns):
    monkeypatch.setattr("llama_core.machine.multiplies_bf16", lambda: False)
    run(recipe(2, dtype=dtype))
    assert ("no bf16 matmuls" in caplog.text) is warns


def replace_threads(threads):
    return LAZY.model_copy(update={"threads": threads})


def test_a_stopped_training_resumes_at_the_same_step(tmp_path):
    cfg = recipe(12, 20)
    folder, held = tmp_path / "checkpoints", []

    def steps():
        return sum(isinstance(record, StepRecord) for record in held)

    def sitting(stop):
        records = train(
            *(tiny(), cfg, batches(cfg)),
            placement=LAZY,
            checkpoints=folder,
            stop=lambda: steps() == stop,
        )
        for record in records:
            held.append(record)
        return held[-1]

    # On the trunk, on the branch, and on the trunk again.
    for stop in (4, 10, 15):
        assert isinstance(sitting(stop), StoppedRecord)
        assert steps() == stop
    assert not isinstance(sitting(None), StoppedRecord)
    assert curve(held) == curve(run(cfg))


def kept_guard(folder):
    """The guard in the newest checkpoint."""
    return LossGuard.from_notes(
        json.loads(max(folder.glob("*.json")).read_text())["notes"]["guard"]
    )


def test_after_a_branch_the_guard_continues_from_the_losses_of_the_trunk(tmp_path):
    cfg, watched = recipe(12, 20), LossGuard()
    for record in run(cfg, checkpoints=tmp_path / "c"):
        # The last branch ends the path; training does not return from it.
        if isinstance(record, StepRecord) and record.horizon != 12 * BATCH_TOKENS:
            watched.failure_reason(record.loss, record.grad_norm)
    kept = kept_guard(tmp_path / "c")
    assert (kept.smoothed, kept.lowest) == (watched.smoothed, watched.lowest)


@pytest.mark.parametrize("stop", [4, 10, 15])
def test_a_resumed_training_remembers_the_losses_before_it(tmp_path, stop):
    cfg, steps = recipe(12, 20), []
    run(cfg, checkpoints=tmp_path / "whole")
    sitting = train(
        *(tiny(), cfg, batches(cfg)),
        placement=LAZY,
        checkpoints=tmp_path / "c",
        stop=lambda: len(steps) == stop,
    )
    for record in sitting:
        if isinstance(record, StepRecord):
            steps.append(record)
    run(cfg, checkpoints=tmp_path / "c")
    assert kept_guard(tmp_path / "c") == kept_guard(tmp_path / "whole")
