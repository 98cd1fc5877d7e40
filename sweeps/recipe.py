"""Learning rate, batch and warm-up of a model, with the source of each rule."""

from dataclasses import dataclass

from llama_core.config import ModelConfig
from llama_core.counting import count_params
from sweeps.choices import (
    FixedRecipe,
    LawRecipe,
    LlamaRecipe,
    PublishedRecipe,
    Recipe,
    Timescale,
    WidthRecipe,
)
from sweeps.grid import whole
from sweeps.published_rules import RULES, Interval
from sweeps.spec import SweepSpec

_WARMUP_FRACTION = 0.05
_WARMUP_STEPS = (10, 100)


@dataclass(frozen=True, slots=True)
class Rates:
    """Peak learning rate and tokens per step of one model, and where the rule comes from."""

    lr: float
    batch_tokens: int
    source: str


@dataclass(frozen=True, slots=True)
class MeasuredRange:
    """Lowest and highest N and batch a recipe's rule was measured at, and where."""

    n_params: Interval
    batch_tokens: tuple[int, int]
    source: str


def measured_range(recipe: Recipe) -> MeasuredRange | None:
    """Where the recipe's learning rates were measured.

    None for a fixed rate, and for published rules and a fitted law, which have their own ranges.
    """
    match recipe:
        case WidthRecipe():
            return MeasuredRange((14_000, 720_000), (512, 2048), "docs/benchmarks/demo_lr_scan.md")
        case LlamaRecipe():
            # N without the input embedding is a little below the printed sizes.
            source = "Touvron et al. 2023, Table 2: 6.7B to 65.2B"
            return MeasuredRange((6.5e9, 66e9), (4_000_000, 4_194_304), source)
        case FixedRecipe() | LawRecipe() | PublishedRecipe():
            return None


def has_budget(recipe: Recipe) -> bool:
    """Whether a recipe's rate or batch depend on the tokens of a run, at a given size."""
    match recipe:
        case LawRecipe():
            return True
        case PublishedRecipe():
            return RULES[recipe.kind].has_budget
        case _:
            return False


def rates(recipe: Recipe, model: ModelConfig, *, tokens: float, seq_len: int) -> Rates:
    """Learning rate and batch of one model under a recipe.

    Args:
        tokens: the budget it trains to; rules without D or C do not use it.
        seq_len: a rule's batch is a whole number of sequences.

    Raises:
        ValueError: the recipe names a study, and the spec lacks its law or its law of the batch.
    """
    match recipe:
        case LawRecipe():
            return _law_rates(recipe, count_params(model).n_params, tokens, seq_len)
        case PublishedRecipe():
            return _published_rates(recipe, model, tokens, seq_len)
        case WidthRecipe():
            rule = recipe.coef / model.d_model
            capped = f"capped at {recipe.cap:g}" if rule > recipe.cap else "measured"
            return Rates(
                min(rule, recipe.cap), recipe.batch_tokens, f"{recipe.coef:g}/d_model, {capped}"
            )
        case FixedRecipe():
            return Rates(recipe.lr, recipe.batch_tokens, "fixed by the spec")
        case LlamaRecipe():
            # Table 2 prints 3e-4 for 6.7B and 13.0B, 1.5e-4 for 32.5B and 65.2B.
            lr = 3e-4 if count_params(model).total < 20e9 else 1.5e-4
            return Rates(lr, recipe.batch_tokens, "Touvron et al. 2023, Table 2")


def _published_rates(
    recipe: PublishedRecipe, model: ModelConfig, tokens: float, seq_len: int
) -> Rates:
    rule = RULES[recipe.kind]
    scale = rule.scale(model, tokens=tokens, seq_len=seq_len)
    batch, words = recipe.batch_tokens, "the spec's batch"
    if batch is None:
        batch = _even(rule.batch.at(scale), seq_len)
        words = f"batch {rule.batch} tokens in whole sequences"
    return Rates(rule.lr.at(scale), batch, f"{rule.lr}, {words} ({rule.source})")


def _law_rates(recipe: LawRecipe, N: float, D: float, seq_len: int) -> Rates:
    law = recipe.fitted
    if law is None:
        raise ValueError(
            f"recipe.study={recipe.study!r} has no fitted law. Fit one with "
            f"isoflop tune {recipe.study}, or set recipe.fitted."
        )
    batch = recipe.batch_tokens
    if batch is None:
        if law.batch_coef is None:
            raise ValueError(
                f"study {recipe.study!r} has no law for the batch. Set recipe.batch_tokens, "
                f"or tune it: isoflop tune {recipe.study}."
            )
        batch = whole(law.batch_coef * D**law.batch_exponent_D, seq_len)
    lr = law.lr_coef * N**law.lr_exponent_N * D**law.lr_exponent_D
    formula = f"{law.lr_coef:.3g} N^{law.lr_exponent_N:.3g} D^{law.lr_exponent_D:.3g}"
    return Rates(lr, batch, f"{formula}, fitted by study {recipe.study}")


def require_whole_sequences(setting: str, batch_tokens: int, seq_len: int) -> None:
    """ValueError if the batch that a setting fixes is not whole sequences."""
    if batch_tokens % seq_len:
        lower = batch_tokens // seq_len * seq_len
        near = [count for count in (lower, lower + seq_len) if count]
        raise ValueError(
            f"{setting}={batch_tokens:,} is not whole sequences of seq_len={seq_len:,}. "
            f"Use {' or '.join(f'{count:,}' for count in near)}."
        )


def _even(tokens: float, seq_len: int) -> int:
    """Tokens rounded to sequences that split evenly, at least one.

    From eight sequences on it is off by a sixteenth at most.

    A step is made of equal micro-steps, so a prime number of sequences would go through one by one.
    """
    unit: int = seq_len * 2 ** max(0, round(tokens / seq_len).bit_length() - 4)
    return whole(tokens, unit)


def warmup_of(spec: SweepSpec, N: int, shortest_horizon: int, batch_tokens: int) -> int:
    """Tokens of the linear warm-up, in whole steps; one trunk serves every horizon.

    Raises:
        ValueError: the spec's own is not below the shortest horizon.
    """
    if spec.warmup is None:
        return warmup_tokens(shortest_horizon, batch_tokens)
    unit = {"steps": batch_tokens, "tokens": 1, "share": shortest_horizon, "n_params": N}
    tokens = spec.warmup.amount * unit[spec.warmup.unit]
    warmup = whole(tokens, batch_tokens)
    if warmup >= shortest_horizon:
        raise ValueError(
            f"warmup of {spec.warmup.amount:g} {spec.warmup.unit} is {warmup:,} tokens for N = "
            f"{N:,}, not below its shortest horizon of {shortest_horizon:,}. Lower warmup.amount."
        )
    return warmup


def warmup_tokens(shortest_horizon: int, batch_tokens: int) -> int:
    """Linear warm-up: 5 % of the shortest horizon, between 10 and 100 steps.

    One trunk serves every horizon, so the shortest sets it. A warm-up that takes a large share
    of a small budget bends the law (Porian et al. 2024, section 3.2).
    """
    steps = round(_WARMUP_FRACTION * shortest_horizon / batch_tokens)
    low, high = _WARMUP_STEPS
    return min(max(steps, low), high) * batch_tokens


def weight_decay_of(spec: SweepSpec, N: int, rate: Rates, tokens: float) -> float:
    """AdamW's weight decay at a size and a budget of tokens."""
    rule = spec.weight_decay
    if not isinstance(rule, Timescale):
        return rule
    tau: float = rule.coef * (tokens / N) ** rule.exponent
    return rate.batch_tokens / (rate.lr * tokens * tau)
