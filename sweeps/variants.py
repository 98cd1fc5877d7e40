"""Variants of a sweep: sweeps of their own, each the base with some settings changed."""

from typing import Any

from pydantic import ValidationError

from llama_core.blocks import bundle
from sweeps.faults import plain
from sweeps.spec import SweepSpec

BASE = "base"
# Corpus, budgets, seeds, sequences and validation are what makes losses comparable and pairs them.
_MAY_DIFFER = (
    "block",
    "ladder",
    "optimizer",
    "recipe",
    "lr_factor",
    "weight_decay",
    "z_loss",
    "warmup",
    "schedule",
    "cooldown_fraction",
    "dtype",
)


def variant_specs(spec: SweepSpec) -> dict[str, SweepSpec]:
    """The base and each variant as specs without variants, by name, the base first.

    Raises:
        ValueError: a variant cannot be; the message names it.
    """
    specs = {}
    for name, data in variant_data(spec).items():
        try:
            specs[name] = SweepSpec.model_validate(data)
        except ValidationError as error:
            raise ValueError(f"variants.{name}: {plain(error)}") from error
    return specs


def variant_data(spec: SweepSpec) -> dict[str, dict[str, Any]]:
    """`variant_specs` before they are validated.

    Raises:
        ValueError: a variant has the base's name or a setting that may not differ, or the spec
            is designed in rounds or continues another.
    """
    _refuse(spec)
    whole = spec.model_dump(mode="json", exclude={"variants", "scan", "cap", "design"})
    data = {}
    for name, part in {BASE: {}, **spec.variants}.items():
        base = dict(whole)
        if isinstance(part.get("block"), dict):
            _refuse_part_of_bundle(name, spec)
            base["block"] = bundle(spec.block).block.model_dump(mode="json")
        data[name] = _laid_over(base, part) | {"name": f"{spec.name}/{name}"}
    return data


def _refuse(spec: SweepSpec) -> None:
    if spec.design is not None:
        raise ValueError(
            "variants are compared on one grid, and design next chooses cells by the losses: "
            "leave out one of the two."
        )
    if spec.continues is not None:
        raise ValueError(
            f"variants have a base of their own, and these cells continue {spec.continues}: "
            "leave out one of the two."
        )
    for name, part in spec.variants.items():
        if name == BASE:
            raise ValueError(f"variants.{BASE} is the spec itself: use another name.")
        for setting in part:
            if setting not in _MAY_DIFFER:
                raise ValueError(
                    f"variants.{name} sets {setting}. Variants may differ in "
                    f"{', '.join(_MAY_DIFFER)}; the rest is one for all, so that losses compare."
                )


def _refuse_part_of_bundle(name: str, spec: SweepSpec) -> None:
    """Refuse fields over a named block that brings more than its fields, which would be lost."""
    whole = bundle(spec.block)
    if whole != bundle(whole.block):
        fields = ", ".join(f"{k}: {v}" for k, v in whole.block.model_dump(mode="json").items())
        raise ValueError(
            f"variants.{name} lays fields over block: {spec.block}, whose embeddings, feed-forward "
            "and z-loss come with the name and would be lost. Name a block in the variant, or "
            f"write the base's in fields: block: {{{fields}}}."
        )


def _laid_over(base: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """The base with a part's settings; a group of another kind replaces the base's."""
    merged = dict(base)
    for setting, value in part.items():
        below = merged.get(setting)
        if isinstance(value, dict) and isinstance(below, dict):
            kind = below.get("kind")
            merged[setting] = _laid_over(below, value) if value.get("kind", kind) == kind else value
        else:
            merged[setting] = value
    return merged
