"""Whether the rows of a table belong to several experiments, which have a law each.

Text under a name of `_NAMED` says so by itself. Any other column of few values says it by the
losses: a law with a factor for each value explains them much better than one law for all.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import fdtrc

from analysis.law import Array
from analysis.table.numbers import near_groups
from analysis.table.observations import SCHEMA, SHARE, TableError, name_words, plain, words_of
from analysis.table.runs import run_column, runs_of
from analysis.table.states import is_state_column

# Text columns whose several values mean several laws.
_NAMED = (
    *("experiment", "group", "dataset", "corpus", "data", "family", "architecture", "arch"),
    *("sweep", "series", "suite", "tokenizer", "variant"),
)
# Words of columns that set what a law is of. They may change with the budget, as a vocabulary that
# grew, and are tested all the same; any other column that follows N, D or C is not.
_OF_AN_EXPERIMENT = words_of("""
    vocab vocabulary vocabsize tokenizer tokeniser dataset datasets data corpus mixture mix
    optimizer optimiser arch architecture context ctx seq seqlen sequence precision dtype
    norm activation mup
    """)
_OF_A_SIZE = words_of("heads head layers layer depth width dim hidden ffn mlp")
# Marks on rows change with the loss and repeats must not matter; epochs are for the form with them.
_OF_A_ROW = words_of("""
    outlier outliers exclude excluded include qc reason flag flagged note notes comment
    seed seeds replicate rep unique epoch epochs repetition repeats
    """)
# Numbers under these are results.
_MEASURED = words_of("""
    loss losses nll ppl perplexity bpb bpc acc accuracy score metric eval val test error grad rank
    """)
_MOST_VALUES, _FEWEST_ROWS = 8, 3
# As many rows, drawn at random, show any difference that matters.
_MOST_ROWS = 2000
# A meaningless column is refused once in a thousand tables, and never for a difference of loss that
# does not matter. Along N, D or C a real table's misfit makes larger ones by itself.
_CHANCE, _EFFECT, _EFFECT_NAMED = 1e-3, 0.005, 0.01
_RANKS = 0.01
# Shares sum to 1 or to 100 but for what rounding makes of them.
_PERCENT, _ROUNDED = 10.0, 0.02
# Fewer rows cannot tell a bend of the law from chance.
_FEWEST_TO_BEND = 30


@dataclass(frozen=True, slots=True)
class Experiments:
    """A column by whose values the rows are several experiments.

    Attributes:
        values: those of most rows first.
        effect: by which share losses differ between values; None where the name alone says it.
    """

    column: str
    values: tuple[object, ...]
    effect: float | None


def named_experiments(used: pl.DataFrame) -> list[Experiments]:
    """Text columns under a name that says so, with several values."""
    runs = run_column(used)
    columns = [
        name
        for name in used.columns
        if plain(name) in _NAMED and used.schema[name] == pl.String and name != runs
    ]
    groups = [_experiments(used[name].drop_nulls(), None) for name in columns]
    return [group for group in groups if len(group.values) > 1]


def shown_experiments(used: pl.DataFrame) -> list[Experiments]:
    """Columns of few values with which the losses change by more than N, D and chance."""
    runs = runs_of(used)
    if runs is not None:
        # Checkpoints of a run are not independent: its last one stands for it.
        last = used.with_columns(runs.alias("run of row")).sort("tokens")
        used = last.unique("run of row", keep="last", maintain_order=True)
    usable = pl.all_horizontal(
        (pl.col(name) > 0) & pl.col(name).is_finite() for name in ("n_params", "tokens", "val_loss")
    )
    used = used.filter(usable.fill_null(False))
    if used.height > _MOST_ROWS:
        used = used.sample(_MOST_ROWS, seed=0)
    names = [name for name in used.columns if _is_candidate(used[name])]
    shown, pooled = [], dict[tuple[bytes, bool], tuple[Array, Array]]()
    for name in names:
        effect = _effect(used, name, len(names), pooled)
        if effect is not None:
            shown.append(_experiments(used[name], effect))
    return shown


def refuse(experiments: list[Experiments]) -> None:
    """Refuse to pool several experiments.

    Raises:
        TableError: there are any; the message is about the first.
    """
    if not experiments:
        return
    first = experiments[0]
    name, values = first.column, first.values
    shown = ", ".join("empty" if value is None else str(value) for value in values[:6])
    what = ""
    if first.effect is not None:
        what = f" whose losses differ by {100 * first.effect:.2g} % at equal N and D"
    each = "" if None in values else f"; fit and forecast also take --by {shlex.quote(name)}"
    raise TableError(
        f"column {name!r} holds {len(values)} groups ({shown}{', …' if len(values) > 6 else ''})"
        f'{what}. Take one with --where "{_equals(name, values[0])}", or all with --pool{each}.'
    )


def refuse_several_shares(used: pl.DataFrame) -> None:
    """Refuse to pool runs trained on different shares of several sources.

    Raises:
        TableError: columns of shares, which sum to 1 or 100 in each row, differ between rows.
    """
    names = [c for c in used.columns if c.startswith(SHARE) and used.schema[c].is_numeric()]
    if len(names) < 2:
        return
    shares = used.select(pl.col(names).cast(pl.Float64).fill_null(0))
    sums = shares.sum_horizontal()
    whole = 100.0 if float(sums.to_numpy().mean()) > _PERCENT else 1.0
    if ((sums / whole - 1).abs() > _ROUNDED).any():
        return
    count = shares.select(pl.all() / whole).select(pl.all().round(3)).n_unique()
    if count < 2:
        return
    shown = ", ".join(name.removeprefix(SHARE) for name in names[:4])
    column = "mixture" if "mixture" in used.columns else names[0]
    first = used[column].drop_nulls().first()
    each = "; fit and forecast also take --by mixture" if column == "mixture" else ""
    raise TableError(
        f"the rows are {count} mixtures of {len(names)} sources "
        f"({shown}{', …' if len(names) > 4 else ''}), and a law in N and D holds for one. "
        f"For what the shares do, run isoflop mix; take one mixture with "
        f'--where "{_equals(column, first)}", or all with --pool{each}.'
    )


def _experiments(column: pl.Series, effect: float | None) -> Experiments:
    values = column.unique().sort(nulls_last=True).to_list()
    values.sort(key=column.to_list().count, reverse=True)
    return Experiments(column.name, tuple(values), effect)


def _is_candidate(column: pl.Series) -> bool:
    name, words = column.name, set(name_words(column.name))
    if (name in SCHEMA and name not in ("lr", "batch_tokens")) or words & _OF_A_ROW:
        return False
    if column.dtype.is_numeric() and (words & _MEASURED or words <= {"weight", "weights"}):
        return False
    if column.dtype.is_nested() or not 2 <= column.n_unique() <= _MOST_VALUES:
        return False
    return not is_state_column(column)


def _effect(
    used: pl.DataFrame,
    name: str,
    candidates: int,
    pooled: dict[tuple[bytes, bool], tuple[Array, Array]],
) -> float | None:
    """By which share losses differ between the column's values; None where it may be chance.

    Args:
        pooled: the fit of one law for all, by its rows and whether it bends; filled here, as most
            columns share it.
    """
    enough_rows = used.select(pl.len().over(name) >= _FEWEST_ROWS).to_series()
    rows = used.filter(enough_rows)
    # An empty cell is a value too: of a setting that older runs do not have.
    values = rows[name].unique(maintain_order=True).to_list()
    groups = np.array([values.index(value) for value in rows[name]], np.intp)
    if not len(groups) or not groups.max():
        return None
    words = set(name_words(name))
    is_named = bool(words & _OF_AN_EXPERIMENT) and not words & _OF_A_SIZE
    N, D, loss = (rows[c].to_numpy().astype(float) for c in ("n_params", "tokens", "val_loss"))
    if not is_named and any(_follows(groups, x) for x in (N, D, N * D, D / N)):
        return None
    # A real table is no law exactly. Where a column does not follow N and D, a law that may also
    # bend takes the misfit out of the comparison.
    bends = not is_named and len(N) >= _FEWEST_TO_BEND
    smooth = _bends(N, D) if bends else np.empty((len(N), 0))
    factors = np.eye(groups.max() + 1)[groups][:, 1:]
    free = len(N) - 5 - smooth.shape[1] - factors.shape[1]
    if free < 4:
        return None
    key = (enough_rows.to_numpy().tobytes(), bends)
    if key not in pooled:
        pooled[key] = _fit(N, D, loss, smooth, None)
    start, residual = pooled[key]
    if not is_named and _rank_test(residual, groups) > _RANKS:
        return None
    x, apart = _fit(N, D, loss, np.hstack([smooth, factors]), start)
    before, after = float(residual @ residual), max(float(apart @ apart), 1e-20)
    F = (before - after) / factors.shape[1] / (after / free)
    effect = float(np.ptp([0.0, *x[-factors.shape[1] :]]))
    # One of many columns is likelier to differ by chance.
    columns = 1 if is_named else candidates
    chance = float(fdtrc(factors.shape[1], free, F)) * columns
    enough = _EFFECT_NAMED if is_named else _EFFECT
    return effect if chance < _CHANCE and effect > enough else None


def _follows(groups: NDArray[np.intp], x: Array) -> bool:
    """Whether a column's values are steps along x, or its own value belongs to each repeated x."""
    parts = sorted((float(x[groups == k].min()), float(x[groups == k].max())) for k in set(groups))
    if all(high < low for (_, high), (low, _) in pairwise(parts)):
        return True
    places = near_groups(x, 1.02)
    pairs = np.unique(np.stack([places, groups]), axis=1)
    return bool(pairs.shape[1] == places.max() + 1 <= len(x) / 2)


def _bends(N: Array, D: Array) -> Array:
    u, v = (np.log(x) - np.log(x).mean() for x in (N, D))
    columns = np.stack([u * u, u * v, v * v], axis=1)
    return np.asarray(columns / np.maximum(np.abs(columns).max(axis=0), 1e-12))


def _fit(N: Array, D: Array, loss: Array, extra: Array, start: Array | None) -> tuple[Array, Array]:
    """Constants of (E + A/n^alpha + B/d^beta)·exp(extra·x) by least squares of ln L; residuals."""
    n, d = (x / np.exp(np.log(x).mean()) for x in (N, D))
    log_loss = np.log(loss)

    def residual(x: Array) -> Array:
        E, A, B, alpha, beta = np.exp(x[:5])
        law = np.log(E + A * n**-alpha + B * d**-beta)
        return np.asarray(log_loss - law - extra @ x[5:])

    first = min(_starts(n, d, loss), key=lambda s: s[0])[1] if start is None else start[:5]
    low = np.concatenate([np.log([1e-5, 1e-5, 1e-5, 0.02, 0.02]), np.full(extra.shape[1], -2.0)])
    high = np.concatenate([np.log([400, 3e3, 3e3, 3, 3]), np.full(extra.shape[1], 2.0)])
    begin = np.clip(np.concatenate([first, np.zeros(extra.shape[1])]), low + 1e-6, high - 1e-6)
    fit = least_squares(residual, begin, bounds=(low, high), x_scale="jac", max_nfev=200)
    return fit.x, fit.fun


def _starts(n: Array, d: Array, loss: Array) -> Iterator[tuple[float, Array]]:
    """Sum of squares and logs of the constants for some exponents; the rest is linear."""
    for alpha in (0.15, 0.25, 0.35, 0.5, 0.8):
        for beta in (0.15, 0.25, 0.35, 0.5, 0.8):
            terms = np.stack([np.ones_like(n), n**-alpha, d**-beta], axis=1) / loss[:, None]
            coefficients = np.linalg.lstsq(terms, np.ones_like(n), rcond=None)[0]
            squares = float(((terms @ coefficients - 1) ** 2).sum())
            constants = np.concatenate([np.maximum(coefficients, 1e-3), [alpha, beta]])
            yield squares, np.log(constants)


def _rank_test(residual: Array, groups: NDArray[np.intp]) -> float:
    """The chance of such ranks in equal groups, which a few outliers do not decide."""
    # scipy.stats takes a third of a second to import, and mixtures are read without it.
    from scipy.stats import kruskal

    return float(kruskal(*(residual[groups == k] for k in range(groups.max() + 1))).pvalue)


def _equals(name: str, value: object) -> str:
    column = name if name.isidentifier() else f'\\"{name}\\"'
    if value is None:
        return f"{column} IS NULL"
    if isinstance(value, str):
        # Not its repr: between double quotes SQL reads a column's name.
        text = value.replace("'", "''")
        return f"{column} = '{text}'"
    return f"{column} = {str(value).lower() if isinstance(value, bool) else value}"
