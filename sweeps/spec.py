"""The spec of a sweep (SweepSpec), and what a worker receives (PlannedRun)."""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from llama_core.config import (
    Frozen,
    ModelConfig,
    Placement,
    TrainConfig,
    require_positions,
    require_whole_matrices,
)
from llama_core.corpus.config import CorpusConfig
from llama_core.counting import count_params, train_flops
from llama_core.mixture import Mixture
from llama_core.schedule import tokens_spent
from sweeps.cap import Cap
from sweeps.choices import (
    ADAMW,
    SCAN,
    BlockChoice,
    OptimizerChoice,
    RateScan,
    Recipe,
    Variants,
    Warmup,
    WeightDecay,
    WidthRecipe,
)
from sweeps.grid import Cell, CellsGrid, Grid
from sweeps.ladder import AnyLadder, different
from sweeps.mixtures import Mixtures, Shares, mixtures_of
from sweeps.shapes import Make, Size, key, sizes

# Version of the digest. Changing it makes every finished run train again under a new id.
_DIGEST = "isoflop-run-1"


class NextDesign(Frozen):
    """Of the grid's cells only those are trained that sharpen the forecast, chosen in rounds."""

    kind: Literal["next"] = "next"
    target_flops: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="6·N·D at which N* and the loss are to become sure; None: ten times the grid's "
        "largest",
    )


class SweepSpec(Frozen):
    """A sweep as a person writes it. `sweeps.plan.plan` turns it into runs.

    `name`, `description`, `slots`, `placement`, `cap` and `design` are not part of a run's
    identity.
    """

    # A variant's is SWEEP/VARIANT, which is its folder too.
    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,63}(/[a-z0-9][a-z0-9_-]{0,31})?$",
        description="of the sweep and its folder; lower case letters, digits, _ and -",
    )
    description: str = Field(default="", description="one line for people")
    corpus: CorpusConfig = Field(
        default=CorpusConfig(), description="the text that models are trained on"
    )
    ladder: AnyLadder = Field(description="the model sizes: widths, depths, sizes or shapes")
    block: BlockChoice = Field(
        default="llama",
        exclude_if=lambda block: block == "llama",
        description="llama, gpt3 or palm, each with what its paper trains it with; or the fields "
        "of a block",
    )
    grid: Grid = Field(description="the token counts of each size")
    recipe: Recipe = Field(
        default=WidthRecipe(), description="peak learning rate and batch of each run"
    )
    lr_factor: PositiveFloat = Field(
        default=1.0,
        exclude_if=lambda factor: factor == 1.0,
        description="times the recipe's learning rate",
    )
    optimizer: OptimizerChoice = Field(
        default=ADAMW,
        exclude_if=lambda optimizer: optimizer == ADAMW,
        description="adamw or muon, or its fields",
    )
    schedule: Literal["wsd", "cosine"] = Field(
        default="wsd",
        description="wsd: one training with a cooldown at each horizon; cosine: one for each",
    )
    cooldown_fraction: float = Field(
        default=0.3, gt=0, lt=1, description="of a horizon, in which the rate falls to zero"
    )
    max_trunk_cost: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="share of the loss, such as 0.003, that a horizon may lose by sharing rate "
        "and batch with others; a model gets as many trunks as that takes; None: one trunk",
    )
    seq_len: PositiveInt = Field(default=128, description="tokens of a sequence")
    eval_tokens: PositiveInt = Field(
        default=131_072, description="in the validation set of every evaluation"
    )
    weight_decay: WeightDecay = Field(
        default=0.1, description="a number, or a rule by which it follows the run"
    )
    z_loss: NonNegativeFloat | None = Field(
        default=None,
        exclude_if=lambda weight: weight is None,
        description="weight of the z-loss, which keeps logits small; None: the block's own",
    )
    warmup: Warmup | None = Field(
        default=None, description="linear; None: 5 % of the shortest horizon, 10 to 100 steps"
    )
    dtype: Literal["float32", "bfloat16", "auto"] = Field(
        default="float32",
        description="auto: the faster of the two on the machine that plans the sweep; runs have "
        "the one chosen, and `sweeps.plan` alone takes float32",
    )
    seeds: Annotated[
        tuple[NonNegativeInt, ...],
        Field(min_length=1, description="every size is trained once with each"),
        AfterValidator(different),
    ] = (0,)
    placement: Placement = Field(
        default=Placement(), description="where runs train, and how fast; moves no loss"
    )
    slots: PositiveInt | None = Field(
        default=None, description="trainings at once in this process; None: one per CPU or GPU"
    )
    cap: Cap | None = Field(default=None, description="what the sweep may cost at most")
    design: NextDesign | None = Field(
        default=None, description="choose cells of the grid in rounds; None: train every cell"
    )
    variants: Variants = Field(
        default={},
        exclude_if=lambda variants: not variants,
        description="settings that each variant changes, by its name",
    )
    scan: RateScan | None = Field(
        default=SCAN,
        exclude_if=lambda scan: scan == SCAN,
        description="of each variant's learning rate; None: as the recipe and lr_factor say",
    )
    mixtures: Mixtures | None = Field(
        default=None,
        exclude_if=lambda mixtures: mixtures is None,
        description="shares of the corpus's sources to try; None: their weights",
    )
    unique_tokens: Annotated[tuple[PositiveInt, ...], AfterValidator(different)] = Field(
        default=(),
        exclude_if=lambda counts: not counts,
        description="parts of the text: each size is trained on each again, to the D beyond it",
    )

    @property
    def run_dtype(self) -> Literal["float32", "bfloat16"]:
        """The precision of its runs."""
        return "float32" if self.dtype == "auto" else self.dtype

    @property
    def shares(self) -> dict[str, Shares]:
        """The shares of the sources by mixture, see `sweeps.mixtures`; none without mixtures."""
        if self.mixtures is None:
            return {}
        return mixtures_of(self.mixtures, {each.name: each.weight for each in self.corpus.sources})

    @property
    def has_one_law(self) -> bool:
        """Whether one law in N and D is for all of its runs."""
        return not self.variants and self.mixtures is None

    @property
    def continues(self) -> str | None:
        """The sweep that its cells are added to; None for a sweep of its own."""
        return self.grid.continues if isinstance(self.grid, CellsGrid) else None

    @property
    def is_variant(self) -> bool:
        """Whether it is one of the variants of another spec, with the rate of that one's scan."""
        return "/" in self.name

    @property
    def make(self) -> Make:
        """What all models of the ladder have."""
        return Make(self.corpus.vocab_size, self.block, self.seq_len)

    @property
    def sizes(self) -> list[Size]:
        """The models of the ladder, see `sweeps.shapes.sizes`."""
        return sizes(self.ladder, self.make)

    @model_validator(mode="after")
    def _cells_are_of_the_ladder(self) -> "SweepSpec":
        if not isinstance(self.grid, CellsGrid):
            return self
        keys = [key(self.ladder, size.model) for size in self.sizes]
        if set(self.grid.tokens) != set(keys):
            raise ValueError(
                f"grid.tokens has the sizes {sorted(self.grid.tokens, key=str)} and the ladder "
                f"{sorted(keys, key=str)}: name the same in both."
            )
        return self

    @model_validator(mode="after")
    def _mixtures_can_be_and_are_all_that_varies(self) -> "SweepSpec":
        if self.mixtures is not None:
            fact = "mixtures are compared on a grid of their own"
            self._refuse_beside(fact, "variants", "design", "grid.continues")
            _ = self.shares
        return self

    @model_validator(mode="after")
    def _parts_are_all_that_varies(self) -> "SweepSpec":
        if self.unique_tokens:
            fact = "unique_tokens repeats the runs of a grid of its own"
            self._refuse_beside(fact, "variants", "mixtures", "design", "grid.continues")
        return self

    def _refuse_beside(self, fact: str, *others: str) -> None:
        """Refuse a spec that has one of the other settings too."""
        values = {
            "variants": self.variants,
            "mixtures": self.mixtures,
            "design": self.design,
            "grid.continues": self.continues,
        }
        if given := [name for name in others if values[name]]:
            raise ValueError(f"{fact}, and {given[0]} is given too: leave out one of the two.")

    @model_validator(mode="after")
    def _the_optimizer_trains_as_placed(self) -> "SweepSpec":
        require_whole_matrices(self.optimizer.kind, self.placement)
        return self

    @model_validator(mode="after")
    def _a_design_chooses_from_a_grid_of_its_own(self) -> "SweepSpec":
        if self.design is None:
            return self
        if len(self.seeds) > 1:
            raise ValueError(
                f"design next trains a cell once, and seeds has {list(self.seeds)}: give one seed."
            )
        if self.continues is not None:
            raise ValueError(
                f"design next chooses from a whole grid, and these cells continue sweep "
                f"{self.continues}: leave out one of the two."
            )
        by_width: dict[int, str] = {}
        for model in (size.model for size in self.sizes):
            name = f"d{key(self.ladder, model)}"
            if (other := by_width.setdefault(model.d_model, name)) != name:
                raise ValueError(
                    f"design next tells sizes apart by width, and {other} and {name} both have "
                    f"d_model={model.d_model}. Remove one, or leave out design."
                )
        return self


class DataRef(Frozen):
    """The data a run saw: digest of the prepared corpus, tokenizer included.

    Attributes:
        mixture: None: by the weights of the corpus.
    """

    digest: str
    mixture: Mixture | None = Field(default=None, exclude_if=lambda mixture: mixture is None)


class RunSpec(Frozen):
    """Everything that can change a loss beyond rounding. Equal specs are the same run."""

    model: ModelConfig
    train: TrainConfig
    data: DataRef

    @model_validator(mode="after")
    def _sequences_fit_the_positions(self) -> "RunSpec":
        require_positions(self.model, self.train.seq_len)
        return self

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits of the SHA-256 over the canonical JSON.

        Every field counts, defaults included. A field added later is left out of JSON while it
        holds its default (`exclude_if` in `llama_core.config`), so that finished runs keep theirs.
        """
        body = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(f"{_DIGEST}\n{body}".encode()).hexdigest()[:16]


class PlannedRun(Frozen):
    """A RunSpec with the cells it was planned for; travels to workers as JSON.

    Attributes:
        variant: empty in a sweep without variants.
        mixture: empty in a sweep without mixtures.
        rate_factor: on the rate, in a run of a scan, which no law is fitted to.
    """

    sweep: str
    name: str
    run: RunSpec
    cells: tuple[Cell, ...]
    lr_source: str
    variant: str = Field(default="", exclude_if=lambda variant: not variant)
    mixture: str = Field(default="", exclude_if=lambda mixture: not mixture)
    rate_factor: float | None = Field(default=None, exclude_if=lambda factor: factor is None)

    @property
    def id(self) -> str:
        """Id of the run, see `RunSpec.id`."""
        return self.run.id

    @property
    def n_params(self) -> int:
        """N, see `llama_core.counting.ParamCounts`."""
        return count_params(self.run.model).n_params

    @property
    def unique_tokens(self) -> int | None:
        """The part of the text that it reads over and over; None in any other run or sweep."""
        mixture = self.run.data.mixture
        if mixture is None or self.mixture:
            return None
        return sum(mixture.unique_tokens.values())

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training, branches included."""
        return tokens_spent(self.run.train) // self.run.train.batch_tokens

    @property
    def flops_per_step(self) -> int:
        """Counted FLOPs of one optimizer step."""
        return train_flops(self.run.model, self.run.train.seq_len, self.run.train.batch_tokens)

    @property
    def flops_spent(self) -> int:
        """Counted FLOPs of the whole training: the trunk once, every cooldown once."""
        return self.steps * self.flops_per_step
