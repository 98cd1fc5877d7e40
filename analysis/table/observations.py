"""The observations table: its columns, what they count, and what no fit can use.

A row is a finished model: parameters, tokens, compute and the loss it reached.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import polars as pl

from analysis.law import CCounts, LossUnit, NCounts
from analysis.table.sources import Source

# The columns of our own runs.
SCHEMA: dict[str, pl.DataType] = {
    "run_id": pl.String(),
    "parent_run_id": pl.String(),
    "sweep": pl.String(),
    "name": pl.String(),
    "n_params": pl.Int64(),
    "n_params_total": pl.Int64(),
    "n_params_non_embedding": pl.Int64(),
    "tokens": pl.Int64(),
    "horizon": pl.Int64(),
    "train_flops": pl.Float64(),
    "flops_6nd": pl.Float64(),
    "flops_budget": pl.Float64(),
    "val_loss": pl.Float64(),
    "val_bpb": pl.Float64(),
    "loss_unit": pl.String(),
    "lr": pl.Float64(),
    "batch_tokens": pl.Int64(),
    "status": pl.String(),
    "excluded_reason": pl.String(),
}

# What begins the columns of each source of a run on several, before the source's name: its share of
# the training tokens, the loss on its own validation text in nats per token and in bits per byte,
# and its tokens in the validation set. `val_loss` is the mean of these losses, weighted by them.
SHARE, LOSS, BPB, VAL_TOKENS = "share_", "loss_", "bpb_", "val_tokens_"

# Columns that count N, and what each counts.
COUNTS: dict[str, NCounts] = {
    "n_params": "n_params",
    "n_params_total": "n_params_total",
    "n_params_no_input_embedding": "n_params",
    "n_params_non_embedding": "n_params_non_embedding",
}


# The line of the source in which a row begins, for sources that have lines.
LINE = "source_line"

# Beyond, a number is no count, loss or FLOPs, and its powers overflow.
_COMPUTABLE = (1e-12, 1e40)
_MOST_NAMED = 12  # rows in a message
_MOST_FILTERED = 8  # rows that a filter names


class TableError(ValueError):
    """A table cannot be used; the message ends with the lines at fault, if any are given.

    Attributes:
        rows: their `row`, counted from 0.
    """

    def __init__(self, message: str, rows: pl.DataFrame | None = None) -> None:
        self.rows = () if rows is None else tuple(rows["row"].to_list())
        place = "" if rows is None or rows.height == 0 else f" {name_rows(rows)}."
        super().__init__(message + place)


def sources_of(columns: Iterable[str]) -> list[str]:
    """The sources whose losses a table of our own runs has."""
    return [name.removeprefix(VAL_TOKENS) for name in columns if name.startswith(VAL_TOKENS)]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A sentence about the table. Under one that `bars_optimum` no N* is printed."""

    sentence: str
    bars_optimum: bool = False


@dataclass(frozen=True)
class Table:
    """Finished models, one a row, with what their columns hold.

    Attributes:
        frame: `row` (position in the source, from 0), n_params, tokens, val_loss, flops_6nd and
            `excluded_reason` (null where the row is used); every other column of the source;
            `LINE` where the source has lines.
        n_counts: what n_params counts.
        c_counts: `train_flops` where the source gives counted FLOPs under that name.
        loss_unit: of val_loss; a column of that name goes before it.
        derived: how a missing column was computed; empty when none was.
        read: where the columns of an answer come from; of several counts of N the fit's first.
        doubts: what reading the source left open.
    """

    frame: pl.DataFrame
    n_counts: NCounts
    c_counts: CCounts
    loss_unit: LossUnit
    derived: str = ""
    read: tuple[Source, ...] = ()
    doubts: tuple[Doubt, ...] = ()

    @cached_property
    def used(self) -> pl.DataFrame:
        """The rows without an `excluded_reason`."""
        return self.frame.filter(pl.col("excluded_reason").is_null())

    def source(self, name: str) -> Source:
        """Where one of the columns read comes from."""
        return next(source for source in self.read if source.name == name)

    def with_doubts(self, doubts: Iterable[Doubt]) -> "Table":
        """The table with these doubts after its own."""
        return replace(self, doubts=(*self.doubts, *doubts))

    def leave_out(self, rows: pl.Expr | pl.Series, reason: str) -> "Table":
        """The table with this reason at those of the rows that are used."""
        given = pl.coalesce("excluded_reason", pl.when(rows).then(pl.lit(reason)))
        return replace(self, frame=self.frame.with_columns(excluded_reason=given))

    def filter(self, rows: pl.Expr) -> "Table":
        """The table with only the rows for which the expression is true."""
        return replace(self, frame=self.frame.filter(rows))


def check(table: Table, also: Sequence[str] = ()) -> Table:
    """Refuse used rows that no fit can use; the table with their loss unit.

    Args:
        also: columns that this fit needs besides N, D, the loss and weights.

    Raises:
        TableError: NaN, infinite or non-positive values, losses in several units.
    """
    used = table.used
    needed = ("n_params", "tokens", "val_loss", "row_weight", *also)
    nullable = dict.fromkeys(needed, False) | {"train_flops": True, "flops_budget": True}
    _refuse_bad_numbers(used, {name: null for name, null in nullable.items() if name in used})
    return replace(table, loss_unit=unit_of(used, table.loss_unit))


def unit_of(used: pl.DataFrame, otherwise: LossUnit = "unknown") -> LossUnit:
    """The unit of the rows' losses, by their column loss_unit.

    Raises:
        TableError: it names several.
    """
    if "loss_unit" not in used.columns:
        return otherwise
    units = used["loss_unit"].drop_nulls().unique().sort().to_list()
    if len(units) > 1:
        raise TableError(
            f"losses in several units are pooled: {', '.join(map(str, units))}. "
            "Pick one with --where; isoflop fit --by loss_unit fits each of them."
        )
    return _loss_unit(units[0]) if units else otherwise


def name_rows(rows: pl.DataFrame) -> str:
    """Rows for a message, as their source counts them: "Lines 3, 7 and 2 more"."""
    word, numbers = numbers_for_people(rows)
    shown = ", ".join(str(number) for number in list(numbers.values())[:_MOST_NAMED])
    more = f" and {len(numbers) - _MOST_NAMED} more" if len(numbers) > _MOST_NAMED else ""
    from_1 = " (counted from 1)" if word == "row" else ""
    return f"{word.capitalize()}{'' if len(numbers) == 1 else 's'} {shown}{more}{from_1}"


def where_without(rows: pl.DataFrame) -> str:
    """The option that leaves a few rows out; empty where they are many or have no lines."""
    if LINE not in rows.columns or not 0 < len(rows) <= _MOST_FILTERED:
        return ""
    lines = ", ".join(map(str, rows[LINE]))
    return f"--where '{LINE} {f'<> {lines}' if len(rows) == 1 else f'not in ({lines})'}'"


def numbers_for_people(rows: pl.DataFrame) -> tuple[str, dict[int, int]]:
    """What people call a row of this table, `line` or `row`, and the number of each `row`.

    Lines are those of the file, the header included; rows are counted from 1.
    """
    if LINE in rows.columns:
        return "line", dict(rows.select("row", LINE).iter_rows())
    return "row", {row: row + 1 for row in rows["row"]}


def plain(name: str) -> str:
    """A column's name without case, spaces and punctuation."""
    return re.sub(r"[\s.\-/]+", "_", name.strip()).lower()


def words_of(text: str) -> frozenset[str]:
    """The words of a text, for a list of names."""
    return frozenset(text.split())


def name_words(name: str) -> list[str]:
    """The words of a column's name, in lower case: "runName", "Run Name" and "run_name" alike."""
    apart = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return re.findall(r"[a-z0-9]+", apart.lower())


def nearest(name: str, among: Iterable[str], cutoff: float = 0.6) -> str:
    """A hint with the closest match to a misspelt name; empty if nothing is close."""
    close = difflib.get_close_matches(name, sorted(among), 1, cutoff)
    return f" Did you mean {close[0]!r}?" if close else ""


def _refuse_bad_numbers(used: pl.DataFrame, columns: Mapping[str, bool]) -> None:
    """Refuse numbers that no fit can use; `columns` may be empty in a row where true."""
    numbers = {name: pl.col(name).cast(pl.Float64) for name in columns}
    every = used.filter(
        pl.any_horizontal(
            ~number.is_between(*_COMPUTABLE).fill_null(columns[name])
            for name, number in numbers.items()
        )
    )
    for name, number in numbers.items():
        missing = number.is_nan() if columns[name] else number.is_null() | number.is_nan()
        for wrong, what in (
            (missing, "is missing or NaN"),
            (number.is_infinite(), "is infinite"),
            (number <= 0, "is not positive"),
            (~number.is_between(*_COMPUTABLE), "is below 1e-12 or above 1e40"),
        ):
            bad = every.filter(wrong)
            if bad.height:
                # The filter is for all of them, so that no second refusal follows.
                raise TableError(
                    f"{name.removeprefix('row_')} {what}; a fit needs positive numbers. Correct "
                    f"the table, or leave the rows out with {where_without(every) or '--where'}.",
                    bad,
                )


def _loss_unit(name: object) -> LossUnit:
    unit = str(name).lower().replace(" ", "_").replace("/", "_per_")
    if unit in ("nats", "nats_per_token", "nat_per_token"):
        return "nats_per_token"
    return "bits_per_byte" if unit in ("bits_per_byte", "bpb") else "unknown"
