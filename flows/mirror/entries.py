"""A sweep's observations, isoflops and sizes as entries of MLflow.

MLflow compares entries, and charts a metric of an entry against its step. The observations of one
training are one entry, so they could not be compared, nor a loss charted against N.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import polars as pl
from plotly.colors import sample_colorscale

from analysis.table.observations import SHARE
from analysis.words import counted, flops, short
from flows.mirror.metrics import Point
from flows.runs.directory import RunDir
from flows.runs.table import observations
from flows.settings import Home
from sweeps.spec import PlannedRun

# The step is N or D: MLflow has a log axis for steps alone.
AGAINST_PARAMS = "scaling/loss_against_params"
AGAINST_TOKENS = "scaling/loss_against_tokens"
COLUMNS = ("n_params", "tokens", "train_flops", "val_loss", "lr")
# With fewer sizes no lowest one lies between others.
_VALLEY = 3
_Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of MLflow that is no training.

    Attributes:
        key: its name among the entries of the sweep, kept as the tag `isoflop.run_id`.
        kind: an observation, or a curve through the losses of one isoflop, or of one size.
        parent: key of the curve under which MLflow folds it away.
        points: of each metric.
    """

    key: str
    kind: Literal["observation", "curve"]
    name: str
    verdict: str
    colour: str
    failed: bool
    points: tuple[tuple[str, Point], ...]
    parent: str | None = None

    @property
    def sha256(self) -> str:
        """Changes with anything that MLflow is sent of it."""
        return hashlib.sha256(repr(self).encode()).hexdigest()


def entries(runs: Iterable[PlannedRun], home: Home) -> list[Entry]:
    """The curves of a sweep, then the observations of the trainings that have ended."""
    runs = list(runs)
    results = {run.id: RunDir(home.runs / run.id).result() for run in runs}
    ended = {key: int(1000 * result.finished_at) for key, result in results.items() if result}
    rows = [row for row in observations(runs, home) if row["parent_run_id"] in ended]
    for row in rows:
        row["at"] = ended[row["parent_run_id"]]
    groups = _groups(rows, _isoflop)
    colours = dict(zip(groups, _colours(len(groups)), strict=True))
    curves = [_curve(name, group, colours[name]) for name, group in groups.items()]
    off_isoflops = [row for row in rows if row["flops_budget"] is None]
    sizes = _groups(off_isoflops, _size)
    for (name, group), colour in zip(sizes.items(), _colours(len(sizes)), strict=True):
        curves.append(_curve(name, group, colour, of_a_size=True))
    return [*curves, *(_observation(row, colours[_isoflop(row)]) for row in rows)]


def run_colours(runs: Sequence[PlannedRun]) -> dict[str, str]:
    """A colour for each training by its id, the same for those of one size."""
    sizes = sorted({run.n_params for run in runs})
    colours = dict(zip(sizes, _colours(len(sizes)), strict=True))
    return {run.id: colours[run.n_params] for run in runs}


def share_columns(runs: Iterable[PlannedRun]) -> list[str]:
    """The columns of the shares of a sweep of mixtures; none of another sweep."""
    mixtures = [run.run.data.mixture for run in runs if run.mixture]
    names = dict.fromkeys(name for mixture in mixtures if mixture for name in mixture.shares)
    return [f"{SHARE}{name}" for name in names]


def _groups(rows: list[_Row], name: Callable[[_Row], str]) -> dict[str, list[_Row]]:
    """The rows by the name of their curve, in rising order of what the name says."""
    groups = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row["flops_budget"] or 0, row["n_params"])):
        groups[name(row)].append(row)
    return dict(groups)


def _isoflop(row: _Row) -> str:
    """Which curve of loss against N an observation lies on."""
    budget = row["flops_budget"]
    shared = f"D = {short(row['tokens'])}" if budget is None else f"C = {flops(budget)}"
    return _of_its_own(shared, row)


def _size(row: _Row) -> str:
    """Which curve of loss against D it lies on."""
    return _of_its_own(f"N = {short(row['n_params'])}", row)


def _of_its_own(shared: str, row: _Row) -> str:
    """The name of a curve, with the variant or mixture whose losses it has."""
    return ", ".join([shared, *(row[name] for name in ("variant", "mixture") if row.get(name))])


def _curve(name: str, rows: list[_Row], colour: str, *, of_a_size: bool = False) -> Entry:
    """The losses of one isoflop against N and D, or of one size against D.

    Seeds of one N and D are one point, of their mean loss: MLflow would draw the values of a step
    as a vertical line. Its columns are those of the lowest point.
    """
    kept = _means([row for row in rows if row["excluded_reason"] is None])
    axes = {AGAINST_TOKENS: "tokens"}
    if not of_a_size:
        # The sizes of an N × D grid share D.
        isoflop = {} if rows[0]["flops_budget"] is None else axes
        axes = {AGAINST_PARAMS: "n_params", **isoflop}
    points = [
        (metric, Point(row[axis], row["val_loss"], row["at"]))
        for metric, axis in axes.items()
        for row in sorted(kept, key=lambda row: int(row[axis]))
    ]
    if kept:
        lowest = min(kept, key=lambda row: float(row["val_loss"]))
        points += _numbers(lowest)
        verdict = counted(len(kept), "loss", "losses") if of_a_size else _valley(kept, lowest)
        most = max(row["seeds"] for row in kept)
        if most > 1:
            few = "" if min(row["seeds"] for row in kept) == most else "up to "
            verdict = f"{verdict}; each loss the mean of {few}{most} seeds"
    else:
        verdict = "no loss"
    return Entry(name, "curve", name, verdict, colour, not kept, tuple(points))


def _means(rows: list[_Row]) -> list[_Row]:
    """One row for each N and D, with the mean of its losses and the count of its seeds."""
    cells = defaultdict(list)
    for row in rows:
        cells[row["n_params"], row["tokens"]].append(row)
    return [
        {
            **cell[0],
            # The names of seeds differ.
            "name": cell[0]["name"] if len(cell) == 1 else f"N = {short(cell[0]['n_params'])}",
            "val_loss": fmean(row["val_loss"] for row in cell),
            "at": max(row["at"] for row in cell),
            "seeds": len(cell),
        }
        for cell in cells.values()
    ]


def _valley(rows: list[_Row], lowest: _Row) -> str:
    """What the losses of one isoflop, in order of N, show of its optimum."""
    sizes = sorted({row["n_params"] for row in rows})
    if len(sizes) < _VALLEY:
        return f"no minimum: {counted(len(sizes), 'size')}"
    if lowest["n_params"] == sizes[0]:
        return f"lowest at the smallest size, {lowest['name']}: no minimum"
    if lowest["n_params"] == sizes[-1]:
        return f"lowest at the largest size, {lowest['name']}: no minimum"
    return f"lowest of {len(sizes)} sizes: {lowest['name']}"


def _observation(row: _Row, colour: str) -> Entry:
    reason = row["excluded_reason"]
    return Entry(
        key=row["run_id"],
        kind="observation",
        name=f"{row['name']} D={short(row['tokens'])}",
        verdict="in the fit" if reason is None else f"left out: {reason}",
        colour=colour,
        failed=row["val_loss"] is None,
        points=tuple(_numbers(row)),
        parent=_isoflop(row),
    )


def _numbers(row: _Row) -> Iterator[tuple[str, Point]]:
    shares = [name for name in row if name.startswith(SHARE)] if row.get("mixture") else []
    for name in (*COLUMNS, *shares):
        if row[name] is not None:
            yield name, Point(0, float(row[name]), row["at"])


def _colours(count: int) -> list[str]:
    """Colours of ordered curves as MLflow writes them, dark to light."""
    places = pl.linear_space(0.0, 0.9, max(count, 2), eager=True).to_list()[:count]
    channels = sample_colorscale("Viridis", places, colortype="tuple")
    return ["#" + "".join(f"{round(255 * part):02x}" for part in rgb) for rgb in channels]
