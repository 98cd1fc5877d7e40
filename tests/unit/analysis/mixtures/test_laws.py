"""Mixture laws: slopes, recovery of laws they are given, sizes, and the least loss under limits."""

import numpy as np
import polars as pl
import pytest

from analysis.law import Array
from analysis.mixtures.answer import Answer, mix
from analysis.mixtures.best import Space, least_loss, outside
from analysis.mixtures.choice import LAWS
from analysis.mixtures.figures import draw_all, effects_data, predictions_data
from analysis.mixtures.forms import EXPONENTIAL, MIXED_SIZES, POWER
from analysis.mixtures.page import mix_page
from analysis.mixtures.question import Question
from analysis.mixtures.rows import Mixtures, read_mixtures
from analysis.mixtures.surface import Law
from analysis.mixtures.text import law_line, loss_rows
from analysis.table.files import described
from analysis.table.observations import TableError
from tests.unit.analysis.mixtures.simulated import SOURCES, simulated, true_best, true_losses


def fitted(law: Law, table: Mixtures):
    y = np.log(table.losses)
    return law.fits(table.inputs, table.shares.shape[1], y, [np.ones(len(y), bool)])[0]


@pytest.fixture(scope="module")
def sized() -> Mixtures:
    return read_mixtures(described(simulated(60, sizes=(1e7, 1e8), seed=3)), mapping={})


@pytest.fixture(scope="module")
def answer() -> Answer:
    table = read_mixtures(described(simulated(40, noise=0.003)), mapping={})
    return mix(table, Question(draws=30))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_slopes_are_those_of_the_law_and_of_its_draws(law: Law, sized: Mixtures) -> None:
    fit = fitted(law, sized)
    rng = np.random.default_rng(0)
    inputs = np.hstack([rng.dirichlet(np.full(3, 5.0), 6), sized.sizes[:6]])
    # Waves of a draw are in single precision: the step is far above its rounding.
    step = 3e-4
    for surface in (fit, fit.draws(6, rng)):
        slopes = surface.slopes(inputs)[1]
        for source in range(3):
            more, less = inputs.copy(), inputs.copy()
            more[:, source] += step
            less[:, source] -= step
            difference = (surface.slopes(more)[0] - surface.slopes(less)[0]) / (2 * step)
            assert slopes[:, :, source] == pytest.approx(difference, rel=1e-3, abs=1e-3)
    assert fit.slopes(inputs)[0] == pytest.approx(fit.log_losses(inputs))
    assert (fit.spread(inputs) > 0).all()


@pytest.mark.parametrize(("law", "form"), [(EXPONENTIAL, "exponential"), (POWER, "power")])
def test_a_law_recovers_losses_of_its_own_form_without_noise(law: Law, form: str) -> None:
    table = read_mixtures(described(simulated(60, noise=0, form=form)), mapping={})
    shares = np.random.default_rng(9).dirichlet(np.ones(3), 50)
    predicted = np.exp(fitted(law, table).log_losses(shares))
    off = np.abs(predicted / true_losses(shares, form) - 1)
    # A share of zero counts as 1e-5, so that near the corners a power is off by some 1e-3.
    assert off.max() < 6e-3
    assert np.median(off) < 5e-4


def test_the_joint_law_recovers_sizes_whose_terms_depend_on_the_shares() -> None:
    rng = np.random.default_rng(1)
    shares, N, D = rng.dirichlet(np.ones(3), 90), 10 ** rng.uniform(6, 8, 90), np.full(90, 1e9)
    D[::2] = 1e8

    def losses(shares: Array, N: Array, D: Array) -> Array:
        """The joint law of arXiv:2507.09404, eq. 2.5."""
        first = 1 + 1 / (shares**0.5 @ np.array([[0.9, 0.3], [0.2, 1.1], [0.4, 0.3]]))
        A = (shares @ np.array([[900.0, 50], [100, 700], [400, 400]])) ** 0.8
        B = (shares @ np.array([[90.0, 300], [500, 40], [200, 200]])) ** 0.9
        return np.asarray(first + A / N[:, None] ** 0.35 + B / D[:, None] ** 0.3)

    inputs = np.hstack([shares, np.log(N)[:, None], np.log(D)[:, None]])
    y = np.log(losses(shares, N, D))
    fit = MIXED_SIZES.fits(inputs, 3, y, [np.ones(90, bool)])[0]
    asked = np.append(rng.dirichlet(np.full(3, 3.0), 20), np.tile(np.log([5e7, 1e9]), (20, 1)), 1)
    predicted = np.exp(fit.log_losses(asked))
    true = losses(asked[:, :3], *np.exp(asked[:, 3:].T))
    # The prior holds the constants of the power near their start, and zero shares count as 1e-5.
    assert np.abs(predicted / true - 1).max() < 2e-3


def test_sizes_of_the_table_carry_to_the_size_asked_for(sized: Mixtures) -> None:
    answer = mix(sized, Question(params=5e7, draws=10))
    assert sized.size_names == ("n_params",)
    assert answer.size["n_params"] == 5e7
    true = true_losses(answer.best.shares[None], params=np.array([5e7]))[0]
    got = [loss.value for loss in answer.best.losses]
    # Between the two sizes tried; twice the noise of 0.5 %.
    assert got == pytest.approx(true.tolist(), rel=0.01)


def test_the_least_loss_keeps_limits_and_a_limit_that_nothing_keeps_is_refused() -> None:
    class Slope:
        def slopes(self, inputs: Array) -> tuple[Array, Array]:
            # ln L of a single loss falls with the first source.
            return -inputs[:, :1], np.tile([[[-1.0, 0, 0]]], (len(inputs), 1, 1))

    corners = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.2, 0.1, 0.7]])
    free = least_loss(Slope(), np.ones(1), Space.of(corners, np.ones(3), SOURCES), np.zeros(0), 2)
    assert free == pytest.approx(np.tile(corners[0], (2, 1)), abs=2e-3)
    limits = np.array([0.5, 1.0, 0.2])
    [short] = least_loss(Slope(), np.ones(1), Space.of(corners, limits, SOURCES), np.zeros(0), 1)
    assert short[0] == pytest.approx(0.5, abs=2e-3)
    assert (short <= limits + 1e-9).all()
    with pytest.raises(
        ValueError, match=r"keeps the limits \(prose 0.1\); the least share of prose tried is 0.2"
    ):
        Space.of(corners, np.array([0.1, 1.0, 1.0]), SOURCES)


def test_a_best_share_of_zero_is_zero_however_little_speaks_against_more() -> None:
    middle = np.array([-4e-4, 0.4, 0.6004])

    class Bowl:
        def slopes(self, inputs: Array) -> tuple[Array, Array]:
            # ln L of a single loss is least just beyond the edge.
            away = inputs - middle
            return 0.5 * (away**2).sum(axis=1)[:, None], away[:, None, :]

    free = np.ones(3)
    [best] = least_loss(Bowl(), np.ones(1), Space.of(np.eye(3), free, SOURCES), np.zeros(0), 1)
    assert best == pytest.approx([0.0, 0.3998, 0.6002], abs=1e-4)
    assert best[0] == 0.0
    # Mixtures within the triangle beside its corners change nothing.
    inner = np.vstack([np.eye(3), np.random.default_rng(0).dirichlet(np.ones(3), 40)])
    [best] = least_loss(Bowl(), np.ones(1), Space.of(inner, free, SOURCES), np.zeros(0), 1)
    assert best[0] == 0.0


@pytest.mark.parametrize("law", [EXPONENTIAL, POWER], ids=lambda law: law.name)
def test_draws_of_a_law_are_as_far_apart_as_noise_moves_it(law: Law) -> None:
    clean, rng = simulated(60, noise=0, form=law.name), np.random.default_rng(2)

    def noisy() -> Mixtures:
        noise = (pl.col(f"loss_{name}") * np.exp(0.004 * rng.normal(size=60)) for name in SOURCES)
        return read_mixtures(described(clean.with_columns(noise)), mapping={})

    # The corners, each in one mixture, and others.
    inputs = np.vstack([np.eye(3), rng.dirichlet(np.full(3, 3.0), 5)])
    drawn = fitted(law, noisy()).draws(200, rng)
    logs = np.stack([drawn.slopes(np.repeat(row[None], 200, axis=0))[0] for row in inputs])
    again = [fitted(law, noisy()).log_losses(inputs) for _ in range(40)]
    ratio = logs.std(axis=1) / np.std(again, axis=0)
    # 40 tables tell a deviation to 11 %, and a table its own noise to 10 %.
    assert np.exp(np.log(ratio).mean()) == pytest.approx(1, abs=0.2)
    assert (ratio > 0.5).all()
    assert (ratio < 2).all()


def test_a_mixture_is_outside_by_its_distance_from_averages_of_those_tried() -> None:
    corners = np.array([[0.6, 0.4, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    points = np.array([[0.3, 0.2, 0.5], [1.0, 0.0, 0.0]])
    far = outside(points, corners)
    assert far[0] == 0
    assert far[1] == pytest.approx(np.hypot(0.4, 0.4), rel=0.05)


def test_figures_have_a_cell_for_each_source_and_loss_and_a_row_for_each_prediction(
    answer: Answer,
) -> None:
    effects = effects_data(answer)
    assert effects.height == 9
    own = effects.filter(effects["source"] == effects["loss"])
    assert (own["upper"] < 0).all()
    assert predictions_data(answer).height == 4 * 40
    figures = {name: figure for name, figure, *_ in draw_all(answer)}
    # Plotly draws no names on a linear axis.
    assert figures["effects"].layout.xaxis.type == "category"
    html = mix_page(answer, title="Mixtures").html(plotly="plotly.js")
    for words in ("LLaMA", "What a source does", "Mixtures held out", *SOURCES):
        assert words in html


def test_intervals_hold_the_true_shares_and_losses_of_new_runs(answer: Answer) -> None:
    best = true_best()
    for place in range(3):
        low, high = answer.intervals[place]
        assert low - 0.02 <= best[place] <= high + 0.02
    assert true_losses(answer.best.shares[None]).mean() < true_losses(best[None]).mean() * 1.002


def test_a_loss_that_never_varies_chooses_no_law_and_is_named() -> None:
    frame = simulated(40, noise=0.003)
    table = read_mixtures(described(frame), mapping={})
    # A constant whose logarithm no law meets to the last digit.
    with_same = read_mixtures(described(frame.with_columns(loss_extra=pl.lit(2.7))), mapping={})
    of_three = {"prose": 1.0, "code": 1.0, "wiki": 1.0}
    plain, other = (mix(rows, Question(of_three, draws=5)) for rows in (table, with_same))
    assert other.score.law == plain.score.law
    assert other.score.mean_rank == pytest.approx(plain.score.mean_rank)
    assert any("the same loss of extra" in warning for warning in other.warnings)
    assert "nan" not in " ".join(cell for row in loss_rows(other) for cell in row)
    assert "in the mean over 3 losses" in law_line(other)
    with pytest.raises(TableError, match="every row has the same target"):
        mix(with_same, Question({"extra": 1.0}, draws=5))
