"""Replays of `isoflop next` on open tables, against random runs and an IsoFLOP ladder from below.

    OMP_NUM_THREADS=1 python bench/forecast_next.py [--starts 10] [--below 0.6] [--tables llama3]

Each start has ten of a table's thirty cheapest runs. A policy then buys runs below a third of the
table's largest compute, one after another, for a tenth of what all of these cost; a run that the
rest does not afford is skipped. `next` refits after each. Scored are the vertex of the forecast at
the table's largest compute against that of the whole table, |ln N*|, and the losses of the runs
near the frontier from a third of that compute on. The tables are read from ISOFLOP_PUBLISHED
(docs/published_data.md).

With --whole, what a sweep designed in rounds spends (`isoflop sweep --design next`): from the ten
cheapest runs on, three runs a round from the whole table, until the interval of N* at ten times its
largest compute is at most a tenth wider, in ln N, than the one of all its runs. Printed is the
share of all their FLOPs.
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
FAR, A_ROUND, WIDER = 10.0, 3, 1.1


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
    parser.add_argument("--whole", action="store_true", help="share spent for the whole's interval")
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, numpy {np.__version__}")
    medians: dict[str, list[Array]] = {policy: [] for policy in POLICIES}
    for name in arguments.tables:
        runs = read(name).below(arguments.below)
        if arguments.whole:
            print_whole(name, runs, arguments.starts)
            continue
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
        if not rows:
            return
        error, off, _ = np.mean(rows, axis=0)
        print(f"{'mean':15s} {policy:7s} loss {error:.2f} %  |ln N*| {off:.3f}")


def print_whole(name: str, runs: Runs, starts: int) -> None:
    """One line a policy: the share of all FLOPs; by chance the median and range of the starts."""
    for policy in POLICIES:
        shares = []
        for seed in range(starts if policy == "random" else 1):
            had = until_whole(runs, policy, np.random.default_rng(seed))
            shares.append(runs.C[had].sum() / runs.C.sum())
        print(
            f"{name:15s} {policy:7s} {np.median(shares):.0%} of the FLOPs "
            f"[{min(shares):.0%}, {max(shares):.0%}]",
            flush=True,
        )


def until_whole(runs: Runs, policy: str, rng: np.random.Generator) -> list[int]:
    """The runs that a policy buys until N*'s interval is as narrow as the whole table's."""
    C, target = runs.C, FAR * float(runs.C.max())

    def width(had: list[int]) -> float:
        low, high = optimum(posterior(runs.rows(had)), target, LEVEL).n_interval
        return float(np.log(high / low))

    whole = width(list(range(len(C))))
    cheapest = np.argsort(C, kind="stable")
    had = cheapest[:OF_RUNS].tolist()
    while len(np.unique(runs.N[had])) < 3:
        had.append(int(cheapest[len(had)]))
    while width(had) > WIDER * whole and len(had) < len(C):
        free = np.setdiff1d(cheapest, had)
        if policy == "next":
            offered = Candidates(runs.N[free], runs.D[free], C[free])
            learnt = posterior(runs.rows(had))
            places = list(choose(learnt, offered, target, np.inf, A_ROUND).chosen)
        elif policy == "random":
            places = rng.permutation(len(free))[:A_ROUND].tolist()
        else:
            places = np.argsort(C[free], kind="stable")[:A_ROUND].tolist()
        had += free[places].tolist()
    return had


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
