"""The speed of a GPU that is not here follows published trainings, or a share that is given."""

import pytest

from analysis import published
from flows.cost import assumed as module
from flows.cost.assumed import SPREAD, Gpu, assumed, device_of, micro_batch_rows, published_mfu
from flows.cost.estimate import estimate
from llama_core.config import Placement
from llama_core.counting import train_flops
from llama_core.schedule import tokens_spent
from sweeps.cap import AssumedSpeed
from sweeps.load import load_spec
from sweeps.plan import Plan
from sweeps.spec import DataRef
from tests.fakes import planned_run

H100 = device_of(AssumedSpeed(gpu="h100"))


def whole_s(run, speed):
    plan = Plan(spec=load_spec("smoke"), data=DataRef(digest="x"), runs=(run,), warnings=())
    return estimate(plan, speed, {run.id: 0}, slots=1).runs[run.id].whole_s


def test_a_gpu_is_listed_by_name_and_alias_or_described_by_its_peak_and_memory():
    for row in published.devices().iter_rows(named=True):
        by_name, by_alias = (device_of(AssumedSpeed(gpu=row[key])) for key in ("name", "aliases"))
        assert by_name == by_alias
        assert by_name.flops == row["flops"]
    with pytest.raises(published.UnknownName):
        device_of(AssumedSpeed(gpu="no such thing", peak=1e14))
    own = AssumedSpeed(gpu="mine", peak=1e14, memory_gb=48)
    assert device_of(own) == Gpu("mine", 1e14, 48e9, None)
    half = device_of(AssumedSpeed(gpu="h100", memory_gb=40))
    assert (half.memory_bytes, half.flops, half.usd_per_hour) == (40e9, H100.flops, 2.0)


def test_a_given_mfu_is_that_share_of_the_peak_for_every_run():
    run = planned_run(width=64, steps=(100, 200))
    speed = assumed(AssumedSpeed(gpu="h100", mfu=0.4), H100, Placement())
    model, train = run.run.model, run.run.train
    evaluated = 2 * train_flops(model, 128, train.eval_tokens) / 3
    spent = train_flops(model, 128, tokens_spent(train))
    assert whole_s(run, speed) == pytest.approx((spent + evaluated) / (0.4 * 989e12))
    assert "MFU 0.4 of the H100-80GB's dense bf16 peak of 989 TFLOP/s" in speed.basis


def test_ranks_train_and_validate_together():
    run = planned_run(width=64, steps=(100, 200))
    given = AssumedSpeed(gpu="h100", mfu=0.4)
    one, two = (assumed(given, H100, Placement(ranks=ranks)).timing(run) for ranks in (1, 2))
    assert two.step_s == pytest.approx(one.step_s / 2)
    assert two.eval_s_per_token == pytest.approx(one.eval_s_per_token / 2)


def test_the_published_trainings_lie_within_the_stated_spread_of_their_curve():
    for row in published.training_speeds().iter_rows(named=True):
        N = row["n_params"]
        flops = 6 * N + 6 * row["n_layers"] * row["seq_len"] * row["d_model"]
        mfu = flops * row["tokens_per_s"] / published.device(row["device"])["flops"]
        assert 1 / SPREAD < mfu / published_mfu(N) < SPREAD, row["system"]
    # Touvron et al. 2023, table 15: 6ND over the whole job is 0.437 of the A100's peak.
    llama = published.training_speeds().row(-1, named=True)
    assert 6 * 6.738e9 * llama["tokens_per_s"] / 312e12 == pytest.approx(0.437, abs=0.001)


def test_small_models_and_small_micro_steps_reach_less_of_the_peak():
    smallest = min(published.training_speeds()["n_params"])
    assert published_mfu(smallest // 16) == pytest.approx(published_mfu(smallest) / 4, rel=0.02)
    assert published_mfu(10**12) == published_mfu(10**10)
    run = planned_run(width=64)
    speed = assumed(AssumedSpeed(gpu="h100"), H100, Placement())
    # 1,024 tokens a step where 8,192 keep the GPU busy.
    share = published_mfu(run.n_params) / 8
    step = train_flops(run.run.model, 128, 1024) / (share * 989e12)
    timing = speed.timing(run)
    assert timing.step_s == pytest.approx(step)
    assert timing.blocks == pytest.approx((step / SPREAD, step, step * SPREAD))
    assert "the share that published trainings of each size reach of the" in speed.basis


def test_a_micro_step_is_what_memory_leaves_and_the_placement_wants(monkeypatch):
    run = planned_run(width=64)
    assert micro_batch_rows(run, Placement(), 80e9) == 8
    assert micro_batch_rows(run, Placement(micro_batch_rows=2), 80e9) == 2
    assert micro_batch_rows(run, Placement(ranks=4), 80e9) == 2
    budgets = []
    monkeypatch.setattr(module, "rows_that_fit", lambda *_, budget, **__: budgets.append(budget))
    micro_batch_rows(run, Placement(), 10e9)
    assert budgets == [pytest.approx(8.5e9)]
