"""From a table of (N, D, lr, batch, loss) to surfaces and laws; our own trials or a paper's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.foreign_table import read_table
from analysis.observations import TableError, check
from analysis.tuning.law import TunedLaw, TunedPoint, fit_laws
from analysis.tuning.rules import published_exponents
from analysis.tuning.surface import Axis, SurfaceError, Trials, check_trials, fit_surfaces

# Searched parameters that a table may tell, learning rate and batch first.
AXES = ("lr", "batch_tokens", "warmup_fraction", "beta2_gap", "weight_decay")
_SPELLINGS = {
    "lr": ("learning_rate", "peak_lr", "max_lr", "eta"),
    "batch_tokens": ("batch", "batch_size", "batch_size_tokens", "tokens_per_batch", "bs"),
}
# Budgets closer than this factor are one budget, rounded to whole steps of different batches.
_SAME_BUDGET = 1.05


@dataclass(frozen=True, slots=True)
class LrFit:
    """What a table of trials says about learning rate and batch.

    Attributes:
        table: the rows used, with `budget`, the mean tokens of the budget each belongs to.
        points: a surface for each size and budget that has one.
        lr, batch: the laws that the trials alone tell.
        recipe_lr, recipe_batch: the laws of the trials and of published exponents together, which
            go on where the trials leave an exponent open. What a sweep is given.
        refusals: why the others have none.
        advice: which ranges to widen, and what is not identified.
    """

    table: pl.DataFrame
    points: tuple[TunedPoint, ...]
    lr: TunedLaw
    batch: TunedLaw
    recipe_lr: TunedLaw
    recipe_batch: TunedLaw
    refusals: tuple[str, ...]
    advice: tuple[str, ...]
    level: float

    def as_json(self) -> dict[str, Any]:
        """The laws and the optima they go through."""
        return {
            "lr": self.lr.as_json(("coef", "exponent_N", "exponent_D")),
            "batch": self.batch.as_json(("coef", "exponent_D")),
            "recipe": {
                "lr": self.recipe_lr.as_json(("coef", "exponent_N", "exponent_D")),
                "batch": self.recipe_batch.as_json(("coef", "exponent_D")),
                "published": {name: known.words for name, known in published_exponents().items()},
            },
            "level": self.level,
            "optima": [_optimum_json(point) for point in self.points],
            "support": self.support(),
            "refusals": list(self.refusals),
            "advice": list(self.advice),
        }

    def support(self) -> dict[str, list[float]]:
        """Ranges of N and D that the laws were fitted on."""
        found = {"N": [p.N for p in self.points], "D": [p.D for p in self.points]}
        return {name: [min(values), max(values)] for name, values in found.items() if values}


def read_lr_table(path: Path, *, mapping: Mapping[str, str] | None = None) -> pl.DataFrame:
    """Read a table of trials from a file as `analysis.foreign_table.read_table` does.

    Raises:
        TableError: as there; or no column tells the learning rate.
    """
    frame = check(read_table(path, mapping=mapping)).frame
    for house, spellings in _SPELLINGS.items():
        if house in frame.columns:
            continue
        hits = [name for name in frame.columns if name.lower().replace(" ", "_") in spellings]
        if len(hits) > 1:
            raise TableError(
                f"columns {', '.join(map(repr, hits))} could all be {house}; "
                f"say which with --map {house}={hits[0]}."
            )
        if hits:
            frame = frame.rename({hits[0]: house})
    if "lr" not in frame.columns:
        raise TableError(
            f"no column tells lr. There are {', '.join(frame.columns)}. "
            "Name it with --map lr=THEIRS."
        )
    return _numeric(frame)


def fit_lr(
    frame: pl.DataFrame,
    *,
    ranges: Mapping[int, Sequence[Axis]] | None = None,
    level: float = 0.9,
    seed: int = 0,
) -> LrFit:
    """Surfaces for every size and budget, and the laws through their minima.

    Args:
        frame: n_params, tokens, val_loss and `AXES` as far as known; rows with an
            `excluded_reason` are passed over.
        ranges: searched ranges by N; without them a range is what the rows span.

    Raises:
        TableError: no size has enough trials for a surface.
    """
    used = frame
    if "excluded_reason" in frame.columns:
        used = frame.filter(pl.col("excluded_reason").is_null())
    used = _with_budgets(used.filter(pl.col("val_loss").is_not_null()))
    refusals: list[str] = []
    # What was searched alike is fitted together: the same axes, the same number of budgets.
    alike: dict[tuple[tuple[str, ...], int], list[tuple[float, list[pl.DataFrame], Trials]]] = {}
    for (N,), rows in used.group_by("n_params", maintain_order=True):
        axes = _axes(rows, (ranges or {}).get(int(N)))
        for budgets in _together(rows, [axis.name for axis in axes]):
            trials = _trials(budgets, axes)
            try:
                check_trials(trials)
            except SurfaceError as error:
                refusals.append(f"N = {N:,.0f}: {error}")
                continue
            key = tuple(axis.name for axis in axes), len(budgets)
            alike.setdefault(key, []).append((float(N), budgets, trials))
    points: list[TunedPoint] = []
    for number, group in enumerate(alike.values()):
        fitted = fit_surfaces([trials for *_, trials in group], level=level, seed=(seed, number))
        for (N, budgets, _), surfaces in zip(group, fitted, strict=True):
            points += [
                TunedPoint(N, float(part["budget"][0]), surface)
                for part, surface in zip(budgets, surfaces, strict=True)
            ]
    if not points:
        raise TableError("no size can be fitted. " + " ".join(refusals))
    points.sort(key=lambda point: (point.N, point.D))
    lr, batch = fit_laws(points, level)
    recipe_lr, recipe_batch = fit_laws(points, level, published_exponents())
    advice = [*_widen(points), *_capital(lr.reasons), *_capital(batch.reasons)]
    return LrFit(
        table=used,
        points=tuple(points),
        lr=lr,
        batch=batch,
        recipe_lr=recipe_lr,
        recipe_batch=recipe_batch,
        refusals=tuple(refusals),
        advice=tuple(advice),
        level=level,
    )


def _numeric(frame: pl.DataFrame) -> pl.DataFrame:
    present = [name for name in AXES if name in frame.columns]
    try:
        frame = frame.with_columns(pl.col(name).cast(pl.Float64) for name in present)
    except pl.exceptions.PolarsError as error:
        raise TableError(f"a column of {', '.join(present)} holds text: {error}") from error
    for name in present:
        used = frame.filter(pl.col("excluded_reason").is_null())
        bad = used.filter(~(pl.col(name) > 0) | ~pl.col(name).is_finite() | pl.col(name).is_null())
        if bad.height:
            raise TableError(f"{name} must be positive.", bad["row"])
    return frame


def _with_budgets(frame: pl.DataFrame) -> pl.DataFrame:
    """Add `budget`: the mean tokens of rows whose budgets are one but for rounding."""
    parts = []
    for rows in frame.sort("n_params", "tokens").partition_by("n_params", maintain_order=True):
        logs = np.log(rows["tokens"].to_numpy().astype(float))
        group = np.concatenate([[0], np.cumsum(np.diff(logs) > np.log(_SAME_BUDGET))])
        parts.append(rows.with_columns(pl.Series("group", group)))
    if not parts:
        raise TableError("the table has no finished trial.")
    return (
        pl.concat(parts)
        .with_columns(pl.col("tokens").mean().over("n_params", "group").alias("budget"))
        .drop("group")
    )


def _axes(rows: pl.DataFrame, ranges: Sequence[Axis] | None) -> list[Axis]:
    if ranges is not None:
        return list(ranges)
    found = []
    for name in AXES:
        if name in rows.columns and rows[name].n_unique() > 1:
            low, high = rows[name].min(), rows[name].max()
            found.append(Axis(name, float(low), float(high)))  # type: ignore[arg-type]
    return found


def _together(rows: pl.DataFrame, names: Sequence[str]) -> list[list[pl.DataFrame]]:
    """Budgets of one size, those tried at the same points as one group, whose luck is shared."""
    budgets = [part.sort(names) for part in rows.partition_by("budget", maintain_order=True)]
    first = budgets[0].select(names)
    if all(part.select(names).equals(first) for part in budgets):
        return [budgets]
    return [[part] for part in budgets]


def _trials(budgets: Sequence[pl.DataFrame], axes: Sequence[Axis]) -> Trials:
    points = budgets[0].select([axis.name for axis in axes]).to_numpy().astype(float)
    losses = np.stack([part["val_loss"].to_numpy().astype(float) for part in budgets], axis=1)
    return Trials(tuple(axes), points, losses)


def _widen(points: Sequence[TunedPoint]) -> list[str]:
    """A sentence for each minimum that lies at the end of the searched range."""
    found = []
    for point in points:
        for axis in point.surface.axes:
            edge = point.surface.optima[axis.name].edge
            if edge is None:
                continue
            end = axis.low if edge == "low" else axis.high
            further = end / 4 if edge == "low" else end * 4
            found.append(
                f"At N = {point.N:,.0f} and D = {point.D:,.0f} the best {axis.name} lies at the "
                f"{edge} end of the searched range, {end:.3g}: widen it to {further:.2g}."
            )
    return found


def _capital(reasons: Sequence[str]) -> list[str]:
    return [f"{reason[0].upper()}{reason[1:]}." for reason in reasons]


def _optimum_json(point: TunedPoint) -> dict[str, Any]:
    surface = point.surface
    return {
        "N": point.N,
        "D": point.D,
        "loss": surface.loss,
        "noise": surface.noise,
        "trials": len(surface.rows),
        "axes": [axis.name for axis in surface.axes],
        "curvature": surface.curvature.tolist(),
        **{
            name: {
                "value": found.value,
                "interval": [found.low, found.high],
                "edge": found.edge,
            }
            for name, found in surface.optima.items()
        },
    }


def law_numbers(document: dict[str, Any] | None) -> dict[str, float]:
    """The constants of a study's laws that its trials identify, by name."""
    if document is None:
        return {}
    lr, batch = document["lr"], document["batch"]
    found = {
        "lr_coef": lr["coef"],
        "lr_exponent_N": lr["exponent_N"],
        "lr_exponent_D": lr["exponent_D"],
        "batch_coef": batch["coef"],
        "batch_exponent_D": batch["exponent_D"],
    }
    return {name: value for name, value in found.items() if value is not None}
