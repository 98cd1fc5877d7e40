"""Published rules give the values that their papers print, and name where they were measured."""

import pytest

from analysis.published import lr_rules
from llama_core.config import ModelConfig
from llama_core.counting import count_params, non_embedding_flops_per_token
from sweeps.choices import PublishedRecipe
from sweeps.grid import Cell
from sweeps.plan_warnings import doubts
from sweeps.published_rules import RULES
from sweeps.recipe import has_budget, rates
from tests.fakes import planned_run
from tests.unit.sweeps.test_plan_warnings import spec_of


def llama(*, d_model=768, n_layers=12, kv_heads=None, d_ffn=None, vocab_size=50_304):
    heads = d_model // 128 if d_model > 1024 else d_model // 64
    return ModelConfig(
        vocab_size=vocab_size, d_model=d_model, n_layers=n_layers, n_heads=heads,
        n_kv_heads=kv_heads or heads, head_dim=d_model // heads, d_ffn=d_ffn or 4 * d_model,
    )  # fmt: skip


# Bi et al. 2024, table 2: both were trained to 2T tokens in sequences of 4,096. Their sizes are
# rounded to what the machine likes: the batch of the 67B is 9 % below its formula's.
@pytest.mark.parametrize(
    ("model", "lr", "sequences", "within"),
    [
        (llama(d_model=4096, n_layers=30, d_ffn=11_008), 4.2e-4, 2304, 0.03),
        (llama(d_model=8192, n_layers=95, kv_heads=8, d_ffn=22_016), 3.2e-4, 4608, 0.11),
    ],
)
def test_deepseeks_rule_gives_the_rate_and_batch_of_its_own_models(model, lr, sequences, within):
    rate = rates(PublishedRecipe(kind="deepseek"), model, tokens=2e12, seq_len=4096)
    assert rate.lr == pytest.approx(lr, rel=0.03)
    assert rate.batch_tokens / 4096 == pytest.approx(sequences, rel=within)


def test_deepseeks_compute_counts_whole_squares_of_attention_and_no_head():
    # Eq. 2 with 12·d² parameters a layer: four of attention and two of a feed-forward of 4·d,
    # here three of 8/3·d.
    model = llama(d_model=768, n_layers=12, d_ffn=2048)
    M = 72 * 12 * 768**2 + 12 * 12 * 768 * 2048
    assert non_embedding_flops_per_token(model, 2048) == M
    larger = model.model_copy(update={"vocab_size": 1_000_000})
    assert non_embedding_flops_per_token(larger, 2048) == M


def test_olmos_ladder_has_160_sequences_and_a_rate_of_0_0047_at_108_million_parameters():
    scale = {"N": 108e6, "D": 1.0, "C": 1.0}
    assert RULES["olmo"].lr.at(scale) == pytest.approx(0.0047)
    assert RULES["olmo"].batch.at(scale) == pytest.approx(160 * 2048)
    eightfold = scale | {"N": 8 * 108e6}
    assert RULES["olmo"].lr.at(eightfold) == pytest.approx(0.0047 / 2)
    assert RULES["olmo"].batch.at(eightfold) == pytest.approx(4 * 160 * 2048)
    # It takes those two values from Porian et al., whose printed laws are rounded.
    assert RULES["porian"].lr.at(scale) == pytest.approx(0.0047, rel=0.02)
    assert RULES["porian"].batch.at(scale) == pytest.approx(160 * 2048, rel=0.04)


def test_step_laws_exponents_are_of_its_own_n_and_d():
    scale = {"N": 2.0**30, "D": 1e11, "C": 1.0}
    assert RULES["steplaw"].lr.at(scale) == pytest.approx(1.79 * 2**-21.39 * 10**3.377)
    assert RULES["steplaw"].batch.at(scale) == pytest.approx(0.58 * 10**6.281)


def test_the_constants_are_those_of_the_table_of_rules():
    table = {(row["rule"], row["quantity"]): row for row in lr_rules().iter_rows(named=True)}
    for kind, year in (("steplaw", "2025"), ("deepseek", "2024"), ("porian", "2024")):
        for quantity in ("lr", "batch_tokens"):
            row = table.get((kind + year, quantity))
            if row is None:
                continue
            power = getattr(RULES[kind], quantity.removesuffix("_tokens"))
            exponents = (row["exponent_N"], row["exponent_D"], row["exponent_C"])
            assert (power.coef, power.N, power.D, power.C) == (row["coef"], *exponents)


@pytest.mark.parametrize("kind", list(RULES))
def test_a_rules_n_is_with_the_head_or_without_it(kind):
    model = llama()
    counts = count_params(model)
    scale = RULES[kind].scale(model, tokens=1e9, seq_len=2048)
    with_head = kind in ("porian", "olmo")
    assert scale["N"] == (counts.n_params if with_head else counts.non_embedding)
    assert scale["D/N"] == 1e9 / scale["N"]


@pytest.mark.parametrize("kind", list(RULES))
def test_a_rules_batch_is_rounded_to_sequences_that_split_evenly_and_the_specs_is_kept(kind):
    rule, model = RULES[kind], llama()
    wanted = rule.batch.at(rule.scale(model, tokens=1e10, seq_len=2048))
    rate = rates(PublishedRecipe(kind=kind), model, tokens=1e10, seq_len=2048)
    # It splits into equal micro-steps: at most four binary digits of its sequences are not zero.
    assert rate.batch_tokens % (2048 * 2 ** ((rate.batch_tokens // 2048).bit_length() - 4)) == 0
    assert abs(rate.batch_tokens - wanted) <= wanted / 16
    assert "tokens in whole sequences" in rate.source
    assert rule.source in rate.source
    # One sequence is the least.
    assert (
        rates(PublishedRecipe(kind=kind), model, tokens=1e10, seq_len=10**9).batch_tokens == 10**9
    )
    own = PublishedRecipe(kind=kind, batch_tokens=4096)
    kept = rates(own, model, tokens=1e10, seq_len=2048)
    assert (kept.batch_tokens, kept.lr) == (4096, rate.lr)
    assert "the spec's batch" in kept.source


@pytest.mark.parametrize("kind", list(RULES))
def test_a_rule_follows_the_budget_only_if_it_has_one(kind):
    short, long = (
        rates(PublishedRecipe(kind=kind), llama(), tokens=tokens, seq_len=2048)
        for tokens in (1e9, 1e11)
    )
    assert (
        (short != long)
        is has_budget(PublishedRecipe(kind=kind))
        is (kind in ("steplaw", "deepseek"))
    )


def run_of(kind, tokens, *, batch_tokens=None):
    """A run of a model of 190 million parameters under a rule, to one budget."""
    # 152M without embedding and head: outside Step Law's grid; OLMo's smallest is 190M.
    model = llama(n_layers=16)
    recipe = PublishedRecipe(kind=kind, batch_tokens=batch_tokens)
    rate = rates(recipe, model, tokens=tokens, seq_len=2048)
    run = planned_run()
    train = run.run.train.model_copy(
        update={"batch_tokens": rate.batch_tokens, "seq_len": 2048, "warmup_tokens": 1}
    )
    return run.model_copy(
        update={
            "name": "d768",
            "run": run.run.model_copy(update={"model": model, "train": train}),
            "cells": (Cell(tokens=int(tokens), flops_budget=None, train_flops=1),),
        }
    ), recipe


def warnings_of(kind, tokens, **changes):
    run, recipe = run_of(kind, tokens, **changes)
    return " ".join(doubts(spec_of(recipe=recipe), [run], None))


def test_a_run_inside_the_range_of_its_rule_is_not_doubted():
    assert warnings_of("olmo", 1e10) == ""
    assert warnings_of("deepseek", 1e10) == ""


def test_a_run_outside_the_range_of_its_rule_is_named_with_the_range_and_its_source():
    steplaw = warnings_of("steplaw", 1e9)
    assert "learning rate and batch of d768 are extrapolated" in steplaw
    assert "N without embedding and head = 215M to 1.07B, here 151M" in steplaw
    assert "D = 4B to 100B, here 1B" in steplaw
    assert "arXiv:2503.04715" in steplaw
    assert "C = 1.00e+17 to 1.00e+20, here 2.42e+20 (Deep" in warnings_of("deepseek", 2e11)
    # N and D may each lie 1.2 times outside, and so their product 1.44 times.
    assert "C = " not in warnings_of("deepseek", 1.1e11)
    porian = warnings_of("porian", 20.0 * 190e6)
    assert "N = 25M to 110M" in porian
    assert "D/N" not in porian
    assert "D/N = 20 to 200, here 527" in warnings_of("olmo", 1e11)


def test_a_batch_far_from_the_rules_is_doubted_since_the_rate_belongs_to_the_rules():
    wanted = run_of("olmo", 1e10)[0].run.train.batch_tokens
    for batch, doubted in ((wanted, False), (wanted // 2, False), (wanted // 4, True)):
        warnings = warnings_of("olmo", 1e10, batch_tokens=batch)
        assert (f"for d768 the rule asks for {wanted:,}" in warnings) is doubted
