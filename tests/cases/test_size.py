"""Tables of many rows: the work and the memory of a fit grow with the rows, not their square."""

import tracemalloc

import numpy as np
import polars as pl
import pytest

from analysis.fit.answer import fit_table
from analysis.fit.options import FitOptions
from analysis.fit.records import GroupFit
from analysis.law import Array
from analysis.solver.objective import Objective
from analysis.solver.uncertainty import EXACT_ROWS
from analysis.table.columns import normalise
from tests.simulated import CHINCHILLA


def _checkpoints(runs: int, checkpoints: int, seed: int = 0) -> pl.DataFrame:
    """Runs of random sizes and horizons, each with equally spaced checkpoints."""
    rng = np.random.default_rng(seed)
    size = np.exp(rng.uniform(np.log(2e7), np.log(2e9), runs))
    horizon = size * np.exp(rng.uniform(np.log(3), np.log(200), runs))
    N = np.repeat(size, checkpoints)
    D = np.outer(horizon, np.arange(1, checkpoints + 1) / checkpoints).ravel()
    luck = np.repeat(0.003 * rng.standard_normal(runs), checkpoints)
    loss = CHINCHILLA.loss(N, D) * np.exp(luck + 0.003 * rng.standard_normal(len(N)))
    names = np.repeat([f"run {k}" for k in range(runs)], checkpoints)
    return pl.DataFrame({"run_id": names, "n_params": N, "tokens": D, "val_loss": loss})


def _fit(frame: pl.DataFrame, bootstrap: int = 0) -> GroupFit:
    [group] = fit_table(normalise(frame), FitOptions(bootstrap=bootstrap))
    return group


def test_work_and_memory_grow_with_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    derivatives, evaluated = Objective.derivatives, [0]

    def counting(self: Objective, residual: Array) -> tuple[Array, Array, Array]:
        evaluated[0] += residual.size
        return derivatives(self, residual)

    monkeypatch.setattr(Objective, "derivatives", counting)
    work, peak, counts = [], [], (600, 2400)
    for rows in counts:
        frame, evaluated[0] = _checkpoints(rows // 20, 20), 0
        tracemalloc.start()
        _fit(frame, bootstrap=20)
        peak.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        work.append(evaluated[0] / rows)
    assert counts[0] > EXACT_ROWS
    # The searches and profiles evaluate each row some 5,000 times; refits of tables without each
    # row, or of resamples enough to average over, would add 30,000.
    assert max(work) < 10_000, work
    assert work[1] < 1.5 * work[0], work
    # Four times the rows: columns grow by four, batches do not grow, rows x rows by sixteen.
    assert peak[1] < 3.2 * peak[0], peak


def test_influence_of_a_long_table_is_that_of_refits() -> None:
    rows = EXACT_ROWS + 20
    frame = _checkpoints(rows // 20, 20)
    frame[3, "val_loss"] = frame["val_loss"][3] * 1.1
    group = _fit(frame)
    effects = np.array([(i.effect_on_exponent_N, i.effect_alone) for i in group.influence]).T
    # Refits step over the kinks of Huber's penalty, so a single one is a little off the average.
    assert np.corrcoef(effects)[0, 1] > 0.9
    assert any("Row 4 " in doubt for doubt in group.doubts)
    # Each prediction is off by the row's own noise and its run's, and one by 10 %.
    expected = np.sqrt(0.3**2 + 0.3**2 + 10**2 / rows)
    assert group.leave_one_out_percent == pytest.approx(expected, rel=0.15)


@pytest.mark.slow
def test_five_thousand_checkpoints_are_fitted_with_a_thousand_resamples() -> None:
    group = _fit(_checkpoints(250, 20), bootstrap=1000)
    low, high = group.fit.intervals.values["exponent_N"]
    assert group.fit.intervals.method == "bootstrap_runs"
    assert low < CHINCHILLA.exponent_N < high
    assert group.verdicts["exponent_N"].verdict == "identified"


def test_a_table_of_copies_names_each_copy_once() -> None:
    frame = _checkpoints(10, 30).drop("run_id")
    group = _fit(pl.concat([frame, frame]))
    assert [(d.row, d.of, d.exact) for d in group.duplicates] == [
        (k + 300, k, True) for k in range(300)
    ]
