"""Which column of a file holds what: isoflop's names, the field's other spellings, --map."""

import difflib
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence

from analysis.table.observations import COUNTS, SCHEMA, TableError, nearest, plain
from analysis.table.sources import quoted

# isoflop's name for a column: the field's other spellings, compared without case, spaces
# and punctuation.
ALIASES: dict[str, tuple[str, ...]] = {
    "n_params": ("params", "N", "parameters", "num_params", "model_size", "n_parameters"),
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
TEXT = ("loss_unit", "run_id")
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

# Columns that a message lists.
_SHOWN = 20


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
            column for column in _spelt(name, aliases, columns) if column not in names.values()
        ]
        if len(candidates) > 1:
            raise TableError(
                f"columns {', '.join(map(repr, candidates))} could all be {name}; "
                f"choose one with --map '{name}={quoted(candidates[0])}'."
            )
        if candidates:
            names[name] = candidates[0]
    return names


def option(name: str, given: str) -> str:
    """The option as its user typed it."""
    return f"--map {shlex.quote(f'{name}={given}')}"


def missing(name: str, columns: Collection[str]) -> str:
    """The message about a needed column that is not there, with the --map that may mend it."""
    spellings = (name, *ALIASES.get(name, ()))
    shown = list(columns)[:_SHOWN]
    more = f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
    return (
        f"no column for {name} (also accepted: {', '.join(spellings[1:])}); "
        f"the table has {', '.join(shown)}{more}.{_offer(name, spellings, columns)}"
    )


def _offer(name: str, spellings: Iterable[str], columns: Collection[str]) -> str:
    known = {plain(spelling) for spelling in spellings}
    for column in columns:
        # "Params (M)" and tokens_billions are N and D in another unit.
        base, _, unit = re.sub(r"[\W_]+", "_", column.strip()).strip("_").lower().partition("_")
        while unit and unit not in _UNITS:
            word, _, unit = unit.partition("_")
            base += f"_{word}"
        if unit and base in known:
            return f" {column!r} names a unit: --map '{name}={quoted(column)}*{_UNITS[unit]}'."
        if name == "val_loss" and re.search(r"perplexity|ppl", column, re.IGNORECASE):
            return f" {column!r} is a perplexity: --map 'val_loss=ln({quoted(column)})'."
    close = [m for s in spellings for m in difflib.get_close_matches(s, columns, 1, 0.7)]
    if close:
        return f" Did you mean {close[0]!r}? Then --map {name}={close[0]}."
    return f" Name it with --map {name}=COLUMN."


def _spelt(name: str, aliases: Mapping[str, tuple[str, ...]], columns: Sequence[str]) -> list[str]:
    spellings = {plain(alias) for alias in (name, *aliases[name])}
    # One-letter symbols keep their case: N, D, L and C, never n, d, l or c.
    return [
        column
        for column in columns
        if (plain(column) in spellings and len(column) > 1) or column in aliases[name]
    ]
