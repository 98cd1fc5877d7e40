"""Settings of a training as a spec has them: block, optimizer, warm-up, decay, variants."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PositiveFloat,
    Tag,
    model_validator,
)

from llama_core.blocks import BlockName
from llama_core.config import AdamW, Block, Frozen, Muon, Optimizer
from sweeps.ladder import different

_Share = Annotated[float, Field(ge=0, lt=1)]


def _name_or_fields(value: object) -> str:
    return "name" if isinstance(value, str) else "fields"


# Tags keep a fault's message to the form that was meant.
BlockChoice = Annotated[
    Annotated[BlockName, Tag("name")] | Annotated[Block, Tag("fields")],
    Discriminator(_name_or_fields),
]


class OptimizerFields(Frozen):
    """An optimizer without its rate and weight decay, which recipe and `weight_decay` give.

    None: the optimizer's own default.
    """

    kind: Literal["adamw", "muon"] = "adamw"
    momentum: _Share | None = None
    beta1: _Share | None = None
    beta2: _Share | None = None
    eps: PositiveFloat | None = None

    @model_validator(mode="after")
    def _momentum_is_muons(self) -> Self:
        if self.kind == "adamw" and self.momentum is not None:
            raise ValueError(
                f"momentum={self.momentum:g} is Muon's, and kind is adamw, whose own is beta1."
            )
        return self

    def at(self, *, lr: float, weight_decay: float) -> Optimizer:
        """The optimizer at a rate and a weight decay."""
        kind: type[AdamW] | type[Muon] = Muon if self.kind == "muon" else AdamW
        given = self.model_dump(exclude={"kind"}, exclude_none=True)
        return kind(lr=lr, weight_decay=weight_decay, **given)


def _by_name(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


OptimizerChoice = Annotated[OptimizerFields, BeforeValidator(_by_name)]
ADAMW = OptimizerFields()


class Warmup(Frozen):
    """Linear warm-up of `amount` units, rounded to whole steps, at least one.

    `share` is of the shortest horizon of the run, `n_params` are tokens for each parameter
    (Porian et al. 2024 warm up for N tokens: amount 1).
    """

    unit: Literal["steps", "tokens", "share", "n_params"]
    amount: Annotated[float, Field(gt=0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _share_is_below_one(self) -> "Warmup":
        if self.unit == "share" and self.amount >= 1:
            raise ValueError(f"a warm-up share of {self.amount:g} is not below 1. Use 0.05, say.")
        return self


class Timescale(Frozen):
    """Weight decay by AdamW's timescale tau = coef · (D/N)^exponent, as a share of the run.

    Weight decay is batch / (lr · D · tau) (Bergsma et al. 2025, arXiv:2505.13738, eq. 2 and
    fig. 1: muP models of 111M to 3.3B parameters, 20 to 1,280 tokens for each).
    """

    kind: Literal["timescale"] = "timescale"
    coef: PositiveFloat = 1.084
    exponent: float = -0.527


def _kind_of_decay(value: object) -> str:
    return "timescale" if isinstance(value, dict | Timescale) else "constant"


# Tags keep a fault's message to the kind that was meant.
WeightDecay = Annotated[
    Annotated[float, Field(ge=0), Tag("constant")] | Annotated[Timescale, Tag("timescale")],
    Discriminator(_kind_of_decay),
]


Variants = dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")], dict[str, Any]]


class RateScan(Frozen):
    """Factors on a variant's learning rate, tried at one size before the sweep."""

    factors: Annotated[
        tuple[Annotated[PositiveFloat, Field(allow_inf_nan=False)], ...],
        Field(min_length=3),
        AfterValidator(different),
    ] = (0.25, 0.5, 1.0, 2.0, 4.0)


SCAN = RateScan()
