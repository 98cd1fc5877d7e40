"""A law's arithmetic, its box of support, and the forms it may take."""

import numpy as np
import pytest
from pydantic import ValidationError

from analysis.frontier.contour import Contour
from analysis.law import Constants, LossLaw, Repetition, Support
from tests.simulated import CHINCHILLA, law_of


def test_the_loss_is_e_and_two_powers_under_gamma() -> None:
    law = law_of("gamma", E=1.5, A=8.0, B=27.0, alpha=0.5, beta=1 / 3, gamma=2.0)
    assert law.loss(4.0, 27.0) == pytest.approx(1.5 + (8 / 2 + 27 / 3) ** 2)
    assert law.loss([4.0, 16.0], [[27.0], [8.0]]).shape == (2, 2)
    assert law.exponent_N == pytest.approx((1 / 3) / (5 / 6))
    assert law.exponent_D == pytest.approx(0.5 / (5 / 6))


@pytest.mark.parametrize(
    ("C", "ratio", "inside"),
    [
        (1e18, 10, True), (1e20, 10, True), (0.99e18, 10, False), (1.01e20, 10, False),
        (1e19, 5, True), (1e19, 80, True), (1e19, 4.9, False), (1e19, 81, False),
    ],
)  # fmt: skip
def test_the_support_holds_its_own_edges_and_nothing_beyond(
    C: float, ratio: float, inside: bool
) -> None:
    support = Support(flops=(1e18, 1e20), tokens_per_param=(5, 80))
    assert bool(support.contains(1e8, ratio * 1e8, C)) == inside
    assert support.contains([1e8, 1e9], [1e9, 1e10], C).shape == (2,)


@pytest.mark.parametrize(
    ("form", "changes", "words"),
    [
        ("chinchilla", {"gamma": 0.9}, "gamma = 1"),
        ("tied", {"beta": 0.36, "alpha": 0.35}, "alpha = beta"),
        ("data_constrained", {"repetition": None}, "repetition"),
        ("chinchilla", {"repetition": {"R_D": 15.0, "R_N": 5.0}}, "repetition"),
        ("chinchilla", {"draws": {"A": (1.0, 2.0), "B": (1.0,)}}, "differ in length"),
    ],
)
def test_a_law_that_is_not_of_its_form_is_refused(
    form: str, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        LossLaw.model_validate(CHINCHILLA.model_dump() | {"form": form} | changes)


@pytest.mark.parametrize("gamma", [1.0, 0.6])
def test_a_contour_holds_the_points_of_its_loss(gamma: float) -> None:
    law = law_of("gamma", gamma=gamma)
    contour = Contour.of(law, 2.3)
    rho = np.array([0.0, 0.5, 4.0])
    N, D = contour.N(rho), contour.D(rho)
    np.testing.assert_allclose(law.loss(N, D), 2.3, rtol=1e-12)
    np.testing.assert_allclose(contour.tokens(N), D, rtol=1e-9)
    # Where inference costs rho times the training, one more percent of N is worth
    # (1 + rho) more percent of D.
    on_N, on_D = law.alpha * law.A * N**-law.alpha, law.beta * law.B * D**-law.beta
    np.testing.assert_allclose(on_N / on_D, 1 + rho, rtol=1e-9)
    assert contour.tokens(contour.N_min) == np.inf
    assert np.isfinite(contour.tokens(contour.N_min * 1.01))
    assert law.loss(contour.N_min, 1e300) == pytest.approx(2.3)


@pytest.mark.parametrize("demand", [0.0, 1e6, 1e10, 1e14, 1e20])
def test_rho_times_the_tokens_is_the_demand(demand: float) -> None:
    contour = Contour.of(CHINCHILLA, 2.3)
    rho = contour.rho(demand)
    # Newton stops at a step of 1e-8 in ln rho, which leaves its square.
    assert rho * contour.D(rho) == pytest.approx(demand, rel=1e-12)


def test_constants_are_the_laws_and_its_draws() -> None:
    law = law_of("chinchilla").model_copy(update={"draws": {"A": (400.0, 500.0)}})
    drawn = Constants.of_draws(law)
    np.testing.assert_array_equal(drawn.A[:, 0], [400.0, 500.0])
    np.testing.assert_array_equal(drawn.B[:, 0], [law.B, law.B])
    np.testing.assert_array_equal(drawn.rows(np.array([False, True])).A, [[500.0]])
    assert drawn.loss(1e9, 1e10)[0, 0] == pytest.approx(
        float(law.model_copy(update={"A": 400.0}).loss(1e9, 1e10))
    )
    G = (law.alpha * law.A / (law.beta * law.B)) ** (1 / (law.alpha + law.beta))
    N, D = Constants.of(law).compute_optimal(6e20)
    # Hoffmann et al. 2022, eq. 4.
    assert pytest.approx(G * 1e20**law.exponent_N, rel=1e-12) == N
    assert pytest.approx(1e20**law.exponent_D / G, rel=1e-12) == D


def test_one_formula_serves_a_law_and_its_draws() -> None:
    law = law_of("chinchilla").model_copy(update={"draws": {"A": (400.0, 500.0)}})
    budgets = np.array([1e19, 1e21, 1e23])
    N, D = Constants.of_draws(law).compute_optimal(budgets)
    assert N.shape == (2, 3)
    np.testing.assert_allclose(6 * N * D, np.broadcast_to(budgets, (2, 3)), rtol=1e-12)
    for row, A in enumerate((400.0, 500.0)):
        drawn = Constants.of(law.model_copy(update={"A": A}))
        for step in (0.99, 1.01):
            better = drawn.loss(N[row], D[row])
            assert (better < drawn.loss(step * N[row], D[row] / step)).all()


def test_a_law_of_vanishing_exponents_keeps_a_finite_optimum() -> None:
    constants = [np.array([value]) for value in (1.0, 1e30, 1.0, 1e-3, 1e-3, 1.0)]
    N, D = Constants(*constants).compute_optimal(1e21)
    assert np.isfinite(N).all()
    assert np.isfinite(D).all()


def test_named_constants_hold_the_half_lives_only_where_there_are_some() -> None:
    law = law_of("chinchilla")
    names = ["E", "A", "B", "alpha", "beta", "gamma", "exponent_N", "exponent_D"]
    assert list(Constants.of(law).named()) == names
    repeated = law.model_copy(
        update={"form": "data_constrained", "repetition": Repetition(R_D=15.0, R_N=5.0)}
    )
    assert Constants.of(repeated).named()["R_D"] == 15.0
