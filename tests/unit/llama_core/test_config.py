"""Shapes that cannot be are refused; defaults younger than finished runs stay out of JSON."""

import json

import jsonschema
import pytest
from pydantic import ValidationError

from llama_core.config import AdamW, Block, ModelConfig, Muon, Placement, TrainConfig
from tests.core_tools import recipe, tiny


def test_defaults_younger_than_finished_runs_are_left_out_of_json_and_read_back():
    model, train = tiny(), recipe(4)
    assert {"block", "max_positions"}.isdisjoint(json.loads(model.model_dump_json()))
    assert "kind" not in json.loads(train.model_dump_json())["optimizer"]
    assert ModelConfig.model_validate_json(model.model_dump_json()) == model
    assert TrainConfig.model_validate_json(train.model_dump_json()) == train


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"head_dim": 15}, "head_dim=15 is odd"),
        ({"block": Block(positions="learned")}, "needs max_positions"),
        ({"max_positions": 64}, "rotary has none: leave it out"),
        ({"block": Block(positions="none"), "max_positions": 64}, "none has none: leave it out"),
        ({"block": {"ffn": "relu"}}, "'swiglu', 'geglu', 'gelu' or 'relu2'"),
    ],
)
def test_shapes_that_cannot_be_are_refused(shape, message):
    with pytest.raises(ValidationError, match=message):
        tiny(**shape)


def test_an_odd_head_is_fine_where_nothing_rotates():
    assert tiny(head_dim=15, block=Block(positions="none")).head_dim == 15


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"lr": 0.01}, AdamW(lr=0.01)),
        ({"kind": "adamw", "lr": 0.01}, AdamW(lr=0.01)),
        ({"kind": "muon", "lr": 0.01, "momentum": 0.9}, Muon(lr=0.01, momentum=0.9)),
    ],
)
def test_an_optimizer_without_a_kind_is_adamw(given, expected):
    assert TrainConfig(**recipe(4).model_dump() | {"optimizer": given}).optimizer == expected


def test_compile_is_on_or_off_also_as_yaml_reads_it():
    assert [Placement(compile=value).compile for value in (True, False, "on", "auto")] == [
        "on", "off", "on", "auto",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="'auto', 'on' or 'off'"):
        Placement(compile=1)
    assert Placement(stack=False).stack == "off"
    with pytest.raises(ValueError, match="'auto' or 'off'"):
        Placement(stack=True)


@pytest.mark.parametrize("optimizer", [AdamW(lr=1e-3), Muon(lr=1e-3)])
def test_json_is_valid_under_the_schema_by_which_prefect_checks_parameters(optimizer):
    cfg = recipe(8).model_copy(update={"optimizer": optimizer})
    jsonschema.validate(json.loads(cfg.model_dump_json()), TrainConfig.model_json_schema())
    model = tiny(block=Block(norm="layer", positions="learned"), max_positions=64)
    jsonschema.validate(json.loads(model.model_dump_json()), ModelConfig.model_json_schema())
    jsonschema.validate(json.loads(Placement().model_dump_json()), Placement.model_json_schema())
