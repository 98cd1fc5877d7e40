"""Mixtures of a sweep: which shares of the sources are tried, and for which training."""

import math
import random
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from llama_core.config import Frozen
from llama_core.mixture import MIXTURE_BLOCK, in_whole_rows

# More mixtures than a law of any of these laws needs (RegMix fits 17 sources on 512).
_MOST = 512
# Draws for one that keeps the bounds, before the bounds are called too narrow.
_DRAWS = 1_000
# Shares with three digits sum to 1 as nearly as this.
_ROUNDING = 2e-3

_Share = Annotated[float, Field(ge=0, le=1)]
Shares = dict[str, float]


class _Bounded(Frozen):
    at_least: dict[str, _Share] = Field(default={}, description="least share of a source")
    at_most: dict[str, _Share] = Field(default={}, description="largest share of a source")

    def keeps(self, shares: Shares) -> bool:
        """Whether shares lie within the bounds, up to half a row of a block."""
        slack = 0.5 / MIXTURE_BLOCK
        return all(shares[name] >= least - slack for name, least in self.at_least.items()) and all(
            shares[name] <= most + slack for name, most in self.at_most.items()
        )


class Lattice(_Bounded):
    """Every mixture whose shares are multiples of 1/parts, within the bounds."""

    kind: Literal["lattice"] = "lattice"
    parts: Annotated[int, Field(ge=1, le=100)] = Field(
        default=4, description="4: shares of 0, 0.25, 0.5, 0.75 and 1"
    )


class Drawn(_Bounded):
    """Mixtures drawn at random from a Dirichlet distribution around the sources' weights."""

    kind: Literal["dirichlet"] = "dirichlet"
    count: Annotated[int, Field(ge=1, le=_MOST)] = Field(default=32, description="mixtures to draw")
    seed: NonNegativeInt = Field(default=0, description="of the draws")
    concentration: PositiveFloat = Field(
        default=1.0,
        description="1: with equal weights all mixtures alike; more: closer to the weights; less: "
        "closer to single sources",
    )


class OneUp(Frozen):
    """The sources' weights, and each source's share times `factor`, the others shrunk alike."""

    kind: Literal["one-up"] = "one-up"
    factor: Annotated[float, Field(gt=1, le=1e6)] = Field(
        default=2.0, description="on one source's share at a time"
    )


class Given(Frozen):
    """Mixtures by name; a source that is not named has no share."""

    kind: Literal["rows"] = "rows"
    rows: Annotated[
        dict[
            Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")],
            dict[str, NonNegativeFloat],
        ],
        Field(min_length=1, max_length=_MOST),
    ] = Field(description="shares by name of the mixture, then of the source; they sum to 1 or 100")

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        for name, shares in self.rows.items():
            total = sum(shares.values())
            if min(abs(total - 1), abs(total / 100 - 1)) > _ROUNDING:
                raise ValueError(
                    f"the shares of {name} sum to {total:.4g}, and should to 1, or to 100 as "
                    "percentages. Add what is missing to a source, or divide them by their sum."
                )
        return self


class Mixtures(Frozen):
    """The grid over shares of a sweep, and the training that its best mixture is for."""

    shares: Annotated[Lattice | Drawn | OneUp | Given, Field(discriminator="kind")] = Field(
        description="of the corpus's sources, crossed with sizes and budgets"
    )
    target: dict[str, PositiveFloat] = Field(
        default={}, description="weights of the losses by source to lower; none: their mean"
    )
    target_tokens: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="D of the training to mix for: each run reads a part of each source, as often "
        "as that training would read the whole; None: every run reads from the whole",
    )
    stock: dict[str, PositiveFloat] = Field(
        default={},
        description="tokens of a source that the training to mix for has; the corpus's unless "
        "given",
    )
    max_epochs: PositiveFloat = Field(
        default=4.0, description="how often that training may read a source at most"
    )

    @model_validator(mode="after")
    def _a_stock_is_of_a_target(self) -> Self:
        if self.stock and self.target_tokens is None:
            raise ValueError(
                "stock is what the training to mix for has, and its target_tokens is not given: "
                "give both, or neither."
            )
        return self


def mixtures_of(mixtures: Mixtures, weights: Mapping[str, float]) -> dict[str, Shares]:
    """The shares of each mixture by its name, in whole rows of a block, all different.

    Args:
        weights: of the corpus's sources.

    Raises:
        ValueError: a name is no source's, the bounds leave nothing, there are too many, two are
            equal, or a source has no share in any.
    """
    if len(weights) < 2:
        raise ValueError(
            f"mixtures need two sources or more, and the corpus has {', '.join(weights)}. Name "
            "several in corpus.sources."
        )
    grid = mixtures.shares
    for setting, names in _named(mixtures):
        for name in names:
            if name not in weights:
                raise ValueError(
                    f"mixtures.{setting} names {name!r}, and the corpus has the sources "
                    f"{', '.join(weights)}."
                )
    match grid:
        case Given():
            made = {
                name: in_whole_rows({source: row.get(source, 0.0) for source in weights})
                for name, row in grid.rows.items()
            }
        case OneUp():
            made = _one_up(grid, weights)
        case Lattice():
            made = _numbered(list(_lattice(grid, list(weights))))
        case Drawn():
            made = _numbered(list(_drawn(grid, weights)))
    _check(made, weights)
    return made


def _named(mixtures: Mixtures) -> Iterator[tuple[str, Mapping[str, float]]]:
    yield "stock", mixtures.stock
    grid = mixtures.shares
    if isinstance(grid, Lattice | Drawn):
        yield "shares.at_least", grid.at_least
        yield "shares.at_most", grid.at_most
    elif isinstance(grid, Given):
        for name, row in grid.rows.items():
            yield f"shares.rows.{name}", row


def _check(made: Mapping[str, Shares], weights: Mapping[str, float]) -> None:
    for source in weights:
        if not any(shares[source] for shares in made.values()):
            raise ValueError(
                f"source {source!r} has no share in any of the {len(made)} mixtures, so nothing "
                "can be learnt of it. Give it a share in some, or remove it from corpus.sources."
            )
    names: dict[tuple[float, ...], str] = {}
    for name, shares in made.items():
        if (other := names.setdefault(tuple(shares.values()), name)) != name:
            raise ValueError(
                f"mixtures {other} and {name} have the same shares, in whole {MIXTURE_BLOCK}ths. "
                "Remove one."
            )


def _numbered(shares: list[Shares]) -> dict[str, Shares]:
    digits = max(2, len(str(len(shares) - 1)))
    return {f"m{number:0{digits}}": each for number, each in enumerate(shares)}


def _one_up(grid: OneUp, weights: Mapping[str, float]) -> dict[str, Shares]:
    total = sum(weights.values())
    base = {name: weight / total for name, weight in weights.items()}
    made = {"base": in_whole_rows(base)}
    for source, share in base.items():
        raised = share * grid.factor
        if raised >= 1:
            raise ValueError(
                f"mixtures.shares.factor={grid.factor:g} times the share {share:.3g} of "
                f"{source!r} is {raised:.3g}, and should be below 1. Lower the factor to less than "
                f"{1 / max(base.values()):.3g}, or that source's weight."
            )
        others = {name: each * (1 - raised) / (1 - share) for name, each in base.items()}
        made[f"{source}-up"] = in_whole_rows(others | {source: raised})
    return made


def _lattice(grid: Lattice, sources: list[str]) -> Iterator[Shares]:
    count = _points(grid.parts, len(sources))
    if count > 100 * _MOST:
        raise ValueError(_too_many(grid, sources, count))
    kept = 0
    for counts in _compositions(grid.parts, len(sources)):
        shares = {name: count / grid.parts for name, count in zip(sources, counts, strict=True)}
        if grid.keeps(shares):
            kept += 1
            if kept > _MOST:
                raise ValueError(_too_many(grid, sources, count))
            yield in_whole_rows(shares)
    if not kept:
        raise ValueError(
            f"none of the {count:,} mixtures in 1/{grid.parts} of {len(sources)} sources keeps "
            "mixtures.shares.at_least and at_most. Widen them, or take more parts."
        )


def _points(parts: int, sources: int) -> int:
    """Mixtures of a lattice without bounds."""
    return math.comb(parts + sources - 1, sources - 1)


def _too_many(grid: Lattice, sources: list[str], count: int) -> str:
    fitting = [parts for parts in range(1, grid.parts) if _points(parts, len(sources)) <= _MOST]
    fewer = f"mixtures.shares.parts={fitting[-1]} has {_points(fitting[-1], len(sources)):,}; " * (
        bool(fitting)
    )
    within = " and more than that keep the bounds" if grid.at_least or grid.at_most else ""
    return (
        f"a lattice in 1/{grid.parts} of {len(sources)} sources has {count:,} mixtures, and a "
        f"sweep at most {_MOST}{within}: {fewer}or draw them with {{kind: dirichlet, count: 64}}."
    )


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Every way to write `total` as a sum of `parts` whole numbers, zero included."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)


def _drawn(grid: Drawn, weights: Mapping[str, float]) -> Iterator[Shares]:
    # Run ids hold what is drawn; raw draws stay the same from version to version.
    draw = random.Random(grid.seed)  # noqa: S311
    mean = sum(weights.values()) / len(weights)
    seen: set[tuple[float, ...]] = set()
    for number in range(grid.count):
        for _ in range(_DRAWS):
            sizes = {
                name: draw.gammavariate(grid.concentration * weight / mean, 1.0)
                for name, weight in weights.items()
            }
            if not sum(sizes.values()):
                continue
            shares = in_whole_rows(sizes)
            if grid.keeps(shares) and tuple(shares.values()) not in seen:
                break
        else:
            raise ValueError(
                f"{_DRAWS:,} draws gave no mixture beside the {number} before it that keeps "
                "mixtures.shares.at_least and at_most. Widen them, or draw fewer."
            )
        seen.add(tuple(shares.values()))
        yield shares
