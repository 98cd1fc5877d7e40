"""Which column of a file holds what: isoflop's names, the field's other spellings, --map."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from textwrap import shorten

import polars as pl

from analysis.table.observations import COUNTS, SCHEMA, SHARE, TableError, nearest, plain
from analysis.table.sources import option, quoted

# isoflop's name for a column: the field's other spellings, compared without case, spaces
# and punctuation.
ALIASES: dict[str, tuple[str, ...]] = {
    "n_params": (
        *("params", "N", "parameters", "num_params", "model_size", "n_parameters"),
        # Of a mixture of experts 6·N·D holds for these.
        *("active_params", "n_active_params", "activated_params", "params_active"),
    ),
    "n_params_total": ("params_total", "total_params"),
    "n_params_no_input_embedding": ("params_no_input_embed", "params_no_input_embedding"),
    "n_params_non_embedding": (
        "params_no_embed",
        "params_non_embedding",
        "non_embedding_params",
        "n_params_no_embed",
    ),
    "tokens": ("D", "n_tokens", "num_tokens", "training_tokens", "train_tokens"),
    "train_flops": ("flops", "C", "compute", "training_flops", "flop", "training_flop"),
    "flops_6nd": ("6nd",),
    "flops_budget": ("budget", "compute_budget", "isoflop", "isoflop_budget"),
    "val_loss": ("loss", "L", "validation_loss", "eval_loss", "final_loss"),
    "val_bpb": ("bpb", "bits_per_byte"),
    "unique_tokens": ("U", "n_unique_tokens"),
    "loss_unit": ("unit",),
    "run_id": (),
}
# For laws that do not tell new tokens from repeated ones.
WITHOUT_REPETITION = {name: spelt for name, spelt in ALIASES.items() if name != "unique_tokens"}
TEXT = ("loss_unit", "run_id")
# Columns that tokens can be held against, or computed from.
STEPS = (
    *("steps", "n_steps", "num_steps", "train_steps", "training_steps", "max_steps"),
    *("total_steps", "iterations", "iters", "updates"),
)
BATCH = (
    *("batch", "batch_size", "batch_size_tokens", "tokens_per_batch", "bs"),
    *("global_batch_size", "gbs", "train_batch_size", "total_batch_size"),
    *("batch_size_seqs", "batch_size_sequences", "batch_sequences", "batch_seqs"),
)
SEQUENCE_LENGTH = (
    *("seq_len", "seqlen", "seq_length", "sequence_length", "max_seq_len", "max_seq_length"),
    *("context", "context_length", "context_size", "ctx", "ctx_len", "n_ctx", "block_size"),
)
# Weights are taken by --map only: many tables hold something else under that name.
WEIGHT = "weight"

_UNITS = {
    **dict.fromkeys(("k", "thousand", "thousands"), "1e3"),
    **dict.fromkeys(("m", "mn", "million", "millions"), "1e6"),
    **dict.fromkeys(("b", "bn", "billion", "billions"), "1e9"),
    **dict.fromkeys(("t", "tn", "trillion", "trillions"), "1e12"),
    **dict.fromkeys(("tflop", "tflops"), "1e12"),
    **dict.fromkeys(("pflop", "pflops"), "1e15"),
    **dict.fromkeys(("eflop", "eflops"), "1e18"),
    **dict.fromkeys(("zflop", "zflops"), "1e21"),
    **dict.fromkeys(("pf_days", "pflop_days", "petaflop_days"), "8.64e19"),
}

# What else than nats a column of losses may hold, by its name, and the loss computed from it.
_LOSSES = {
    r"perplexity|ppl": ("is a perplexity", "ln({})"),
    r"bits?_?per_?token|loss[\W_]*bits?\W*$": ("is in bits", "{}*ln(2)"),
    r"likelihood|log_?prob": ("is a log-likelihood", "-{}"),
}
# Names of the loss itself that are offered, not read: some count bits, or a sum over tokens.
_CROSS_ENTROPY = re.compile(r"nll|nll_loss|cross_entropy|cross_entropy_loss|xent|ce|ce_loss")
# W&B's sections, nested settings and MLflow's kinds: eval/nll, model.params_M, params.n_params.
_SECTION = re.compile(r"\s*(\w+)[/.](?=[A-Za-z]\w)")
# Columns of D/N, whose product with N is D.
_RATIO = re.compile(r"tokens?_(?:per_)?param(?:eter)?s?|d_(?:over_|per_)?n|tpp")
# FLOPs in a larger unit; TFLOPs and smaller ones are mostly of a second.
_LARGE_FLOPS = re.compile(r"(?:train_|training_|total_)?(peta|exa|zetta|p|e|z)flops?")
_LOG = re.compile(r"(?:^|(?<=[^a-z]))(ln|log_?e|log_?2|log_?10|log)(?![a-z])")
# Characters of the columns that a message lists, and spellings.
_SHOWN, _SPELLINGS = 60, 3


def resolve(
    columns: Sequence[str], mapping: Mapping[str, str], aliases: Mapping[str, tuple[str, ...]]
) -> dict[str, str]:
    """For each of isoflop's names what the file has for it: a column, or mapped arithmetic.

    Raises:
        TableError: a mapped name is none of isoflop's, or several columns could be one name.
    """
    known = {*SCHEMA, *aliases, WEIGHT}
    for name in mapping:
        if name not in known:
            raise TableError(
                f"{option(name, mapping[name])}: {name!r} is not one of isoflop's column names."
                f"{nearest(name, known)}"
            )
    names = dict(mapping)
    for name in aliases:
        if name in names or name in columns:
            names.setdefault(name, name)
            continue
        if name == "n_params" and not COUNTS.keys().isdisjoint(mapping):
            # Whoever maps a count means that one, whatever else might be N.
            continue
        candidates = [
            column for column in spelt(name, aliases, columns) if column not in names.values()
        ]
        if len(candidates) > 1:
            raise TableError(
                f"columns {', '.join(map(repr, candidates))} could all be {name}; "
                f"choose one with --map '{name}={quoted(candidates[0])}'."
            )
        if candidates:
            names[name] = candidates[0]
    return names


def missing(
    name: str,
    columns: Collection[str],
    aliases: Mapping[str, tuple[str, ...]] = ALIASES,
    *,
    also: Iterable[str] = (),
) -> str:
    """The message about a needed column that is not there, with the --map that may help.

    Args:
        also: further names that are needed and not there, whose --map is named too.
    """
    spellings = (name, *aliases.get(name, ()))
    others = ", ".join(spellings[1 : _SPELLINGS + 1])
    others += ", …" if len(spellings) > _SPELLINGS + 1 else ""
    shown = shorten(", ".join(columns), _SHOWN, placeholder=" …")
    offer = _offer(name, spellings, columns) or _offer(
        "train_flops", ALIASES["train_flops"], columns
    )
    if not offer and name == "val_loss" and any(column.startswith(SHARE) for column in columns):
        offer = " Losses by source of a table of mixtures are read by isoflop mix."
    further = (_offer(each, (each, *aliases.get(each, ())), columns) for each in also)
    return (
        f"no column for {name} (or {others}) among {shown}."
        f"{offer or _nearest(name, spellings, columns)}{''.join(further)}"
    )


def logarithm_undone(column: str) -> str:
    """Arithmetic for the number whose logarithm a column is by its name; empty for others."""
    match = _LOG.search(_apart(column))
    if match is None:
        return ""
    if match[1] in ("ln", "loge", "log_e"):
        return f"exp({quoted(column)})"
    return f"pow({2 if match[1].endswith('2') else 10},{quoted(column)})"


def numeric_column(used: pl.DataFrame, spellings: Iterable[str]) -> str:
    """The column of positive numbers under one of these names; empty where there is none."""
    for name in used.columns:
        numeric = used.schema[name].is_numeric() and not used[name].null_count()
        if plain(name) in spellings and numeric and (used[name] > 0).all():
            return name
    return ""


def spelt(name: str, aliases: Mapping[str, tuple[str, ...]], columns: Iterable[str]) -> list[str]:
    """The columns that are spelt as one of isoflop's."""
    spellings = {plain(alias) for alias in (name, *aliases[name])}
    # One-letter symbols keep their case: N, D, L and C, never n, d, l or c.
    return [
        column
        for column in columns
        if (plain(column) in spellings and len(column) > 1) or column in aliases[name]
    ]


def _offer(name: str, spellings: Iterable[str], columns: Collection[str]) -> str:
    """A sentence with the arithmetic that gives the column; empty where no name suggests it."""
    known = {plain(spelling) for spelling in spellings}
    for column in columns:
        own, is_loss = plain(_without_section(column)), name == "val_loss"
        if is_loss and plain(column).startswith("train"):
            continue
        if own in known or (is_loss and _CROSS_ENTROPY.fullmatch(own)):
            return f" Did you mean {column!r}? Then {option(name, column)}."
    for column in columns:
        undone = logarithm_undone(column)
        if undone and re.sub(r"[\W_]+", "_", _LOG.sub("", _apart(column))).strip("_") in known:
            if name == "val_loss" and plain(column) == "log_loss":
                # A usual name of the cross-entropy itself.
                return (
                    f" If {column!r} is the loss itself: --map 'val_loss={column}'; if its "
                    f"logarithm: --map 'val_loss=exp({quoted(column)})'."
                )
            return f" {column!r} is a logarithm: --map '{name}={undone}'."
        # "Params (M)" and tokens_billions are N and D in another unit.
        words = re.sub(r"[\W_]+", "_", _without_section(column)).strip("_").lower()
        base, _, unit = words.partition("_")
        while unit and unit not in _UNITS:
            word, _, unit = unit.partition("_")
            base += f"_{word}"
        if unit and base in known:
            return f" {column!r} names a unit: --map '{name}={quoted(column)}*{_UNITS[unit]}'."
        large = _LARGE_FLOPS.fullmatch(plain(_without_section(column)))
        if name == "train_flops" and large:
            unit = _UNITS[f"{large[1][0]}flops"]
            return f" {column!r} names a unit: --map 'train_flops={quoted(column)}*{unit}'."
        sizes = spelt("n_params", ALIASES, columns)
        if name == "tokens" and sizes and _RATIO.fullmatch(plain(column)):
            product = f"{quoted(sizes[0])}*{quoted(column)}"
            return f" {column!r} is D/N: --map 'tokens={product}'."
        for pattern, (what, loss) in _LOSSES.items():
            if name == "val_loss" and re.search(pattern, column, re.IGNORECASE):
                return f" {column!r} {what}: --map 'val_loss={loss.format(quoted(column))}'."
    return _offer_product(columns) if name == "tokens" else ""


def _offer_product(columns: Collection[str]) -> str:
    """A sentence with steps times batch for D, times its length where that counts sequences."""
    steps, batch, length = (
        next((column for column in columns if plain(_without_section(column)) in spellings), "")
        for spellings in (STEPS, BATCH, SEQUENCE_LENGTH)
    )
    if not (steps and batch):
        return ""
    factors = [quoted(steps), quoted(batch)]
    if "tokens" not in plain(batch):
        factors.append(quoted(length) if length else "SEQUENCE_LENGTH")
    return f" From its steps and batch: --map 'tokens={'*'.join(factors)}'."


def _without_section(column: str) -> str:
    """A column's name without sections; whole where they make it a ratio, as tokens/params."""
    section = _SECTION.match(column)
    if section is None:
        return column
    ratio = section[0].endswith("/") and any(spelt(each, ALIASES, [section[1]]) for each in ALIASES)
    if ratio:
        return column
    return _without_section(column[section.end() :])


def _apart(column: str) -> str:
    """A column's name in small letters, log10N as log10_n."""
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", column).lower()


def _nearest(name: str, spellings: Iterable[str], columns: Collection[str]) -> str:
    own = {_without_section(column): column for column in columns}
    close = [own[m] for s in spellings for m in difflib.get_close_matches(s, own, 1, 0.7)]
    if close:
        return f" Did you mean {close[0]!r}? Then {option(name, close[0])}."
    return f" Name it with --map {name}=COLUMN."
