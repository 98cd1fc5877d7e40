"""The models of a ladder."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count, pairwise, takewhile

from analysis.words import short
from llama_core.blocks import BlockName, bundle
from llama_core.config import Block, ModelConfig
from llama_core.counting import count_params
from sweeps.ladder import AnyLadder, DepthLadder, Ladder, Shape, ShapeLadder, SizeLadder

# A size is refused where the nearest shape has more or less than it by this factor.
_FAR = 1.5


@dataclass(frozen=True, slots=True)
class Make:
    """What models of every size have.

    Attributes:
        seq_len: the length of the table of learned positions.
    """

    vocab_size: int
    block: BlockName | Block = "llama"
    seq_len: int = 128


@dataclass(frozen=True, slots=True)
class Size:
    """A model of a ladder.

    Attributes:
        asked: the N that a ladder of sizes asked for; None from any other ladder.
    """

    model: ModelConfig
    asked: float | None = None


def key(ladder: AnyLadder, model: ModelConfig) -> int | str:
    """What tells a model from the others of its ladder: the width, or WIDTHxDEPTH."""
    width = model.d_model
    return width if isinstance(ladder, Ladder) else f"{width}x{model.n_layers}"


def sizes(ladder: AnyLadder, make: Make) -> list[Size]:
    """The models of a ladder, in its order.

    Raises:
        ValueError: a width is not a multiple of 8 or not of whole heads, or two sizes asked for
            have the same nearest shape, or one has none near it.
    """
    match ladder:
        case Ladder():
            return [Size(shape(ladder, width, make)) for width in ladder.widths]
        case DepthLadder():
            return [Size(_at_depth(ladder, depth, make)) for depth in ladder.depths]
        case SizeLadder():
            return _nearest(ladder, make)
        case ShapeLadder():
            models = [_as_listed(ladder, shape, make) for shape in ladder.shapes]
            _refuse_twins(models)
            return [Size(model) for model in models]


def at_width(ladder: AnyLadder, width: int, make: Make) -> list[ModelConfig]:
    """The models that a ladder has, or would have, at a width; a depth ladder the nearest to it.

    Raises:
        ValueError: the width is not a multiple of 8, or none of those listed.
    """
    match ladder:
        case Ladder():
            return [shape(ladder, width, make)]
        case ShapeLadder():
            listed = [size.model for size in sizes(ladder, make)]
            if models := [model for model in listed if model.d_model == width]:
                return models
            widths = sorted({model.d_model for model in listed})
            raise ValueError(f"ladder.shapes has no shape of d_model={width}, but of {widths}.")
        case _:
            return [_at_depth(ladder, max(1, round(width / ladder.aspect)), make)]


def only(ladder: AnyLadder, models: Iterable[ModelConfig]) -> AnyLadder:
    """The ladder with these of its models alone."""
    models = list(models)
    match ladder:
        case Ladder():
            return ladder.model_copy(update={"widths": tuple(each.d_model for each in models)})
        case DepthLadder():
            return ladder.model_copy(update={"depths": tuple(each.n_layers for each in models)})
        case SizeLadder():
            return ladder.model_copy(update={"sizes": tuple(float(_n(each)) for each in models)})
        case ShapeLadder():
            places = {(each.d_model, each.n_layers) for each in models}
            kept = [each for each in ladder.shapes if (each.d_model, each.n_layers) in places]
            return ladder.model_copy(update={"shapes": tuple(kept)})


def shape(ladder: Ladder, width: int, make: Make) -> ModelConfig:
    """The model of one width: as many heads as cover it, in whole groups.

    Raises:
        ValueError: the width is not a multiple of 8, which fast matmuls need.
    """
    if width % 8:
        raise ValueError(f"width {width} is not a multiple of 8. Use {_near(width, 8)}.")
    groups = math.ceil(width / (ladder.head_dim * ladder.query_heads_per_kv_head))
    return _model(ladder, ladder.n_layers, width, groups, make)


def _at_depth(ladder: DepthLadder | SizeLadder, depth: int, make: Make) -> ModelConfig:
    """The shape of one depth: its width is the aspect times it, in whole groups of heads."""
    group = ladder.head_dim * ladder.query_heads_per_kv_head
    # A half is rounded up, so that a deeper model is never narrower.
    groups = max(1, math.floor(ladder.aspect * depth / group + 0.5))
    return _model(ladder, depth, groups * group, groups, make)


def _nearest(ladder: SizeLadder, make: Make) -> list[Size]:
    """For each size asked for, the shape whose N is nearest to it in ratio."""
    models = _shapes_up_to(max(ladder.sizes), lambda depth: _at_depth(ladder, depth, make))
    chosen: dict[int, Size] = {}
    for asked in ladder.sizes:
        model = min(models, key=lambda each: abs(math.log(_n(each) / asked)))
        name, N = f"d{key(ladder, model)}", _n(model)
        if not 1 / _FAR <= N / asked <= _FAR:
            raise ValueError(
                f"ladder.sizes has N = {short(asked)}, and the nearest shape, {name}, has "
                f"{short(N)} ({short(make.vocab_size * model.d_model)} of them in the head). "
                "Remove it, or set ladder.aspect or ladder.shapes."
            )
        if (other := chosen.get(model.n_layers)) is not None:
            raise ValueError(
                f"ladder.sizes has N = {short(other.asked)} and {short(asked)}, and the nearest "
                f"shape to both is {name} with {short(N)}. Remove one, or list ladder.shapes."
            )
        chosen[model.n_layers] = Size(model, asked)
    return list(chosen.values())


def _shapes_up_to(N: float, at_depth: Callable[[int], ModelConfig]) -> list[ModelConfig]:
    """The shapes of rising depth, to the first whose N is the given or more."""
    models = (at_depth(depth) for depth in count(1))
    pairs = takewhile(lambda pair: _n(pair[0]) < N, pairwise(models))
    return [at_depth(1), *(deeper for _, deeper in pairs)]


def _as_listed(ladder: ShapeLadder, listed: Shape, make: Make) -> ModelConfig:
    head_dim = listed.head_dim or ladder.head_dim
    group = head_dim * ladder.query_heads_per_kv_head
    if listed.d_model % group:
        heads = f"heads of {head_dim}"
        if ladder.query_heads_per_kv_head > 1:
            heads += f", {ladder.query_heads_per_kv_head} of them to a key-value head"
        raise ValueError(
            f"ladder.shapes: d_model={listed.d_model} is not made of whole {heads}. "
            f"Use {_near(listed.d_model, group)}."
        )
    groups = listed.d_model // group
    model = _model(ladder, listed.n_layers, listed.d_model, groups, make)
    changes = {"head_dim": head_dim, "d_ffn": listed.d_ffn or model.d_ffn}
    return ModelConfig.model_validate(model.model_dump() | changes)


def _refuse_twins(models: list[ModelConfig]) -> None:
    places = [(model.d_model, model.n_layers) for model in models]
    twins = [place for place in places if places.count(place) > 1]
    if twins:
        raise ValueError(
            f"ladder.shapes has two shapes of d_model={twins[0][0]} and n_layers={twins[0][1]}. "
            "Compare them in two sweeps."
        )


def _model(ladder: AnyLadder, n_layers: int, width: int, groups: int, make: Make) -> ModelConfig:
    choice = bundle(make.block)
    learned = choice.block.positions == "learned"
    return ModelConfig(
        vocab_size=make.vocab_size,
        d_model=width,
        n_layers=n_layers,
        n_heads=groups * ladder.query_heads_per_kv_head,
        n_kv_heads=1 if choice.multi_query else groups,
        head_dim=ladder.head_dim,
        d_ffn=choice.d_ffn(width, multiple_of=ladder.ffn_multiple_of),
        qk_norm=ladder.qk_norm,
        rope_theta=ladder.rope_theta,
        tie_embeddings=ladder.tie_embeddings or choice.tie_embeddings,
        block=choice.block,
        max_positions=make.seq_len if learned else None,
    )


def _n(model: ModelConfig) -> int:
    return count_params(model).n_params


def _near(width: int, unit: int) -> str:
    lower, upper = width // unit * unit, (width // unit + 1) * unit
    return f"{lower} or {upper}" if lower else f"{upper}"
