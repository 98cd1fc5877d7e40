"""Replays of `isoflop next` on open tables, against random runs and an IsoFLOP ladder from below.

    OMP_NUM_THREADS=1 python bench/forecast_next.py [--starts 10] [--below 0.6] [--tables llama3]

Each start has ten of a table's thirty cheapest runs. A policy then buys runs below a third of the
table's largest compute, one after another, for a tenth of what all of these cost; a run that the
rest does not afford is skipped. `next` refits after each. Scored are the vertex of the forecast at
the table's largest compute against that of the whole table, |ln N*|, and the losses of the runs
near the frontier from a third of that compute on. The tables are read from ISOFLOP_PUBLISHED
(docs/published_data.md).
"""

import argparse
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from analysis.forecast.design import Candidates, choose
from analysis.forecast.optimum import optimum
from analysis.forecast.posterior import posterior
from analysis.forecast.record import near_frontier
from analysis.forecast.rows import Rows
from analysis.law import Array
from analysis.table.read import read_table

TABLES = {
    "chinchilla": ("chinchilla_epoch.csv", ~pl.col("excluded_besiroglu")),
    "llama3": ("llama3_isoflop.csv", pl.lit(True)),
    "marin_dclm": ("marin_isoflop.csv", pl.col("experiment") == "marin_dclm"),
    "marin_comma": ("marin_isoflop.csv", pl.col("experiment") == "marin_comma"),
    "marin_nemotron": ("marin_isoflop.csv", pl.col("experiment") == "marin_nemotron"),
}
POLICIES = ("next", "random", "ladder")
OF_RUNS, CHEAPEST, SHARE, LEVEL = 10, 30, 0.1, 0.9


@dataclass(frozen=True)
class Runs:
    """The runs of a table; (runs,) each."""

    N: Array
    D: Array
    loss: Array

    @property
    def C(self) -> Array:
        """6·N·D."""
        return 6 * self.N * self.D

    def below(self, share: float) -> "Runs":
        """Those of up to a share of the largest compute."""
        kept = self.C.max() * share >= self.C
        return Runs(self.N[kept], self.D[kept], self.loss[kept])

    def rows(self, of: list[int]) -> Rows:
        """What a forecast learns from some of them."""
        logs = (np.log(column[of]) for column in (self.N, self.D, self.loss))
        return Rows(*logs, np.ones(len(of)))


def main() -> None:
    """Replay and print medians over the starts, one line a table and policy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--below", type=float, default=1.0, help="share of the largest compute")
    parser.add_argument("--tables", nargs="+", default=["chinchilla", "llama3", "marin_dclm"])
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, numpy {np.__version__}")
    medians: dict[str, list[Array]] = {policy: [] for policy in POLICIES}
    for name in arguments.tables:
        runs = read(name).below(arguments.below)
        for policy in POLICIES:
            scores = np.array(list(replays(runs, policy, arguments.starts)))
            medians[policy].append(np.median(scores, axis=0))
            error, off, bought = medians[policy][-1]
            print(
                f"{name:15s} {policy:7s} loss {error:.2f} %  |ln N*| {off:.3f} "
                f"[{scores[:, 1].min():.3f}, {scores[:, 1].max():.3f}]  {bought:.0f} runs",
                flush=True,
            )
    for policy, rows in medians.items():
        error, off, _ = np.mean(rows, axis=0)
        print(f"{'mean':15s} {policy:7s} loss {error:.2f} %  |ln N*| {off:.3f}")


def read(name: str) -> Runs:
    """The used runs of a table."""
    file, rows = TABLES[name]
    path = Path(os.environ["ISOFLOP_PUBLISHED"]) / "published" / file
    used = read_table(path).filter(rows).used
    return Runs(*(used[c].to_numpy().astype(float) for c in ("n_params", "tokens", "val_loss")))


def replays(runs: Runs, policy: str, starts: int) -> Iterator[tuple[float, float, int]]:
    """Loss error in per cent, |ln N*| and runs used, for each start."""
    C = runs.C
    target = float(C.max())
    whole = optimum(posterior(runs.rows(list(range(len(C))))), target, LEVEL).n_opt
    foretold = near_frontier(C, runs.loss) & (target / 3 <= C)
    for seed in range(starts):
        had = replay(runs, policy, np.random.default_rng(seed))
        learnt = posterior(runs.rows(had))
        ahead = learnt.predict(runs.N[foretold], runs.D[foretold]).mean
        error = 100 * np.abs(ahead - np.log(runs.loss[foretold])).mean()
        off = abs(np.log(optimum(learnt, target, LEVEL).n_opt / whole))
        yield float(error), float(off), len(had)


def replay(runs: Runs, policy: str, rng: np.random.Generator) -> list[int]:
    """The runs that a policy has in the end."""
    C = runs.C
    pool = np.flatnonzero(C.max() / 3 > C)
    left = SHARE * C[pool].sum()
    had = [int(i) for i in rng.choice(pool[np.argsort(C[pool])][:CHEAPEST], OF_RUNS, replace=False)]
    order = rng.permutation(pool) if policy == "random" else pool[np.argsort(C[pool])]
    while True:
        free = np.array([i for i in order if i not in had and C[i] <= left])
        if not free.size:
            return had
        place = 0
        if policy == "next":
            offered = Candidates(runs.N[free], runs.D[free], C[free])
            [place] = choose(posterior(runs.rows(had)), offered, float(C.max()), left, 1).chosen
        had.append(int(free[place]))
        left -= C[free[place]]


if __name__ == "__main__":
    main()
