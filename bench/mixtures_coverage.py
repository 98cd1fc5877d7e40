"""How often 90 % intervals of the best shares hold the truth, on tables simulated from a law.

Each table has a mixing law of its own and noise in every loss; `isoflop mix` is asked for the best
shares, and each source's interval counts once. Run:

    python -m bench.mixtures_coverage [--tables 200]
"""

import argparse
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from analysis.law import Array
from analysis.mixtures.answer import mix
from analysis.mixtures.question import Question
from analysis.mixtures.rows import read_mixtures
from analysis.table.files import Contents


@dataclass(frozen=True, slots=True)
class Case:
    """Tables of `rows` mixtures of as many sources as losses, with noise in ln L.

    With a `useless` source, which raises every loss, the best mixture has often none of it.
    """

    law: Literal["exponential", "power"]
    sources: int
    rows: int
    noise: float
    useless: bool = False


CASES = (
    Case("exponential", 3, 40, 0.002),
    Case("exponential", 3, 40, 0.01),
    Case("exponential", 5, 60, 0.005),
    Case("power", 3, 40, 0.005),
    Case("power", 5, 60, 0.005),
    Case("exponential", 3, 40, 0.005, useless=True),
    Case("exponential", 5, 60, 0.005, useless=True),
)


@dataclass(frozen=True, slots=True)
class Truth:
    """A law of losses by source: `floor` + a term of the shares, in which a source helps itself."""

    law: str
    floor: Array
    constants: Array

    @classmethod
    def draw(cls, case: Case, rng: np.random.Generator) -> "Truth":
        """A law whose best mixture has some of most sources."""
        own = rng.uniform(1.0, 2.0, case.sources)
        constants = rng.uniform(-0.3, 0.3, (case.sources, case.sources)) + np.diag(own)
        if case.useless:
            constants[:, 0] -= 1.2
        return cls(case.law, rng.uniform(1.0, 2.5, case.sources), constants)

    def losses(self, shares: Array) -> Array:
        """(m, t) at shares (m, k)."""
        if self.law == "exponential":
            return np.asarray(self.floor + np.exp(0.5 - shares @ self.constants.T))
        return np.asarray(self.floor + 1 / ((shares + 1e-3) ** 0.4 @ np.exp(self.constants.T - 1)))

    def best(self) -> Array:
        """The shares of least mean loss (k,)."""

        def loss(logits: Array) -> float:
            return float(self.losses(_softmax(logits)[None]).mean())

        starts = [np.zeros(len(self.floor)), *(3 * np.eye(len(self.floor)))]
        return _softmax(min((minimize(loss, start) for start in starts), key=lambda r: r.fun).x)


def coverage(case: Case, tables: int, seed: int = 0) -> tuple[float, float, float, float]:
    """How the intervals do.

    Returns:
        the part of them that holds the truth, and of those whose truth is zero the part that begins
        there (nan without any); their mean width; the loss given away, relative.
    """
    rng = np.random.default_rng(seed)
    held, zeros, widths, losses = [], [], [], []
    for _ in range(tables):
        truth = Truth.draw(case, rng)
        answer = mix(read_mixtures(Contents(_table(case, truth, rng)), mapping={}), Question())
        best = truth.best()
        low, high = answer.intervals.T
        # Shares are printed with three digits.
        held += [(low - 5e-4 <= best) & (best <= high + 5e-4)]
        zeros += (low[best < 5e-4] < 5e-4).tolist()
        widths.append(float((high - low).mean()))
        given, least = (truth.losses(r[None]).mean() for r in (answer.best.shares, best))
        losses.append(float(given / least - 1))
    of_zero = float(np.mean(zeros)) if zeros else float("nan")
    return float(np.mean(held)), of_zero, float(np.mean(widths)), float(np.mean(losses))


def _table(case: Case, truth: Truth, rng: np.random.Generator) -> pl.DataFrame:
    """Dirichlet mixtures, and each source alone, so that the hull is the whole simplex."""
    shares = rng.dirichlet(np.ones(case.sources), case.rows)
    shares[: case.sources] = np.eye(case.sources)
    noise = case.noise * rng.normal(size=shares.shape)
    losses = truth.losses(shares) * np.exp(noise)
    columns = {f"share_s{j}": column for j, column in enumerate(shares.T)}
    return pl.DataFrame(columns | {f"loss_s{j}": column for j, column in enumerate(losses.T)})


def _softmax(logits: Array) -> Array:
    parts = np.exp(logits - logits.max())
    return np.asarray(parts / parts.sum())


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=200)
    tables = parser.parse_args().tables
    print("law          sources  rows  noise  useless  held   of zero  width  loss given away")
    with threadpool_limits(1, "blas"):
        for case in CASES:
            held, of_zero, width, lost = coverage(case, tables)
            print(
                f"{case.law:12} {case.sources:7}  {case.rows:4}  {case.noise:<5g}  "
                f"{case.useless!s:7}  {held:5.1%}  {of_zero:7.1%}  {width:.3f}  {lost:.2%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
