"""Ladders: the model sizes of a sweep, as a person writes them."""

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, PositiveInt

from llama_core.config import Frozen

_Values = TypeVar("_Values", bound=tuple[object, ...])

# What the fields of every ladder are.
_HEAD = "width of an attention head"
_GROUP = "query heads that share a key-value head; 1: each has its own"
_FFN = "the feed-forward's width is rounded up to a multiple of this"
_QK = "normalise queries and keys; exports as Qwen3 instead of LLaMA"
_ROPE = "base of the rotary positions"
_TIE = "the output layer is the input embedding"


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

    widths: Annotated[
        tuple[PositiveInt, ...],
        Field(min_length=1, description="d_model of each size, multiples of 8"),
        AfterValidator(different),
    ]
    n_layers: PositiveInt = Field(default=2, description="depth of every size")
    head_dim: PositiveInt = Field(default=16, description=_HEAD)
    query_heads_per_kv_head: PositiveInt = Field(default=1, description=_GROUP)
    ffn_multiple_of: PositiveInt = Field(default=8, description=_FFN)
    qk_norm: bool = Field(default=True, description=_QK)
    rope_theta: PositiveFloat = Field(default=100.0, description=_ROPE)
    tie_embeddings: bool = Field(default=False, description=_TIE)


class _LlamaBlocks(Frozen):
    """LLaMA's block at every size: whole heads that make up the width, its feed-forward rule."""

    head_dim: PositiveInt = Field(default=64, description=_HEAD)
    query_heads_per_kv_head: PositiveInt = Field(default=1, description=_GROUP)
    ffn_multiple_of: PositiveInt = Field(default=256, description=_FFN)
    qk_norm: bool = Field(default=False, description=_QK)
    rope_theta: PositiveFloat = Field(default=10_000.0, description=_ROPE)
    tie_embeddings: bool = Field(default=False, description=_TIE)


class DepthLadder(_LlamaBlocks):
    """Depths: width is `aspect` times the depth, to the nearest whole head.

    LLaMA 7B is depth 32 at aspect 128 with heads of 128.
    """

    depths: Annotated[
        tuple[PositiveInt, ...],
        Field(min_length=1, description="layers of each size"),
        AfterValidator(different),
    ]
    aspect: PositiveFloat = Field(default=64.0, le=1e5, description="width for each layer")


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
    aspect: PositiveFloat = Field(default=64.0, le=1e5, description="width for each layer")


class Shape(Frozen):
    """A depth and a width."""

    n_layers: PositiveInt = Field(description="depth")
    d_model: PositiveInt = Field(description="width, whole heads")
    head_dim: PositiveInt | None = Field(default=None, description="None: the ladder's")
    d_ffn: PositiveInt | None = Field(
        default=None, description="width of the feed-forward; None: by the ladder's rule"
    )


class ShapeLadder(_LlamaBlocks):
    """Shapes, one by one; no two of one depth and width."""

    shapes: Annotated[
        tuple[Shape, ...],
        Field(min_length=1, description="one for each size"),
        AfterValidator(different),
    ]


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
