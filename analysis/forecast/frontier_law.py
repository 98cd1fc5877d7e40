"""The law that a frontier is read off where a table of runs is given: a forecast near its answer.

A frontier needs contours of equal loss. The forecast's losses are not a law's: law and discrepancy
vary together, and the least point of one rough draw means little. So the forecast is taken
jointly at sizes around the answer, and the mean and each draw of it are replaced by the law closest
to them there. Each of these is then moved along N·D = constant, so that together they have
the N* and the interval that the forecast gives at the goal's budget.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from analysis.forecast.answer import Answer, Question, disagreements, forecast
from analysis.forecast.beside import Beside
from analysis.forecast.curve import SIZE, Reference, constants, log_loss_and_slopes
from analysis.forecast.optimum import optimum
from analysis.forecast.posterior import Posterior
from analysis.frontier.allocation import inference_optimal
from analysis.frontier.answer import Demand, planned_demand
from analysis.frontier.decision import Goal, Like
from analysis.frontier.serving import Serving
from analysis.frontier.serving_choice import Workload, smooth_choice
from analysis.law import CONSTANTS, Array, Constants, LossLaw, Support, Trust, deviations
from analysis.table.observations import Table
from analysis.words import short

_DRAWS = 2000
_REACH = np.linspace(-1.5, 1.5, 7)  # e-folds of N around a choice, as for the forecast's N*
# How far a draw's constants move from the forecast's: their deviation, and never more than four of
# them, beyond which exponents leave floating point.
_FREE, _FARTHEST = 0.4, 1.6
_STEPS = 8
_LEVEL = 0.9  # of the interval of N* from which its deviation is read


def frontier_law(
    table: Table,
    goal: Goal,
    demand: Demand,
    name: str,
    learnt: Answer | None = None,
    *,
    serving: Serving | None = None,
) -> LossLaw:
    """The law for one question to a frontier, with draws of the forecast and what to read first.

    Args:
        learnt: the forecast from the table, if it has been made: `forecast(table,
            Question(anyway=True))`.
        serving: the GPUs that the answer is priced on too; None for FLOPs alone.

    Raises:
        TableError: fewer than 10 pairs of N and D or 3 sizes.
        FrontierError: the goal cannot be reached under the forecast, or on these GPUs.
    """
    learnt = learnt or forecast(table, Question(anyway=True))
    law = learnt.law.model_copy(
        update={
            "name": name,
            "source": f"the forecast from {learnt.data.rows:,} runs",
            "support": Support(flops=learnt.data.flops, tokens_per_param=learnt.data.ratio),
        }
    )
    choices = _choices(law, goal, demand, serving)
    mean, draws = (
        constants(phi, learnt.posterior.reference) for phi in _near(learnt.posterior, choices)
    )
    N, D = choices[0]
    best = optimum(learnt.posterior, 6 * N * D, _LEVEL, learnt.valleys)
    low, high = np.log(best.n_interval)
    sd = (high - low) / 2 / deviations(_LEVEL)
    mean = _moved(mean, best.flops, np.log(best.n_opt), 0.0)
    draws = _moved(draws, best.flops, np.log(best.n_opt), sd)
    law = law.model_copy(update={each: getattr(mean, each).item() for each in CONSTANTS})
    warnings = (*learnt.doubts, *_beyond(learnt, _choices(law, goal, demand, serving)))
    return law.model_copy(
        update={
            "trust": Trust(bars=learnt.bars, warnings=warnings),
            "draws": {each: tuple(getattr(draws, each).tolist()) for each in CONSTANTS},
        }
    )


def methods_disagree(learnt: Answer, beside: Beside, law: LossLaw, goal: Goal) -> tuple[str, ...]:
    """What the forecast says first of N* at the goal's budget where other methods have another.

    Args:
        learnt, beside: the forecast and the other methods' fits, of one table.
        law: the `frontier_law` of the goal.
    """
    best = inference_optimal(law, loss=goal.loss_under(law), inference_tokens=0.0)
    flops = float(best.train_flops)
    own = optimum(learnt.posterior, flops, _LEVEL, learnt.valleys)
    return disagreements(own, beside.at(flops))


def _choices(
    law: LossLaw, goal: Goal, demand: Demand, serving: Serving | None
) -> tuple[tuple[float, float], ...]:
    """N and D of every choice that the answer names, the compute-optimal one first.

    The others are the cheapest in FLOPs over its life, the cheapest in dollars where GPUs are
    named, and the goal's own model.
    """
    loss = float(goal.loss_under(law))
    planned = planned_demand(law, loss, demand)
    best = inference_optimal(law, loss=loss, inference_tokens=(0.0, planned))
    choices = list(zip(best.N.tolist(), best.D.tolist(), strict=True))
    if serving is not None:
        workload = Workload(*demand.split(planned), train_device=serving.device)
        cheapest = smooth_choice(law, loss, serving, workload)
        choices.append((cheapest.N, cheapest.D))
    if isinstance(goal, Like):
        choices.append((goal.N, goal.D))
    # Without a demand the first two are one.
    return tuple(dict.fromkeys(choices))


def _near(learnt: Posterior, choices: tuple[tuple[float, float], ...]) -> tuple[Array, Array]:
    """Constants phi of the laws closest to the forecast's mean, (6,), and to draws, (draws, 6)."""
    N, D = np.array(choices).T[..., np.newaxis]
    n, d = (np.log(N) + _REACH).ravel(), (np.log(D) - _REACH).ravel()
    ahead = learnt.predict(np.exp(n), np.exp(d))
    off = float(np.sqrt(ahead.discrepancy.mean()))
    mean = _closest(ahead.mean[np.newaxis], n, d, learnt.phi, learnt.reference, off)[0]
    drawn = np.random.default_rng(0).multivariate_normal(
        ahead.mean, ahead.covariance, _DRAWS, method="eigh"
    )
    # As many as a core keeps near it: half of the time of all at once.
    parts = np.array_split(drawn, _DRAWS // 1000)
    closest = [_closest(part, n, d, mean, learnt.reference, off) for part in parts]
    return mean, np.concatenate(closest)


def _closest(y: Array, n: Array, d: Array, start: Array, at: Reference, off: float) -> Array:
    """Constants of the laws closest to ln L at points, (laws, points), by Gauss-Newton; (laws, 6).

    Laws are the last axis throughout: each operation is one on all of them, where numpy's products
    and solutions of small matrices go through them one by one.
    """
    y, n, d, start = y.T, n[:, np.newaxis], d[:, np.newaxis], start[:, np.newaxis]
    phi, hold = start, (off / _FREE) ** 2
    # The first step has one curve for all laws, which broadcasts.
    for _ in range(_STEPS):
        value, slopes = log_loss_and_slopes(phi, n, d, at)
        J = np.stack(slopes)
        normal = np.einsum("ipk,jpk->ijk", J, J)
        normal[np.diag_indices(SIZE)] += hold
        pull = np.einsum("ipk,pk->ik", J, y - value) - hold * (phi - start)
        phi = np.clip(phi + _solved(normal, pull), start - _FARTHEST, start + _FARTHEST)
    return np.ascontiguousarray(phi.T)


def _solved(A: Array, b: Array) -> Array:
    """x of A·x = b for positive definite A, (size, size, laws), and b, (size, laws), elementwise.

    By elimination, which needs no pivots here.
    """
    size = len(b)
    for k in range(size - 1):
        share = A[k + 1 :, k] / A[k, k]
        A[k + 1 :, k + 1 :] -= share[:, np.newaxis] * A[k, k + 1 :]
        b[k + 1 :] -= share * b[k]
    for k in reversed(range(size)):
        b[k] = (b[k] - (A[k, k + 1 :] * b[k + 1 :]).sum(axis=0)) / A[k, k]
    return b


def _moved(laws: Constants, flops: float, log_N: float, sd: float) -> Constants:
    """The laws moved along N·D = constant: the mean of their ln N* at a budget, and its deviation.

    Moved by x, a law has at (N·e^x, D·e^-x) the loss that it had at (N, D).
    """
    own = np.log(laws.compute_optimal(flops)[0])
    apart = own - own.mean()
    x = log_N - own + (apart * sd / own.std() if own.std() > 0 else 0.0)
    return replace(laws, A=laws.A * np.exp(laws.alpha * x), B=laws.B * np.exp(-laws.beta * x))


def _beyond(learnt: Answer, choices: tuple[tuple[float, float], ...]) -> Iterator[str]:
    """Why the intervals of the choices are not calibrated; nothing where they are."""
    for N, D in choices:
        reason = learnt.data.beyond(N, D).reason
        if reason:
            yield f"NOT CALIBRATED: N = {short(N)}, D = {short(D)}: {reason}."
            return
