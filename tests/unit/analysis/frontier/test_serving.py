from dataclasses import replace

import numpy as np
import pytest

from analysis import published
from analysis.frontier.allocation import FrontierError
from analysis.frontier.serving import Device, DoesNotFit, Serving, Shape
from analysis.frontier.serving_choice import (
    ServedChoice,
    Workload,
    flop_price,
    general_condition_residual,
    largest_size,
    menu,
    smooth_choice,
)

# ruff: noqa: SIM300 - N and D are symbols here, not constants

A100 = Device.named("a100")
BESIROGLU = published.law("besiroglu")
# Of the compute-optimal 13B under Besiroglu.
LOSS = BESIROGLU.E + BESIROGLU.A * 13e9**-BESIROGLU.alpha * (1 + BESIROGLU.alpha / BESIROGLU.beta)


@pytest.mark.parametrize(
    ("model", "kv_bytes"),
    [
        ("LLaMA-7B", 524_288),
        ("LLaMA-13B", 819_200),
        ("LLaMA-33B", 1_597_440),
        ("LLaMA-65B", 2_621_440),
        ("Llama-2-70B", 327_680),
        ("Llama-3-8B", 131_072),
    ],
)
def test_the_cache_of_a_token_follows_from_the_shape(model: str, kv_bytes: int) -> None:
    # 2·layers·key-value heads·head dimension, two bytes each.
    assert 2 * Shape.published(model).kv_values == kv_bytes


@pytest.mark.parametrize(
    ("model", "batch"),
    [("LLaMA-7B", 54), ("LLaMA-13B", 27), ("LLaMA-33B", 2), ("Llama-3-8B", 208), ("LLaMA-65B", 0)],
)
def test_the_batch_that_fits_one_gpu(model: str, batch: int) -> None:
    # 90 % of 80 GB, context 2048.
    assert Serving(A100, context=2048).largest_batch(Shape.published(model)) == batch


def test_the_ridge_lies_where_arithmetic_takes_over() -> None:
    assert Serving(A100).ridge_batch == pytest.approx(153, abs=0.5)
    assert Serving(Device.named("h100")).ridge_batch == pytest.approx(295, abs=0.5)
    shape = Shape.published("LLaMA-7B")
    slow = Serving(A100, batch=2000, context=1, mfu=1.0, mbu=1.0)
    assert slow.decode_mfu(shape) == pytest.approx(1.0, rel=1e-3)


# An A100-80 at MBU 0.7, MFU 0.5, context 1024: tokens a second, dollars a million, MFU.
@pytest.mark.parametrize(
    ("batch", "speed", "price", "mfu"),
    [(1, 101.9, 4.09, 0.0044), (8, 642, 0.65, 0.028), (32, 1490, 0.28, 0.064)],
)
def test_decoding_is_bound_by_bandwidth(batch: int, speed: float, price: float, mfu: float) -> None:
    shape = Shape.published("LLaMA-7B")
    serving = Serving(A100, batch=batch, mfu=0.5, mbu=0.7)
    assert batch / serving.step_gpu_seconds(shape) == pytest.approx(speed, rel=1e-3)
    assert 1e6 * serving.usd_per_generated_token(shape) == pytest.approx(price, rel=0.01)
    assert serving.decode_mfu(shape) == pytest.approx(mfu, rel=0.02)
    assert 1e6 * serving.usd_per_prompt_token(shape) == pytest.approx(0.0367, rel=0.01)


def test_the_measured_point_is_given_back() -> None:
    # 13B on one A100-40, context 512, batch 1: 63.17 ms prefill, 22.0 ms a token (kipp.ly). The
    # defaults were read off without attention's share, which is about 2 % here.
    shape = Shape.published("LLaMA-13B")
    serving = Serving(Device.named("a100-40"), batch=1, context=512, prompt=512)
    assert 1e3 * serving.prefill_gpu_seconds(shape) == pytest.approx(63.17, rel=0.03)
    assert 1e3 * serving.step_gpu_seconds(shape) == pytest.approx(22.0, rel=0.03)


@pytest.mark.parametrize(
    ("batch", "kv_share", "bits", "N", "D", "spend", "saving"),
    [
        (1, 1.0, 16, 3.75e9, 2.60e12, 2.63, 0.61),
        (8, 1.0, 16, 5.51e9, 0.90e12, 1.23, 0.34),
        (32, 1.0, 16, 6.93e9, 0.58e12, 0.83, 0.18),
        (32, 1 / 8, 16, 7.83e9, 0.48e12, 0.52, 0.13),
        (32, 1.0, 4, 7.86e9, 0.48e12, 0.67, 0.11),
        (128, 1 / 8, 16, 9.77e9, 0.36e12, 0.27, 0.036),
    ],
)
def test_cheaper_serving_argues_for_a_larger_model(
    batch: int, kv_share: float, bits: int, N: float, D: float, spend: float, saving: float
) -> None:
    # 1e9 requests of 70 + 215 tokens, computed with another interpolation of shapes between
    # LLaMA's sizes, which moves N by up to 1 % and the spend by up to 4 %.
    serving = Serving(A100, batch=batch, prompt=70, weight_bits=bits)
    choice = smooth_choice(BESIROGLU, LOSS, serving, Workload(70e9, 215e9, A100), kv_share=kv_share)
    assert choice.N == pytest.approx(N, rel=0.01)
    assert choice.D == pytest.approx(D, rel=0.03)
    assert choice.spend_ratio == pytest.approx(spend, rel=0.04)
    assert choice.saving == pytest.approx(saving, abs=0.01)
    assert abs(general_condition_residual(BESIROGLU, choice)) < 1e-5


def test_a_bill_that_follows_n_alone_has_elasticity_one() -> None:
    # Without cache (one byte-sized context) and with batch 1 only the weights are read.
    serving = Serving(A100, batch=1, context=1e-6, prompt=1e-6)
    choice = smooth_choice(BESIROGLU, LOSS, serving, Workload(0.0, 1e12, A100))
    assert choice.eta == pytest.approx(1.0, abs=1e-6)


def test_a_cap_by_memory_is_the_answer_when_it_binds() -> None:
    # LLaMA-65B's quality on one 24 GB card at 4 bits: computed, with 2 GB set aside for the
    # cache, as 39.2B on 2.72T tokens. Here the cache of 1024 tokens is counted, 1.9 GB.
    law = BESIROGLU
    loss = float(law.loss(65285660672, 1.4e12))
    l4 = Device.named("l4", usd_per_hour=0.8)
    serving = Serving(l4, batch=1, weight_bits=4, gpus=1)
    choice = smooth_choice(law, loss, serving, Workload(0.0, 1e9, l4))
    assert choice.capped
    assert choice.N == pytest.approx(largest_size(serving), rel=1e-9)
    assert choice.gpus == 1
    assert choice.N == pytest.approx(39.2e9, rel=0.01)
    assert choice.D == pytest.approx(2.72e12, rel=0.03)
    assert law.loss(choice.N, choice.D) == pytest.approx(loss, rel=1e-9)
    # One more hundredth of a GB is worth a hundredth of the price of a GB.
    roomier = replace(l4, memory_bytes=24e9 + 0.01e9 / 0.9)
    more = smooth_choice(law, loss, replace(serving, device=roomier), Workload(0.0, 1e9, l4))
    assert choice.total_usd - more.total_usd == pytest.approx(0.01 * choice.usd_per_gb, rel=0.01)


def test_a_quality_too_large_for_the_gpus_is_refused() -> None:
    loss = 1.9
    serving = Serving(A100, batch=1, gpus=1)
    with pytest.raises(DoesNotFit, match="Use more GPUs, fewer bits"):
        smooth_choice(BESIROGLU, loss, serving, Workload(0.0, 1e12, A100))


def test_a_model_that_does_not_fit_is_refused_with_what_would() -> None:
    shape = Shape.published("LLaMA-65B")
    with pytest.raises(DoesNotFit, match="use fewer bits"):
        Serving(A100, gpus=1).require_fit(shape)
    with pytest.raises(DoesNotFit, match="A batch of 54 fits"):
        Serving(A100, batch=100, context=2048, gpus=1).require_fit(Shape.published("LLaMA-7B"))
    assert Serving(A100).require_fit(shape) == 3


def test_the_menu_prices_every_shape_or_says_why_not() -> None:
    shapes = [Shape.published(name) for name in ("LLaMA-7B", "LLaMA-13B", "LLaMA-65B")]
    workload = Workload(70e9, 215e9, A100)
    table = menu(BESIROGLU, 2.0, Serving(A100, gpus=2), workload, shapes)
    reasons = dict(zip(table["model"], table["reason"], strict=True))
    assert "too small" in reasons["LLaMA-7B"]
    assert "does not fit" in reasons["LLaMA-65B"]
    assert reasons["LLaMA-13B"] is None


def test_whole_gpus_make_small_demands_dearer() -> None:
    shapes = [Shape.published(name) for name in ("LLaMA-7B", "LLaMA-13B")]
    workload = Workload(0.0, 1e8, A100)
    serving = Serving(A100)
    by_second = menu(BESIROGLU, LOSS, serving, workload, shapes)
    rented = menu(BESIROGLU, LOSS, serving, workload, shapes, days=365)
    # One A100 for a year at $1.50 an hour, whatever the model.
    assert rented["inference_usd"].to_list() == [365 * 24 * 1.5] * 2
    assert (by_second["inference_usd"] < 1000).all()
    assert by_second["total_usd"].is_sorted()


def test_rented_replicas_grow_in_whole_steps() -> None:
    shape = [Shape.published("LLaMA-7B")]
    gpus = [
        menu(BESIROGLU, LOSS, Serving(A100), Workload(0.0, tokens, A100), shape, days=30)["gpus"][0]
        for tokens in (1e9, 1e10, 3e10)
    ]
    assert gpus == sorted(gpus)
    assert gpus[0] == 1
    assert gpus[-1] > 10


def test_devices_without_a_price_ask_for_one() -> None:
    with pytest.raises(FrontierError, match="give dollars an hour"):
        Device.named("l4")
    with pytest.raises(FrontierError, match="not above zero"):
        Device.named("h100", usd_per_hour=-1)
    with pytest.raises(published.UnknownName, match="Did you mean h100"):
        Device.named("h10")


@pytest.mark.parametrize(
    "wrong", [{"batch": 0}, {"context": -1.0}, {"weight_bits": 0.0}, {"mfu": 1.5}, {"mbu": 0.0}]
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(FrontierError, match=next(iter(wrong))):
        Serving(A100, **wrong)  # type: ignore[arg-type]


def test_shapes_between_llamas_follow_llama() -> None:
    for name in ("LLaMA-13B", "LLaMA-33B"):
        real = Shape.published(name)
        like = Shape.llama_like(real.n_params)
        # LLaMA's own widths scatter around any power law.
        assert like.kv_values == pytest.approx(float(real.kv_values), rel=0.05)


def test_a_flop_costs_what_an_hour_divided_by_its_flops_costs() -> None:
    assert flop_price(A100, 0.5) == pytest.approx(1.5 / 3600 / (0.5 * 312e12))


def test_bills_of_many_sizes_come_at_once() -> None:
    serving = Serving(A100)
    sizes = np.array([1e9, 1e10])
    together = serving.bill(Shape.llama_like(sizes), prompt_tokens=1e12, generated_tokens=1e12)
    alone = [
        float(serving.bill(Shape.llama_like(N), prompt_tokens=1e12, generated_tokens=1e12))
        for N in sizes
    ]
    assert together.tolist() == alone


def test_a_choice_adds_up() -> None:
    choice = smooth_choice(BESIROGLU, LOSS, Serving(A100), Workload(70e9, 215e9, A100))
    assert isinstance(choice, ServedChoice)
    assert choice.total_usd == choice.train_usd + choice.inference_usd
    assert choice.total_usd < choice.baseline_usd
