"""What a run teaches is what a refit with it shows, and the choice depends on nothing else."""

import numpy as np
import pytest

from analysis.forecast.curve import Reference, log_loss, optimal_n
from analysis.forecast.design import Candidates, Stakes, choose, stakes
from analysis.forecast.optimum import optimum
from analysis.forecast.posterior import Posterior, posterior
from analysis.forecast.rows import Rows

PHI = np.array([np.log(2.6), 0.2, 0.1, np.log(0.33), np.log(0.36), np.log(0.8)])
AT = Reference(np.log(1e8), np.log(2e9))
TARGET = 1e21
BUDGETS = (1e17, 4e17, 1.6e18)


def rows() -> Rows:
    """Five sizes on each of three budgets, with 0.3 % of noise."""
    rng = np.random.default_rng(1)
    halves = [np.log(C / 6) for C in BUDGETS]
    n = np.concatenate([optimal_n(PHI, half, AT) + np.linspace(-1.6, 1.6, 5) for half in halves])
    d = np.repeat(halves, 5) - n
    return Rows(n, d, log_loss(PHI, n, d, AT) + 0.003 * rng.normal(size=15), np.ones(15))


def candidates() -> Candidates:
    N, ratio = np.meshgrid(np.geomspace(2e7, 1e9, 6), np.geomspace(2, 200, 5))
    N, D = N.ravel(), (N * ratio).ravel()
    return Candidates(N, D, 6 * N * D)


@pytest.fixture(scope="module")
def learnt() -> Posterior:
    return posterior(rows())


def width(learnt: Posterior) -> float:
    low, high = optimum(learnt, TARGET, 0.9).n_interval
    return float(np.log(high / low))


@pytest.mark.parametrize(("place", "within"), [(2, 0.05), (7, 0.05), (14, 0.06), (28, None)])
def test_the_width_after_a_run_is_that_of_a_refit_with_it(
    learnt: Posterior, place: int, within: float | None
) -> None:
    offered = candidates()
    design = choose(learnt, offered, TARGET, np.inf, 1)
    N, D = offered.N[[place]], offered.D[[place]]
    now = rows()
    grown = Rows(
        np.append(now.n, np.log(N)),
        np.append(now.d, np.log(D)),
        np.append(now.y, learnt.predict(N, D).mean),
        np.ones(16),
    )
    refit = width(posterior(grown)) / width(learnt)
    if within is None:
        # Beyond the table's largest compute a run also brings the target nearer to the data, so
        # that the law's error there is smaller. The formula promises less than that.
        assert offered.flops[place] > max(BUDGETS)
        assert refit < design.alone.n[place] < 1
    else:
        # A refit also learns the scales again and moves the law's reference.
        assert design.alone.n[place] == pytest.approx(refit, abs=within)


def test_the_order_of_candidates_does_not_matter(learnt: Posterior) -> None:
    offered = candidates()
    order = np.random.default_rng(0).permutation(len(offered))
    shuffled = Candidates(offered.N[order], offered.D[order], offered.flops[order])
    first, second = (
        choose(learnt, offered, TARGET, np.inf, 4),
        choose(learnt, shuffled, TARGET, np.inf, 4),
    )
    assert list(first.chosen) == [int(order[place]) for place in second.chosen]
    # Sums of another order round otherwise.
    assert first.together.n == pytest.approx(second.together.n, rel=1e-9)


def test_runs_are_chosen_once_and_never_beyond_the_budget(learnt: Posterior) -> None:
    offered = candidates()
    for budget in (3e17, 3e19):
        chosen = list(choose(learnt, offered, TARGET, budget, 99).chosen)
        assert len(set(chosen)) == len(chosen) > 0
        left = budget - offered.flops[chosen].sum()
        assert left >= 0
        assert np.delete(offered.flops, chosen).min() > left


def test_every_run_makes_both_intervals_narrower(learnt: Posterior) -> None:
    design = choose(learnt, candidates(), TARGET, np.inf, 5)
    for widths in (design.together.n, design.together.loss):
        assert np.all(np.diff(np.append(1.0, widths)) < 0)
    assert design.together.n[0] == design.alone.n[design.chosen[0]]


def test_at_one_price_a_run_at_the_target_beats_one_far_from_it(learnt: Posterior) -> None:
    best = optimum(learnt, TARGET, 0.9)
    N, D = np.array([best.n_opt, 3e7]), np.array([best.d_opt, 6e8])
    same = Candidates(N, D, np.full(2, 1e18))
    assert choose(learnt, same, TARGET, np.inf, 1).chosen == (0,)
    dear = Candidates(N, D, np.array([1e26, 1e18]))
    assert choose(learnt, dear, TARGET, np.inf, 1).chosen == (1,)


def test_of_two_prices_of_one_run_the_lower_is_paid(learnt: Posterior) -> None:
    twice = Candidates(np.full(2, 3e8), np.full(2, 3e9), np.array([2e19, 1e19]))
    assert choose(learnt, twice, TARGET, np.inf, 1).chosen == (1,)


def test_an_error_of_N_is_worth_the_compute_that_makes_it_good(learnt: Posterior) -> None:
    valley = stakes(learnt, TARGET)
    assert valley is not None
    off, half = 0.3, np.log(TARGET / 6)
    centre = float(optimal_n(learnt.phi, half, learnt.reference))
    vertex = np.log(optimum(learnt, TARGET, 0.9).n_opt)
    # Either way off, so that the slope at the law's own optimum cancels.
    sides = learnt.predict(
        np.exp([centre - off, centre, centre + off]),
        np.exp([half - centre + off, half - centre, half - centre - off]),
    ).mean
    rise = (sides[0] + sides[2]) / 2 - sides[1]
    assert abs(vertex - centre) < off
    more = valley.flops(off, TARGET)
    with_more = learnt.predict(
        np.exp([centre + np.log1p(more / TARGET) / 2]),
        np.exp([half - centre + np.log1p(more / TARGET) / 2]),
    ).mean[0]
    # The valley is not exactly a parabola over three e-folds.
    assert sides[1] - with_more == pytest.approx(rise, rel=0.25)
    assert valley.flops(0.0, TARGET) == 0


def test_twice_the_error_is_worth_four_times_the_compute() -> None:
    valley = Stakes(curvature=0.05, slope=0.04)
    # Half the curvature times the square of a fifth is a thousandth of the loss.
    assert valley.flops(0.2, 1e20) == pytest.approx(1e20 * 0.001 / 0.04)
    assert valley.flops(0.4, 1e20) == pytest.approx(4 * valley.flops(0.2, 1e20))
