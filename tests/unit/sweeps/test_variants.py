"""Variants of a sweep: laid over the base, planned beside it, refused by name."""

import pytest
import yaml

from llama_core.config import AdamW, Block, Muon
from sweeps.load import SpecError, load_spec
from sweeps.plan import Plan, members, plan
from sweeps.spec import DataRef, SweepSpec

BASE = {
    "name": "mine",
    "ladder": {"widths": [24, 48]},
    "grid": {"kind": "isoflop", "budgets": [2e11, 4e11], "tokens_per_param": [0.1, 400]},
}


def planned(variants: dict[str, object], **changes: object) -> Plan:
    return plan(SweepSpec(**BASE | changes | {"variants": variants}), DataRef(digest="x"))


def test_a_base_with_variants_has_the_runs_that_it_has_without():
    alone = planned({})
    beside = members(planned({"gpt3": {"block": "gpt3"}}))["base"]
    assert [run.id for run in beside.runs] == [run.id for run in alone.runs]
    assert [run.name for run in beside.runs] == [run.name for run in alone.runs]


def test_variants_see_the_same_batches_and_have_names_of_their_own():
    whole = planned({"gpt3": {"block": "gpt3"}, "decay": {"weight_decay": 0}}, seeds=[0, 3])
    each = members(whole)
    orders = {
        name: {(run.run.train.seed, run.run.train.batch_tokens) for run in member.runs}
        for name, member in each.items()
    }
    assert orders == {name: {(0, 1024), (3, 1024)} for name in ("base", "gpt3", "decay")}
    assert not any("not paired" in warning for warning in whole.warnings)
    assert {run.name for run in whole.runs if run.variant == "gpt3" and not run.rate_factor} == {
        f"gpt3-d{width}-s{seed}" for width in (24, 48) for seed in (0, 3)
    }
    assert each["gpt3"].spec.name == "mine/gpt3"
    assert Plan.model_validate_json(whole.model_dump_json()) == whole


def test_another_batch_is_said_to_end_the_pairing():
    whole = planned({"small": {"recipe": {"batch_tokens": 512}}})
    assert whole.warnings[0].startswith(
        "small takes batches of 512 tokens and base of 1,024: their differences are not paired"
    )


def test_a_named_block_comes_with_what_its_paper_has():
    each = members(planned({"gpt3": {"block": "gpt3"}, "palm": {"block": "palm"}}))
    gpt3, palm = (each[name].runs[0].run for name in ("gpt3", "palm"))
    assert gpt3.model.block == Block(norm="layer", ffn="gelu", positions="learned", biases=True)
    assert (gpt3.model.max_positions, gpt3.model.d_ffn) == (128, 4 * gpt3.model.d_model)
    assert (palm.model.n_kv_heads, palm.train.z_loss) == (1, 1e-4)
    assert gpt3.model.tie_embeddings
    assert palm.model.tie_embeddings


def test_fields_of_a_block_change_the_base_s_block():
    spec = {"norm": {"block": {"norm": "layer"}}, "rotary": {"block": {"positions": "rotary"}}}
    llama = members(planned(spec))
    assert llama["norm"].spec.block == Block(norm="layer")
    fields = {"norm": "layer", "ffn": "gelu", "positions": "learned", "biases": True}
    gpt3 = members(planned(spec, block=fields))["rotary"].spec.block
    assert gpt3 == Block(norm="layer", ffn="gelu", positions="rotary", biases=True)


def test_fields_over_a_named_block_would_lose_its_bundle_and_are_refused():
    words = "variants.rotary lays fields over block: gpt3, whose embeddings"
    with pytest.raises(ValueError, match=words):
        planned({"rotary": {"block": {"positions": "rotary"}}}, block="gpt3")


def test_gelu_has_as_many_parameters_as_swiglu():
    each = members(planned({"gelu": {"block": {"ffn": "gelu"}}}))
    assert [run.n_params for run in each["gelu"].runs] == [
        run.n_params for run in each["base"].runs
    ]


def test_a_variant_of_the_optimizer_keeps_rate_and_decay_of_the_spec():
    each = members(planned({"muon": {"optimizer": "muon"}, "beta": {"optimizer": {"beta2": 0.99}}}))
    base, muon, beta = (each[name].runs[0].run.train.optimizer for name in ("base", "muon", "beta"))
    assert muon == Muon(lr=base.lr, weight_decay=base.weight_decay)
    assert beta == AdamW(lr=base.lr, weight_decay=base.weight_decay, beta2=0.99)


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        ({"a": {"grid": {"budgets": [1e11]}}}, "variants.a sets grid. Variants may differ in"),
        ({"base": {}}, "variants.base is the spec itself"),
        ({"a": {"block": "gpt4"}}, "variants.a: block.name: 'gpt4' should be 'llama'"),
        ({"a": {"block": {"nrom": "rms"}}}, "variants.a: unknown key block.fields.nrom (did you"),
        ({"a": {"optimizer": {"momentum": 0.5}}}, "momentum=0.5 is Muon's"),
        ({"a b": {}}, "variants.a b.[key]"),
        ({"a": 3}, "variants.a: 3 should be a group of settings"),
    ],
)
def test_a_variant_that_cannot_be_is_refused_by_name(variants, words, tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(BASE | {"variants": variants}))
    with pytest.raises(SpecError) as error:
        load_spec(str(path))
    assert words in str(error.value)


def test_a_shape_that_cannot_be_built_is_refused_by_the_variant_s_name():
    with pytest.raises(ValueError, match=r"variants\.odd: head_dim=5 is odd\. Rotary"):
        planned({"odd": {"ladder": {"head_dim": 5}}})
    fine = planned({"odd": {"ladder": {"head_dim": 5}, "block": {"positions": "none"}}})
    assert members(fine)["odd"].runs


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"design": {"kind": "next"}}, "design next chooses cells"),
        (
            {"grid": {"kind": "cells", "continues": "demo", "tokens": {24: [1024], 48: [2048]}}},
            "these cells continue demo",
        ),
    ],
)
def test_variants_have_a_grid_of_their_own(changes, words):
    with pytest.raises(ValueError, match=words):
        planned({"gpt3": {"block": "gpt3"}}, **changes)


def test_a_spec_s_own_name_has_no_slash(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(BASE | {"name": "mine/gpt3"}))
    with pytest.raises(SpecError, match="has a slash"):
        load_spec(str(path))


def test_the_architectures_are_paired_and_cheap():
    whole = plan(load_spec("architectures"), DataRef(digest="x"))
    each = members(whole)
    assert list(each) == [
        *("base", "gpt3", "palm", "layer-norm", "gelu", "learned-positions", "no-positions")
    ]
    # Three times the demo's, which takes eight minutes on two cores.
    assert whole.flops_spent == pytest.approx(6.9e13, rel=0.05)
    assert min(member.observations for member in each.values()) >= 15
    sizes = {name: sorted(run.n_params for run in member.runs) for name, member in each.items()}
    for name in set(each) - {"palm"}:
        assert sizes[name] == pytest.approx(sizes["base"], rel=0.03), name
