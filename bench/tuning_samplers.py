"""Which sampler finds a surface's minimum: Sobol alone, or then GPSampler or multivariate TPE.

Simulated surfaces of learning rate and batch with the curvature and the noise of the demo's
corpus, steeper towards high rates. Trials come in the generations of `flows.tuning.study`.
"""

import sys
import warnings

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, TPESampler

from analysis.tuning.surface import Axis, SurfaceError, Trials, fit_surfaces
from flows.tuning import study
from flows.tuning.study import TrialOutcome, propose
from sweeps.load import load_tune_spec
from sweeps.tune_spec import Dimension

BOX = [Dimension("lr", 3.4e-3, 0.055), Dimension("batch_tokens", 200, 3200)]
NOISE, REPEATS = 0.008, 20


def surface(rng):
    """A loss over (lr, batch) with its minimum at a random place in the middle of the box."""
    best = np.log([rng.uniform(6e-3, 3e-2), rng.uniform(350, 1800)])

    def loss(params):
        z = np.log([params["lr"], params["batch_tokens"]]) - best
        steep = 0.01 * max(z[0], 0) ** 3
        return 0.03 * z[0] ** 2 - 0.012 * z[0] * z[1] + 0.02 * z[1] ** 2 + steep

    return loss


def trial_by_trial(spec, loss, count, rng):
    """The trials of a study with their noisy losses."""
    trials = []
    while len(trials) < count:
        size = spec.startup if not trials else spec.generation
        trials += [
            TrialOutcome(params, 3.4 + loss(params) + NOISE * rng.standard_normal())
            for params in propose(spec, BOX, trials, size)
        ]
    return trials[:count]


def regrets(trials, loss):
    """True loss above the minimum at the lowest trial, and at the fitted surface's minimum."""
    lowest = loss(min(trials, key=lambda trial: trial.loss).params)
    axes = tuple(Axis(side.name, side.low, side.high) for side in BOX)
    points = np.array([[trial.params[axis.name] for axis in axes] for trial in trials])
    losses = np.array([[trial.loss] for trial in trials])
    try:
        [[fit]] = fit_surfaces([Trials(axes, points, losses)], draws=50)
    except SurfaceError:
        return lowest, lowest
    fitted = loss({name: optimum.value for name, optimum in fit.optima.items()})
    return lowest, fitted


def samplers(name):
    """Make `flows.tuning.study` use another sampler."""
    kinds: dict[str, type[BaseSampler]] = {"gp": GPSampler, "tpe": TPESampler}

    def make(seed: int, trials: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            arguments = {"multivariate": True} if name == "tpe" else {}
            return kinds[name](seed=1000 * seed + trials, n_startup_trials=1, **arguments)

    study._sampler = make


def main() -> None:
    """Print a table; regrets in thousandths of a nat per token."""
    print("sampler   trials   lowest trial: median  90 %   surface: median  90 %")
    for name in sys.argv[1:] or ("sobol", "gp", "tpe"):
        for count in (12, 24):
            spec = load_tune_spec("lr-batch", [f"startup={count if name == 'sobol' else 8}"])
            if name != "sobol":
                samplers(name)
            rows = []
            for repeat in range(REPEATS):
                rng = np.random.default_rng(repeat)
                loss = surface(rng)
                seeded = spec.model_copy(update={"seed": repeat})
                rows.append(regrets(trial_by_trial(seeded, loss, count, rng), loss))
            lowest, fitted = 1e3 * np.array(rows).T
            print(
                f"{name:8} {count:7}   {np.median(lowest):20.2f} {np.quantile(lowest, 0.9):5.2f}"
                f"   {np.median(fitted):15.2f} {np.quantile(fitted, 0.9):5.2f}"
            )


if __name__ == "__main__":
    main()
