"""The spec of a study that tunes a recipe (TuneSpec), and the ranges it searches."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from llama_core.config import Frozen, Placement, require_whole_matrices
from llama_core.corpus.config import CorpusConfig
from sweeps.cap import Cap
from sweeps.choices import ADAMW, BlockChoice, OptimizerChoice
from sweeps.ladder import Ladder, different
from sweeps.shapes import Make

# A published range reaches this factor either side of its centre. For learning rate and batch the
# centre is the lowest of the published rules: at 1e9 parameters they agree within a factor of two;
# at 1e5, far below their data, those in N give ten times too much.
_AROUND = 4.0
# No published rule is Muon's. Its updates are as large as AdamW's, so AdamW's centre is where its
# search begins, and it reaches further.
_AROUND_FOR_MUON = 8.0
# Other ranges are centred on LLaMA's value, or this project's rule.
_LLAMA_BETA2_GAP, _LLAMA_WEIGHT_DECAY, _WARMUP_FRACTION = 0.05, 0.1, 0.05


class Range(Frozen):
    """Values searched on a log scale, both ends included."""

    low: PositiveFloat = Field(description="least value")
    high: PositiveFloat = Field(description="greatest value")

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low={self.low:g} is not below high={self.high:g}. Swap them.")
        return self


class Search(Frozen):
    """The parameters of the recipe: a range is searched, a number is fixed.

    `published`: a factor of 4 either side of a published value. For `lr` and `batch_tokens` that
    is the lowest of the rules in `analysis/tables/lr_rules.csv` at this size; for the others
    LLaMA's (Touvron et al. 2023, section 2.3), for the warm-up this project's.
    """

    lr: Range | Literal["published"] = Field(default="published", description="peak learning rate")
    batch_tokens: Range | PositiveInt | Literal["published"] = Field(
        default="published", description="of an optimizer step, in tokens"
    )
    warmup_fraction: Range | PositiveFloat | Literal["published", "recipe"] = Field(
        default="recipe", description="of the shortest budget; recipe: the rule that sweeps use"
    )
    beta2: Range | PositiveFloat | Literal["published"] = Field(
        default=0.95, description="searched on a log scale of 1 - beta2"
    )
    weight_decay: Range | PositiveFloat | Literal["published"] = Field(
        default=0.1, description="of the matrices"
    )

    @field_validator("warmup_fraction", "beta2")
    @classmethod
    def _below_one(cls, value: Range | float | str) -> Range | float | str:
        highest = value.high if isinstance(value, Range) else value
        if isinstance(highest, float) and highest >= 1:
            raise ValueError(f"{highest:g} is not below 1. Give a fraction between 0 and 1.")
        return value


class TuneSpec(Frozen):
    """Studies of learning rate, batch and related parameters, one for each width.

    Every trial trains one trunk with a cooldown at each of `tokens`, so it gives a loss at every
    budget. `name`, `description`, `trials`, `slots`, `placement` and `cap` do not affect what a
    trial trains, but for `placement.ranks`, which share a searched batch; a study grows when
    `trials` is raised.
    """

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$",
        description="of the study and its folder; lower case letters, digits, _ and -",
    )
    description: str = Field(default="", description="one line for people")
    corpus: CorpusConfig = Field(
        default=CorpusConfig(), description="the text that models are trained on"
    )
    ladder: Ladder = Field(description="the widths, each with a study of its own")
    block: BlockChoice = Field(
        default="llama",
        exclude_if=lambda block: block == "llama",
        description="llama, gpt3 or palm, or the fields of a block",
    )
    optimizer: OptimizerChoice = Field(
        default=ADAMW,
        exclude_if=lambda optimizer: optimizer == ADAMW,
        description="adamw or muon, or its fields",
    )
    tokens: Annotated[
        tuple[PositiveInt, ...],
        Field(min_length=1, description="budgets D; every trial gives a loss at each"),
        AfterValidator(different),
    ]
    search: Search = Field(default=Search(), description="what is searched, and in which range")
    trials: PositiveInt = Field(default=12, description="for each width")
    startup: PositiveInt = Field(
        default=8,
        description="first trials of a width, spread evenly; later ones go where a model of the "
        "losses predicts the lowest",
    )
    # Fixed, so that proposals do not depend on which training ends first.
    generation: PositiveInt = Field(
        default=4, description="trials proposed at once; the next ones learn from their losses"
    )
    seed: NonNegativeInt = Field(default=0, description="of the search")
    train_seed: NonNegativeInt = Field(default=0, description="of the trainings")
    cooldown_fraction: float = Field(
        default=0.3, gt=0, lt=1, description="of a budget, in which the rate falls to zero"
    )
    seq_len: PositiveInt = Field(default=128, description="tokens of a sequence")
    eval_tokens: PositiveInt = Field(
        default=131_072, description="in the validation set of every evaluation"
    )
    dtype: Literal["float32", "bfloat16", "auto"] = Field(
        default="float32", description="auto: the faster of the two on this machine"
    )
    placement: Placement = Field(
        default=Placement(), description="where trials train, and how fast; moves no loss"
    )
    slots: PositiveInt | None = Field(
        default=None, description="trainings at once in this process; None: one per CPU or GPU"
    )
    cap: Cap | None = Field(default=None, description="the most that the study may cost")

    @model_validator(mode="after")
    def _the_optimizer_trains_as_placed(self) -> Self:
        require_whole_matrices(self.optimizer.kind, self.placement)
        return self

    @model_validator(mode="after")
    def _beta2_is_searched(self) -> Self:
        if self.optimizer.beta2 is not None:
            raise ValueError(
                f"optimizer.beta2={self.optimizer.beta2:g}: a study has it as search.beta2. Set "
                "that one."
            )
        return self

    @property
    def run_dtype(self) -> Literal["float32", "bfloat16"]:
        """The precision of its runs; `auto` is resolved before, see `sweeps.spec`."""
        return "float32" if self.dtype == "auto" else self.dtype

    @property
    def make(self) -> Make:
        """What all models of the ladder have."""
        return Make(self.corpus.vocab_size, self.block, self.seq_len)

    @property
    def least_batch(self) -> int:
        """Tokens of one sequence for each rank; a searched batch is a multiple of them."""
        return self.seq_len * self.placement.ranks

    @property
    def identity(self) -> str:
        """Everything that decides which trials are proposed and trained, as canonical JSON."""
        free = {"name", "description", "trials", "placement", "slots", "cap"}
        settings = self.model_dump(mode="json", exclude=free)
        del settings["ladder"]["widths"]
        if self.placement.ranks > 1 and not isinstance(self.search.batch_tokens, int):
            settings["least_batch"] = self.least_batch
        return json.dumps(settings, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Dimension:
    """One searched parameter and its range, both ends included."""

    name: str
    low: float
    high: float


def box(
    spec: TuneSpec, *, lr_rules: Sequence[float], batch_rules: Sequence[float]
) -> list[Dimension]:
    """The searched parameters of one width with their ranges.

    `beta2` appears as `beta2_gap`, which is 1 - beta2. Batches are at least one sequence for each
    rank.

    Args:
        lr_rules: learning rates that published rules give this size at the spec's budgets.
        batch_rules: their batches in tokens.

    Raises:
        ValueError: the range of the batch ends below one sequence for each rank.
    """
    search = spec.search
    around = _AROUND_FOR_MUON if spec.optimizer.kind == "muon" else _AROUND
    dimensions = [_dimension("lr", search.lr, min(lr_rules), around)]
    if not isinstance(search.batch_tokens, int):
        batch = _dimension("batch_tokens", search.batch_tokens, min(batch_rules))
        if batch.high < spec.least_batch:
            ranks = spec.placement.ranks
            each = f" for each of placement.ranks={ranks}" if ranks > 1 else ""
            raise ValueError(
                f"search.batch_tokens ends at {batch.high:,.0f} tokens, below one sequence of "
                f"seq_len={spec.seq_len:,}{each}. Raise its high, fix it, or shorten seq_len."
            )
        dimensions.append(Dimension("batch_tokens", max(batch.low, spec.least_batch), batch.high))
    for name, setting, centre in (
        ("warmup_fraction", search.warmup_fraction, _WARMUP_FRACTION),
        ("beta2_gap", _gap(search.beta2), _LLAMA_BETA2_GAP),
        ("weight_decay", search.weight_decay, _LLAMA_WEIGHT_DECAY),
    ):
        if isinstance(setting, Range) or setting == "published":
            dimensions.append(_dimension(name, setting, centre))
    return dimensions


def _dimension(name: str, setting: object, centre: float, around: float = _AROUND) -> Dimension:
    if isinstance(setting, Range):
        return Dimension(name, setting.low, setting.high)
    return Dimension(name, centre / around, centre * around)


def _gap(beta2: Range | float | str) -> Range | float | str:
    return Range(low=1 - beta2.high, high=1 - beta2.low) if isinstance(beta2, Range) else beta2
