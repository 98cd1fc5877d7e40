"""Ladders: the model sizes of a sweep, as a person writes them."""

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, PositiveInt

from llama_core.config import Frozen

_Values = TypeVar("_Values", bound=tuple[object, ...])


def different(values: _Values) -> _Values:
    """The values; ValueError if one occurs twice."""
    if len(set(values)) < len(values):
        raise ValueError(f"{values} names a value twice. Remove one: both would be the same run.")
    return values


class Ladder(Frozen):
    """Widths: one depth and one head size for all, width alone varies.

    Mixed depths put kinks into the valleys of small models (docs/benchmarks/demo_sweep.md), so
    depth is stated once. Heads are as many as cover the width; SwiGLU's hidden width is 8/3
    of it, rounded up to `ffn_multiple_of`.
    """

    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1), AfterValidator(different)]
    n_layers: PositiveInt = 2
    head_dim: PositiveInt = 16
    query_heads_per_kv_head: PositiveInt = 1
    ffn_multiple_of: PositiveInt = 8
    qk_norm: bool = True
    rope_theta: PositiveFloat = 100.0
    tie_embeddings: bool = False


class _LlamaBlocks(Frozen):
    """LLaMA's block at every size: whole heads that make up the width, its feed-forward rule."""

    head_dim: PositiveInt = 64
    query_heads_per_kv_head: PositiveInt = 1
    ffn_multiple_of: PositiveInt = 256
    qk_norm: bool = False
    rope_theta: PositiveFloat = 10_000.0
    tie_embeddings: bool = False


class DepthLadder(_LlamaBlocks):
    """Depths: width is `aspect` times the depth, to the nearest whole head.

    LLaMA 7B is depth 32 at aspect 128 with heads of 128.
    """

    depths: Annotated[tuple[PositiveInt, ...], Field(min_length=1), AfterValidator(different)]
    aspect: PositiveFloat = 64.0


class SizeLadder(_LlamaBlocks):
    """Sizes asked for: of the shapes of a `DepthLadder`, the nearest to each in ratio.

    A size is N as everywhere here: the parameters that multiply a token, which are all but the
    input embedding (docs/decisions/0001-which-n-and-which-c.md).
    """

    sizes: Annotated[
        # Shapes are built one by one up to the largest: that of 1e14 has 1,300 layers.
        tuple[Annotated[PositiveFloat, Field(le=1e14, allow_inf_nan=False)], ...],
        Field(min_length=1, description="N, all parameters but the input embedding"),
        AfterValidator(different),
    ]
    aspect: PositiveFloat = 64.0


class Shape(Frozen):
    """A depth and a width; `head_dim` and `d_ffn` follow the ladder where they are None."""

    n_layers: PositiveInt
    d_model: PositiveInt
    head_dim: PositiveInt | None = None
    d_ffn: PositiveInt | None = None


class ShapeLadder(_LlamaBlocks):
    """Shapes, one by one; no two of one depth and width."""

    shapes: Annotated[tuple[Shape, ...], Field(min_length=1), AfterValidator(different)]


# What a ladder is given by, and the ladder.
GIVEN_BY: dict[str, type[Frozen]] = {
    "widths": Ladder,
    "depths": DepthLadder,
    "sizes": SizeLadder,
    "shapes": ShapeLadder,
}


def _of_its_kind(value: Any) -> Any:
    """A group of settings as the ladder that its keys mean: no spec says the kind.

    Raises:
        ValueError: it says the sizes in two ways.
    """
    if isinstance(value, tuple(GIVEN_BY.values())):
        return value
    given = [key for key in GIVEN_BY if isinstance(value, dict) and key in value]
    if len(given) > 1:
        raise ValueError(
            f"{' and '.join(given)} both say which models there are: give one of "
            f"{', '.join(GIVEN_BY)}. An override replaces the whole ladder, as in "
            f"--set 'ladder={{{given[-1]}: [...]}}'."
        )
    return GIVEN_BY[given[0] if given else "widths"].model_validate(value)


AnyLadder = Annotated[
    Ladder | DepthLadder | SizeLadder | ShapeLadder, BeforeValidator(_of_its_kind)
]
