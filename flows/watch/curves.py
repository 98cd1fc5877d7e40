"""Read a sweep's curves as they grow."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.own_runs.under_way import Horizon, Trunk
from flows.files import read_lines
from flows.runs.curve import is_curve_row
from flows.runs.directory import RunDir
from llama_core.config import Cosine
from llama_core.schedule import cooldown_start
from sweeps.spec import PlannedRun

# Width of a bin in log tokens: a bin ends at 3 % more tokens than it begins.
_BIN = math.log(1.03)


@dataclass
class _Line:
    """A curve averaged in bins of tokens: bin to (tokens, sum of losses, steps)."""

    name: str
    bins: dict[int, tuple[int, float, int]] = field(default_factory=dict)


class CurveReader:
    """Follows one run's curve and averages it to the resolution of a figure.

    Every row is read once, so time grows with the curve's length and memory with its logarithm.
    """

    def __init__(self, planned: PlannedRun, run: RunDir) -> None:
        self._planned = planned
        self._path = run.curve_path
        self._read_to = 0
        self._lines: dict[str, _Line] = {}
        self._val_losses: dict[int, float] = {}
        cell = planned.cells[0]
        self._flops_per_token = cell.train_flops / cell.tokens
        self._n_params = planned.n_params

    def read(self) -> None:
        """Read the rows written since the last call."""
        if self._read_to and (not self._path.exists() or self._path.stat().st_size < self._read_to):
            # The curve was set aside, and starts again.
            self._read_to, self._lines, self._val_losses = 0, {}, {}
        for row, end in read_lines(self._path, self._read_to, is_row=is_curve_row):
            self._take(row)
            self._read_to = end

    def _take(self, row: dict[str, Any]) -> None:
        if row["kind"] == "eval":
            self._val_losses[row["horizon"]] = row["val_loss"]
        if row["kind"] != "step" or not math.isfinite(row["loss"]):
            return
        horizon = row["horizon"]
        # The last horizon's cooldown ends the trunk's line; every other is a line of its own.
        off_trunk = horizon is not None and horizon != self._planned.cells[-1].tokens
        path = f"/D_{horizon}" if off_trunk else ""
        line = self._lines.setdefault(path, _Line(self._planned.name + path))
        at = math.floor(math.log(row["tokens"]) / _BIN)
        _, total, steps = line.bins.get(at, (0, 0.0, 0))
        line.bins[at] = (row["tokens"], total + row["loss"], steps + 1)

    def curve_rows(self) -> list[dict[str, Any]]:
        """The averaged curve in the columns that `draw_loss_curves` reads."""
        return [
            {
                "run_id": self._planned.id + path,
                "name": line.name,
                "n_params": self._n_params,
                "tokens": tokens,
                "train_flops": tokens * self._flops_per_token,
                "train_loss": total / steps,
            }
            for path, line in self._lines.items()
            for tokens, total, steps in line.bins.values()
        ]

    def observation_rows(self) -> list[dict[str, Any]]:
        """Observations of the planned cells whose horizons have been evaluated."""
        return [
            {
                "run_id": f"{self._planned.id}@{cell.tokens}",
                "parent_run_id": self._planned.id,
                "name": self._planned.name,
                **({"variant": self._planned.variant} if self._planned.variant else {}),
                **({"mixture": self._planned.mixture} if self._planned.mixture else {}),
                "n_params": self._n_params,
                "tokens": cell.tokens,
                "train_flops": float(cell.train_flops),
                "flops_6nd": 6.0 * self._n_params * cell.tokens,
                "flops_budget": cell.flops_budget,
                "val_loss": self._val_losses[cell.tokens],
            }
            for cell in self._planned.cells
            if cell.tokens in self._val_losses
        ]

    def trunk(self) -> Trunk:
        """The curve before any cooldown, and the horizons with the losses that are known."""
        train = self._planned.run.train
        schedule = train.schedule
        horizons = tuple(
            Horizon(
                cell.tokens,
                cell.tokens
                if isinstance(schedule, Cosine)
                else cooldown_start(schedule, cell.tokens, train.batch_tokens) * train.batch_tokens,
                self._loss(cell.tokens),
            )
            for cell in self._planned.cells
        )
        line = self._lines.get("")
        bins = sorted(line.bins.values()) if line is not None else []
        tokens, totals, steps = np.array(bins, float).reshape(-1, 3).T
        kept = tokens <= horizons[-1].start
        losses = totals / steps
        return Trunk(
            self._n_params, tokens[kept], losses[kept], steps[kept], horizons,
            cosine=isinstance(schedule, Cosine),
        )  # fmt: skip

    def _loss(self, horizon: int) -> float | None:
        """The loss at a horizon; None before it is evaluated, and where it is no number."""
        loss = self._val_losses.get(horizon)
        return loss if loss is not None and math.isfinite(loss) and loss > 0 else None
