"""On simulated laws nine in ten intervals of loss and N* hold, up to thirty times beyond the data.

Constants are drawn around those of published fits; a fault raises the losses of small runs, as a
warm-up longer than the run does; a misfit is a smooth wave of ln L that no law of the form has.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pytest

from analysis.forecast.optimum import optimum
from analysis.forecast.posterior import posterior
from analysis.forecast.rows import Rows
from analysis.law import Array

BEYOND = (3.0, 10.0, 30.0)
NOISE = 0.003
LEVEL = 0.9
# E-folds of N around N* at which losses are foretold.
NEAR = np.array([-0.7, 0.0, 0.7])


@dataclass(frozen=True)
class World:
    """A law of ln L around C = 1e21, with what it may have besides."""

    rho: float
    w: float
    a: float
    b: float
    g: float
    misfit: float
    fault: float
    phase: Array

    def log_loss(self, n: Array, d: Array) -> Array:
        dn, dd = n - np.log(1e9), d - np.log(1.5e11)
        al, be = self.a / self.g, self.b / self.g
        inner = self.w * np.exp(-al * dn) + (1 - self.w) * np.exp(-be * dd)
        law = np.log(2.5 * (self.rho + (1 - self.rho) * inner**self.g))
        c, r = dn + dd, dd - dn
        wave = np.sin(c / 2.5 + self.phase[0]) + 0.5 * np.sin(r / 2.5 + c / 4 + self.phase[1])
        return law + self.misfit * wave + self.fault * np.exp(-(c - np.log(1e-4)) / 2)

    def best_n(self, half: float) -> float:
        """ln N* by a fine grid."""
        n = np.log(1e9) + np.linspace(-12, 12, 9601)
        return float(n[np.argmin(self.log_loss(n, half - n))])


def world(rng: np.random.Generator, kind: str) -> World:
    """A world of a kind: its form, then `misfit` or `fault`."""
    draw = lambda middle, spread: middle * np.exp(spread * rng.standard_normal())  # noqa: E731
    return World(
        rho=1 / (1 + np.exp(-0.2 - 0.4 * rng.standard_normal())),
        w=1 / (1 + np.exp(-0.1 - 0.4 * rng.standard_normal())),
        a=draw(0.33, 0.2),
        b=draw(0.36, 0.2),
        g=1.0 if "chinchilla" in kind else draw(0.6, 0.2),
        misfit=0.006 if "misfit" in kind else 0.0,
        fault=0.02 if "fault" in kind else 0.0,
        phase=rng.uniform(0, 2 * np.pi, 2),
    )


def simulated(truth: World, rng: np.random.Generator) -> Rows:
    """Five budgets of seven sizes around each optimum; C from 1e17 to 1e19."""
    n, d = [], []
    for C in np.geomspace(1e17, 1e19, 5):
        half = float(np.log(C / 6))
        sizes = truth.best_n(half) + np.linspace(-1.3, 1.3, 7) + 0.2 * rng.standard_normal()
        n.append(sizes)
        d.append(half - sizes)
    N, D = np.concatenate(n), np.concatenate(d)
    y = truth.log_loss(N, D) + NOISE * rng.standard_normal(len(N))
    return Rows(N, D, y, np.ones(len(N)))


def held(kind: str, worlds: int, seed: int) -> dict[str, Array]:
    """For loss and N* which intervals held: (worlds, distances · points) and (worlds, distances).

    Also the errors of ln L, and of ln N*.
    """
    rng = np.random.default_rng(seed)
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    inside, inside_n, errors, errors_n = [], [], [], []
    for _ in range(worlds):
        truth = world(rng, kind)
        learnt = posterior(simulated(truth, rng))
        for times in BEYOND:
            half = float(np.log(times * 1e19 / 6))
            best = truth.best_n(half)
            n = best + NEAR
            foretold = learnt.predict(np.exp(n), np.exp(half - n))
            reached = truth.log_loss(n, half - n) + NOISE * rng.standard_normal(len(n))
            away = np.abs(reached - foretold.mean)
            inside.append(away <= z * foretold.sd)
            errors.append(away)
            found = optimum(learnt, float(6 * np.exp(half)), LEVEL)
            low, high = found.n_interval
            inside_n.append(low <= np.exp(best) <= high)
            errors_n.append(abs(np.log(found.n_opt) - best))
    return {
        "loss": np.array(inside),
        "n_opt": np.array(inside_n),
        "error": np.array(errors),
        "error_n": np.array(errors_n),
    }


KINDS = ("chinchilla", "gamma", "chinchilla misfit", "gamma misfit")


# Small runs whose losses a worse recipe raises by up to 2 % bend the law: 0.82 of the losses hold.
BENT = pytest.param("gamma fault", marks=pytest.mark.xfail(strict=True, reason="0.82 hold"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, BENT])
def test_intervals_hold_as_often_as_they_say(kind):
    of = held(kind, worlds=60, seed=0)
    # 60 worlds place a share of 0.9 within 0.04.
    assert 0.85 <= of["loss"].mean() <= 1.0
    assert 0.85 <= of["n_opt"].mean() <= 1.0


def test_intervals_hold_in_a_few_worlds():
    of = held("gamma", worlds=6, seed=1)
    assert of["loss"].mean() >= 0.75
    assert of["n_opt"].mean() >= 0.75
    assert of["error"].mean() < 0.012
