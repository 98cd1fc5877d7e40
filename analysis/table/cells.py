"""Models of one N and D trained with several settings, of which a law takes the best."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from analysis.table.numbers import near_groups
from analysis.table.observations import Doubt, Table, TableError, name_words, words_of
from analysis.table.runs import runs_of

# Tokens that round to whole batches; rates and batches written with a few digits.
_SAME_N, _SAME_D, _SAME_SETTING = 1.001, 1.01, 1.01
_SETTINGS = (
    *("lr", "eta", "learning rate", "learningrate"),
    *("batch", "bs", "gbs", "batchsize"),
    *("warmup", "warm up", "schedule", "scheduler", "decay", "wd", "cooldown"),
    *("beta", "beta1", "beta2", "b1", "b2", "momentum", "eps", "epsilon"),
    *("dropout", "clip", "grad norm", "ema", "init std", "init scale"),
)
# What a run measures beside its settings: the rate at the last step, seconds of a batch.
_MEASURED = words_of("loss time seconds hours sec s ms throughput per last current micro eval val")


@dataclass(frozen=True, slots=True)
class Tried:
    """A setting of which several values were trained at the same N and D.

    Attributes:
        cells: N and D at which it was.
        values: the most values at one of them.
    """

    column: str
    cells: int
    values: int


def tried_settings(used: pl.DataFrame) -> list[Tried]:
    """The settings that have several values at the same N and D, by the names of their columns."""
    names = [name for name in used.columns if _is_setting(name)]
    if not names or not used.height:
        return []
    rows = _with_cells(used)
    runs = runs_of(used)
    if runs is not None:
        # A run's own rate changes from one checkpoint to the next.
        rows = rows.with_columns(runs.alias("run of row")).unique(
            ["cell", "run of row"], keep="any"
        )
    tried = []
    for name in names:
        steps = rows.select("cell", _steps(rows[name]).alias("step")).drop_nulls()
        values = steps.group_by("cell").agg(pl.col("step").n_unique())
        counts = values.filter(pl.col("step") > 1)["step"].to_list()
        if counts:
            tried.append(Tried(name, len(counts), max(counts)))
    return tried


def refuse_tried_settings(table: Table) -> None:
    """Refuse to pool models of one N and D that differ in a setting.

    Raises:
        TableError: some do.
    """
    tried = tried_settings(table.used)
    if not tried:
        return
    names = ",".join(setting.column for setting in tried)
    most = max(tried, key=lambda setting: setting.cells)
    pairs = "1 pair of N and D has" if most.cells == 1 else f"{most.cells} pairs of N and D have"
    raise TableError(
        f"{pairs} up to {most.values} values of {most.column}. Take the best of each pair with "
        f"--best-of {_quoted(names)}, pick rows with --where, or fit all with --pool."
    )


def best_of(table: Table, columns: Sequence[str]) -> Table:
    """The table with only the best setting of each N and D used, by its mean loss.

    Rows of other settings get a reason; repeats of the best one stay. A doubt counts the pairs of
    N and D whose best setting is the least or the greatest that was tried there.

    Raises:
        TableError: a column is missing, or a setting left out of `columns` varies too.
    """
    used = table.used
    for name in columns:
        if name not in used.columns:
            raise TableError(
                f"--best-of {name}: there is no such column; the table has "
                f"{', '.join(table.frame.columns)}."
            )
    others = [s.column for s in tried_settings(used) if s.column not in columns]
    if others:
        names = ",".join([*columns, *others])
        raise TableError(
            f"--best-of {','.join(columns)}: {', '.join(others)} varies at one N and D too. Take "
            f"the best of all with --best-of {_quoted(names)}."
        )
    if not used.height:
        return table
    cells = _with_cells(used)
    cells = cells.with_columns(_steps(cells[name]).alias(f"step {name}") for name in columns)
    steps = [f"step {name}" for name in columns]
    cells = cells.with_columns(pl.col("val_loss").mean().over("cell", *steps).alias("mean"))
    # Of settings equally good the first one is taken.
    order = ["cell", "mean", *steps]
    winners = cells.sort(order).group_by("cell", maintain_order=True).first().select("cell", *steps)
    kept = cells.join(winners, on=["cell", *steps], how="semi", nulls_equal=True)
    lost = ~pl.col("row").is_in(kept["row"].implode())
    doubts = [Doubt(doubt) for name in columns for doubt in _at_the_end(cells, kept, name)]
    reason = f"not the best {', '.join(columns)} of its N and D"
    return table.leave_out(lost, reason).with_doubts(doubts)


def _at_the_end(cells: pl.DataFrame, kept: pl.DataFrame, name: str) -> list[str]:
    """A sentence for either end of the tried values at which best ones lie."""
    if not cells.schema[name].is_numeric():
        return []
    ranges = cells.group_by("cell").agg(
        low=pl.col(name).min(), high=pl.col(name).max(), steps=pl.col(f"step {name}").n_unique()
    )
    best = kept.unique("cell").select("cell", pl.col(name).alias("best"))
    both = ranges.filter(pl.col("steps") > 1).join(best, on="cell")
    sentences = []
    for end, words, further in (("low", "least", "lower"), ("high", "greatest", "higher")):
        there = both.filter(pl.col("best") / pl.col(end) - 1 < _SAME_SETTING - 1)
        there = there.filter(pl.col("best") / pl.col(end) > 2 - _SAME_SETTING)
        if there.height:
            sentences.append(
                f"At {there.height} of {both.height} pairs of N and D the best {name} is the "
                f"{words} that was tried, so a {further} one may be better still."
            )
    return sentences


def _with_cells(used: pl.DataFrame) -> pl.DataFrame:
    """The rows with `cell`, the number of their N and D."""
    sizes = near_groups(used["n_params"].to_numpy(), _SAME_N)
    cells = near_groups(used["tokens"].to_numpy(), _SAME_D, within=sizes)
    return used.with_columns(cell=cells)


def _steps(column: pl.Series) -> pl.Series:
    """Equal numbers for values that differ by rounding only; other columns as they are."""
    if not column.dtype.is_numeric() or not (column.drop_nulls() > 0).all():
        return column
    present = (column.is_not_null() & column.cast(pl.Float64).is_finite()).fill_null(False)
    steps = near_groups(column.filter(present).to_numpy(), _SAME_SETTING)
    return pl.Series([None] * len(column), dtype=pl.Int64).scatter(present.arg_true(), steps)


def _is_setting(name: str) -> bool:
    words = name_words(name)
    phrases = {*words, *(" ".join(pair) for pair in pairwise(words))}
    return not phrases.isdisjoint(_SETTINGS) and phrases.isdisjoint(_MEASURED)


def _quoted(names: str) -> str:
    return f"'{names}'" if " " in names else names
