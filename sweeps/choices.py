"""Settings of a training as a spec has them: block, optimizer, recipe, decay, variants."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
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
    """An optimizer without its rate and weight decay, which recipe and `weight_decay` give."""

    kind: Literal["adamw", "muon"] = Field(default="adamw", description="or its name alone")
    momentum: _Share | None = Field(default=None, description="Muon's; None: 0.95")
    beta1: _Share | None = Field(default=None, description="AdamW's first moment; None: 0.9")
    beta2: _Share | None = Field(default=None, description="AdamW's second moment; None: 0.95")
    eps: PositiveFloat | None = Field(default=None, description="AdamW's; None: 1e-8")

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

    unit: Literal["steps", "tokens", "share", "n_params"] = Field(
        description="steps, tokens, share of the shortest horizon, or tokens for each parameter"
    )
    amount: float = Field(gt=0, allow_inf_nan=False, description="how many of the unit")

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
    coef: PositiveFloat = Field(default=1.084, description="tau at one token per parameter")
    exponent: float = Field(default=-0.527, description="of D/N in tau")


def _kind_of_decay(value: object) -> str:
    return "timescale" if isinstance(value, dict | Timescale) else "constant"


# Tags keep a fault's message to the kind that was meant.
WeightDecay = Annotated[
    Annotated[float, Field(ge=0), Tag("constant")] | Annotated[Timescale, Tag("timescale")],
    Discriminator(_kind_of_decay),
]


_BATCH = "of an optimizer step, in tokens"


class WidthRecipe(Frozen):
    """Peak learning rate coef/d_model, capped; batch fixed.

    The slope of muP without its multipliers. `coef` and `cap` were measured on models of
    15k to 700k parameters (docs/benchmarks/demo_lr_scan.md).
    """

    kind: Literal["width"] = "width"
    coef: PositiveFloat = Field(default=0.256, description="rate times d_model")
    cap: PositiveFloat = Field(default=0.016, description="highest rate")
    batch_tokens: PositiveInt = Field(default=1024, description=_BATCH)


class FixedRecipe(Frozen):
    """One learning rate and one batch for all sizes."""

    kind: Literal["fixed"] = "fixed"
    lr: PositiveFloat = Field(description="peak learning rate")
    batch_tokens: PositiveInt = Field(description=_BATCH)


class LlamaRecipe(Frozen):
    """LLaMA's own: 3e-4 to 13B, 1.5e-4 above; 4M tokens (Touvron et al. 2023, Table 2)."""

    kind: Literal["llama"] = "llama"
    batch_tokens: PositiveInt = Field(default=4_194_304, description=_BATCH)


class PublishedRecipe(Frozen):
    """A published rule; docs/recipes.md has formulas, sources and where each was measured.

    A rule in D or C takes, for the horizons of one trunk, their geometric middle.
    """

    kind: Literal["steplaw", "deepseek", "porian", "olmo"]
    batch_tokens: PositiveInt | None = Field(
        default=None, description="of a step; None: the rule's, rounded to whole sequences"
    )


class FittedLaw(Frozen):
    """lr = coef · N^exponent_N · D^exponent_D and batch = coef · D^exponent_D, from a study."""

    lr_coef: PositiveFloat = Field(description="coef of the rate")
    lr_exponent_N: float = Field(default=0.0, description="of the rate, in N")
    lr_exponent_D: float = Field(default=0.0, description="of the rate, in D")
    batch_coef: PositiveFloat | None = Field(
        default=None, description="coef of the batch; None: no law of the batch"
    )
    batch_exponent_D: float = Field(default=0.0, description="of the batch, in D")
    N: tuple[PositiveFloat, PositiveFloat] = Field(
        description="least and greatest N it was fitted on, parameters that multiply a token"
    )
    D: tuple[PositiveFloat, PositiveFloat] = Field(description="least and greatest D")


class LawRecipe(Frozen):
    """The laws that `isoflop tune` fitted under this name.

    One trunk serves every horizon of a run, so a run takes the laws' values at the geometric
    middle of its token budgets.
    """

    kind: Literal["law"] = "law"
    study: str = Field(description="name of the study of `isoflop tune`")
    fitted: FittedLaw | None = Field(
        default=None, description="its numbers; None: read from the study when a sweep is planned"
    )
    batch_tokens: PositiveInt | None = Field(default=None, description="of a step; None: the law's")


Recipe = Annotated[
    WidthRecipe | FixedRecipe | LlamaRecipe | PublishedRecipe | LawRecipe,
    Field(discriminator="kind"),
]


Variants = dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")], dict[str, Any]]


class RateScan(Frozen):
    """Factors on a variant's learning rate, tried at one size before the sweep."""

    factors: Annotated[
        tuple[Annotated[PositiveFloat, Field(allow_inf_nan=False)], ...],
        Field(min_length=3, description="factors tried, times the recipe's rate"),
        AfterValidator(different),
    ] = (0.25, 0.5, 1.0, 2.0, 4.0)


SCAN = RateScan()
