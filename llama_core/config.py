"""Settings of a training: model shape, recipe and placement. No torch here."""

from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    field_validator,
    model_validator,
)


class Frozen(BaseModel):
    """Base of everything that crosses a process: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def llama_ffn_width(d_model: int, *, multiple_of: int = 256, multiplier: float = 1.0) -> int:
    """Hidden width of SwiGLU by the LLaMA code's rule.

    Two thirds of 4·d_model, times `multiplier`, rounded up to `multiple_of`
    (Touvron et al. 2023, section 2.2, and `FeedForward` of the released code, branch llama_v1;
    the multiplier came with Llama 2 70B). Rounds down to an integer after each
    product, as that code does.
    """
    width = int(multiplier * (2 * 4 * d_model // 3))
    return multiple_of * ((width + multiple_of - 1) // multiple_of)


class Block(Frozen):
    """What a layer is made of; the defaults are LLaMA's (Touvron et al. 2023, section 2.2).

    `gelu` is the tanh approximation, as GPT-2 computes it. `biases` adds one to every linear
    layer and LayerNorm; RMSNorm and the output layer never have one. `parallel` is PaLM's: one
    norm, and both branches read it (Chowdhery et al. 2022, section 2).
    """

    norm: Literal["rms", "layer"] = Field(default="rms", description="RMSNorm or LayerNorm")
    ffn: Literal["swiglu", "geglu", "gelu", "relu2"] = Field(
        default="swiglu",
        description="feed-forward: gated with three matrices (swiglu, geglu), or with two",
    )
    positions: Literal["rotary", "learned", "none"] = Field(
        default="rotary", description="how a token knows its place in the sequence"
    )
    biases: bool = Field(default=False, description="in every linear layer and LayerNorm")
    parallel: bool = Field(
        default=False, description="attention and feed-forward read the same norm, as in PaLM"
    )

    @property
    def gated(self) -> bool:
        """Whether the feed-forward multiplies by a gate: three matrices instead of two."""
        return self.ffn in ("swiglu", "geglu")


class ModelConfig(Frozen):
    """Shape of one decoder. Everything here is part of a run's identity.

    Fields that are younger than some finished runs are left out of JSON, and so out of run ids,
    while they hold their default.
    """

    vocab_size: PositiveInt
    d_model: PositiveInt
    n_layers: PositiveInt
    n_heads: PositiveInt
    n_kv_heads: PositiveInt
    head_dim: PositiveInt
    d_ffn: PositiveInt
    rope_theta: PositiveFloat = 10_000.0
    norm_eps: PositiveFloat = 1e-5
    tie_embeddings: bool = False
    qk_norm: bool = False
    init_std: PositiveFloat = 0.02
    block: Block = Field(default=Block(), exclude_if=lambda block: block == Block())
    max_positions: PositiveInt | None = Field(
        default=None,
        exclude_if=lambda length: length is None,
        description="longest sequence, the length of the table of learned positions",
    )

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"n_heads={self.n_heads} is not a multiple of n_kv_heads={self.n_kv_heads}. "
                f"Grouped-query attention shares each key-value head among equally many "
                f"query heads: choose n_kv_heads among the divisors of {self.n_heads}."
            )
        if self.block.positions == "rotary" and self.head_dim % 2:
            raise ValueError(
                f"head_dim={self.head_dim} is odd. Rotary embeddings rotate pairs: make it even."
            )
        return self

    @model_validator(mode="after")
    def _learned_positions_have_a_length(self) -> Self:
        positions = self.block.positions
        if positions == "learned" and self.max_positions is None:
            raise ValueError(
                "block.positions=learned needs max_positions, the length of its table: "
                "set it to seq_len or more."
            )
        if positions != "learned" and self.max_positions is not None:
            raise ValueError(
                f"max_positions={self.max_positions:,} is the length of the table of learned "
                f"positions, and block.positions={positions} has none: leave it out."
            )
        return self


def require_positions(model: ModelConfig, length: int) -> None:
    """ValueError if a sequence is longer than the table of learned positions."""
    if model.max_positions is not None and model.max_positions < length:
        raise ValueError(
            f"a sequence of {length:,} tokens is longer than the table of learned positions, "
            f"max_positions={model.max_positions:,}. Shorten it, or train with max_positions of "
            f"{length:,} or more."
        )


class AdamW(Frozen):
    """AdamW with decoupled weight decay on matrices only (Touvron et al. 2023, section 2.3)."""

    # Left out of JSON: run ids are older than the choice.
    kind: Literal["adamw"] = Field(default="adamw", exclude_if=lambda _: True)
    lr: PositiveFloat
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.1


class Muon(Frozen):
    """Muon on the matrices of the layers, AdamW on embedding, output layer and vectors.

    Muon orthogonalises the momentum of each matrix (Jordan et al. 2024, kellerjordan.github.io).
    Its update is scaled to the size of AdamW's, by 0.2·sqrt(larger side) (Liu et al. 2025,
    arXiv:2502.16982, eq. 4), so both have the same `lr` and `weight_decay`, and AdamW's learning
    rates are where a search for Muon's begins. `beta1`, `beta2` and `eps` are AdamW's.
    """

    # Prefect checks a deployment's parameters by this schema. With `kind` left to its default an
    # AdamW's JSON, which has none, would be valid for both.
    model_config = ConfigDict(json_schema_extra={"required": ["kind", "lr"]})

    kind: Literal["muon"] = "muon"
    lr: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.1


def _kind_of_optimizer(value: object) -> str:
    kind = value.get("kind", "adamw") if isinstance(value, dict) else getattr(value, "kind", "")
    return str(kind)


Optimizer = Annotated[
    Annotated[AdamW, Tag("adamw")] | Annotated[Muon, Tag("muon")],
    Discriminator(_kind_of_optimizer),
]


class Wsd(Frozen):
    """Warm up, hold, and cool down once per horizon: one trunk, several finished models.

    The trunk keeps the peak learning rate. For every horizon D a branch leaves the trunk
    at (1 - cooldown_fraction)·D tokens and cools to zero at D (Hu et al. 2024,
    arXiv:2404.06395, section 4; Hägele et al. 2024, arXiv:2405.18392).
    """

    kind: Literal["wsd"] = "wsd"
    horizons: tuple[PositiveInt, ...] = Field(min_length=1, description="tokens, increasing")
    cooldown_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.3
    shape: Literal["linear", "one_minus_sqrt"] = "linear"

    @model_validator(mode="after")
    def _horizons_increase(self) -> Self:
        if list(self.horizons) != sorted(set(self.horizons)):
            raise ValueError(
                f"horizons {self.horizons} are not different token counts in rising order. "
                f"Sort them and remove repeats."
            )
        return self


class Cosine(Frozen):
    """Cosine from the peak to `final_fraction` of it at `tokens` (Touvron et al. 2023, 2.3)."""

    kind: Literal["cosine"] = "cosine"
    tokens: PositiveInt
    final_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1

    @property
    def horizons(self) -> tuple[int, ...]:
        """The one horizon of a cosine run, in tokens."""
        return (self.tokens,)


Schedule = Annotated[Wsd | Cosine, Field(discriminator="kind")]


class TrainConfig(Frozen):
    """The recipe: everything that can change a loss beyond rounding, apart from shape and data.

    Horizons and warm-up are in tokens; horizons are whole numbers of steps.
    """

    seq_len: PositiveInt
    batch_tokens: PositiveInt
    warmup_tokens: NonNegativeInt
    schedule: Schedule
    optimizer: Optimizer
    clip_norm: PositiveFloat = 1.0
    z_loss: NonNegativeFloat = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: NonNegativeInt = 0
    eval_tokens: PositiveInt = Field(description="tokens in the fixed validation set")

    @model_validator(mode="after")
    def _whole_steps(self) -> Self:
        _require_multiple("batch_tokens", self.batch_tokens, "seq_len", self.seq_len)
        for tokens in self.schedule.horizons:
            _require_multiple("horizon", tokens, "batch_tokens", self.batch_tokens)
        _require_multiple("eval_tokens", self.eval_tokens, "seq_len", self.seq_len)
        return self

    @property
    def total_steps(self) -> int:
        """Steps to the last horizon, branches not counted."""
        return self.schedule.horizons[-1] // self.batch_tokens


def _require_multiple(name: str, tokens: int, unit_name: str, unit: int) -> None:
    if tokens % unit:
        below = tokens // unit * unit
        nearest = f"{below:,} or {below + unit:,}" if below else f"{unit:,}"
        raise ValueError(
            f"{name}={tokens:,} is not a multiple of {unit_name}={unit:,}. Use {nearest}."
        )


class Placement(Frozen):
    """Where a run trains and how fast; never part of its identity.

    Only settings that leave every loss the same up to rounding belong here.
    """

    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:1")
    threads: PositiveInt | None = Field(
        default=None, description="CPU threads of a training; None: torch's own"
    )
    micro_batch_rows: PositiveInt | None = Field(
        default=None, description="sequences in one forward pass; None: as many as fit"
    )
    attention: Literal["auto", "eager", "sdpa"] = Field(
        default="auto",
        description="plain operations or the fused kernel; auto: by device and length",
    )
    compile: Literal["auto", "on", "off"] = Field(
        default="auto", description="torch.compile; auto: where measured to pay"
    )
    stack: Literal["auto", "off"] | PositiveInt = Field(
        default="auto",
        description="models of one shape trained as one program: where measured to pay, never, "
        "or as many as this",
    )
    activation_checkpointing: Literal["off", "selective", "full"] = Field(
        default="off", description="compute activations again in the backward pass, to save memory"
    )
    ranks: PositiveInt = Field(
        default=1, description="processes that train one model together, a GPU each"
    )
    sharding: Literal["replicate", "shard"] = Field(
        default="replicate", description="with several ranks: DDP, or FSDP2"
    )
    deterministic: bool = Field(
        default=False, description="the same bits at every repeat on one machine; slower"
    )
    checkpoint_every_s: PositiveFloat = Field(
        default=60.0, description="between checkpoints; a killed training repeats at most this"
    )
    keep_checkpoints: PositiveInt = Field(
        default=2, description="the newest ones that stay on disk while a run trains"
    )

    @field_validator("compile", "stack", mode="before")
    @classmethod
    def _yaml_reads_on_and_off_as_booleans(cls, value: object) -> object:
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def require_whole_matrices(optimizer: Literal["adamw", "muon"], placement: Placement) -> None:
    """ValueError if Muon, which orthogonalises whole matrices, is to train split ones."""
    if optimizer == "muon" and placement.sharding == "shard":
        raise ValueError(
            "optimizer muon orthogonalises whole matrices, and placement.sharding=shard splits "
            "them among ranks. Use placement.sharding=replicate, or optimizer adamw."
        )


def require_equal_shares(cfg: TrainConfig, ranks: int) -> None:
    """ValueError if ranks cannot share the rows of a batch equally."""
    rows = cfg.batch_tokens // cfg.seq_len
    if rows % ranks:
        raise ValueError(
            f"batch_tokens={cfg.batch_tokens:,} is {rows} rows of seq_len={cfg.seq_len}, which "
            f"{ranks} ranks cannot share equally. Make it a multiple of {ranks * cfg.seq_len:,}, "
            "or change placement.ranks."
        )
