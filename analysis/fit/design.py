"""Limits that a table's design sets to a fit: spans, levels, spare rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from scipy.special import stdtrit

from analysis.fit.isoflop import budgets
from analysis.law import Array
from analysis.solver.problem import Problem
from analysis.table.runs import clusters_of
from analysis.words import counted, sentence

Verdict = Literal["identified", "weak", "not_identified"]
# Narrower designs than these factors are one budget, one ratio, or barely more.
_NO_SPAN, _THIN_SPAN = 1.3, 3.0
# Exponents and number of constants of L = E + A/N^alpha + B/D^beta.
_ALPHA, _BETA, _CONSTANTS = 0.34, 0.28, 5
_ILL_CONDITIONED = 500.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its reasons, which name the runs that would help."""

    verdict: Verdict
    cause: str
    others: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """All reasons, each a sentence of its own."""
        return " ".join([self.cause, *map(sentence, self.others)])


def design_findings(used: pl.DataFrame) -> Iterator[Judgement]:
    """What the places of the rows in the plane of ln N and ln D leave undetermined."""
    N, D = (used[c].to_numpy().astype(float) for c in ("n_params", "tokens"))
    C_span, ratio_span = _span(N * D), _span(D / N)
    counts = {"N": _levels(N), "D": _levels(D)}
    for name, symbol in (("model size", "N"), ("token count", "D")):
        count = counts[symbol]
        if count < 3:
            yield Judgement(
                "not_identified",
                f"only {count} {name}{'s' if count > 1 else ''}: a power of {symbol} and a "
                f"constant need three. Train at {3 - count} more, a factor 4 apart.",
            )
    if C_span < _NO_SPAN:
        yield Judgement(
            "not_identified",
            f"all rows lie on one budget (compute spans a factor {C_span:.2f}): how N* grows "
            "with C was not observed. Add rows at ten times this compute.",
        )
    elif C_span < _THIN_SPAN:
        yield Judgement(
            "weak",
            f"compute spans only a factor {C_span:.1f}: extend it tenfold at either end.",
        )
    if ratio_span < _NO_SPAN:
        yield Judgement(
            "not_identified",
            f"D/N is constant at {np.median(D / N):.3g} (it spans a factor "
            f"{ratio_span:.2f}): the shares of N and D in the loss cannot be told apart. Add "
            "rows with a quarter and with four times this ratio.",
        )
    elif ratio_span < _THIN_SPAN:
        yield Judgement(
            "weak", f"D/N spans only a factor {ratio_span:.1f}: add rows at both sides."
        )
    wide = min(counts.values()) >= 3 and min(C_span, ratio_span) >= _THIN_SPAN
    if wide and _narrowest(np.log(N), np.log(D)) < np.log(_NO_SPAN):
        yield Judgement(
            "not_identified",
            "all rows lie on one line in the plane of ln N and ln D, so their effects cannot be "
            "separated. Add rows off that line.",
        )
    if len(budgets(used)) == 2 and C_span >= _NO_SPAN:
        yield Judgement(
            "weak", "two budgets: nothing tests the power law between them. Add a third."
        )


def plan_warning(planned: pl.DataFrame) -> str | None:
    """What to add to runs that could not carry a law; None where they can.

    Args:
        planned: n_params and tokens of the runs, before they are trained.
    """
    places = planned.unique(["n_params", "tokens"]).height
    if places <= _CONSTANTS:
        losses = counted(planned.height, "loss", "losses")
        at = f" at {counted(places, 'pair')} of N and D" if places < planned.height else ""
        verb = "gives" if planned.height == 1 else "give"
        return (
            f"{losses}{at} {verb} no law, which has {_CONSTANTS} constants: add sizes or budgets, "
            "if this is not a trial run."
        )
    planned = planned.with_columns(flops_6nd=6.0 * pl.col("n_params") * pl.col("tokens"))
    N, D = (planned[c].to_numpy().astype(float) for c in ("n_params", "tokens"))
    number = condition_number(N, D)
    if number <= _ILL_CONDITIONED:
        return None
    reasons = [f.reason for f in design_findings(planned) if f.verdict == "not_identified"]
    reason = (
        reasons[0]
        if reasons
        else ("sizes or D/N are too close together: spread both over a factor 4 or more.")
    )
    shown = "infinite" if np.isinf(number) else f"{number:.1e}"
    return (
        f"these runs cannot carry a law (condition number {shown} of its constants, where good "
        f"designs have 30 to 200; arXiv:2605.08541): {reason}"
    )


def condition_number(N: Array, D: Array) -> float:
    """Of the least squares for the constants of a law with usual exponents, columns scaled alike.

    In N and D over their geometric means, so that no constant but the exponents matters: those of
    Hoffmann et al. 2022 (eq. 10), half of the loss irreducible, equal shares of N and D. At
    constant D/N it grows with the inverse square of alpha - beta (arXiv:2605.08541).
    """
    n, d = (np.log(x) - np.log(x).mean() for x in (N, D))
    by_N, by_D = np.exp(-_ALPHA * n) / 4, np.exp(-_BETA * d) / 4
    J = np.stack([np.full(len(n), 0.5), by_N, by_D, n * by_N, d * by_D], axis=1)
    J /= (0.5 + by_N + by_D)[:, None]
    lengths = np.linalg.norm(J, axis=0)
    if not lengths.all():
        return float("inf")
    values = np.linalg.svd(J / lengths, compute_uv=False)
    return float(values[0] / values[-1]) if values[-1] > 1e-12 * values[0] else float("inf")


def loss_findings(used: pl.DataFrame) -> Iterator[Judgement]:
    """Whether loss curves upwards along a budget: without that there is no optimum to find."""
    N, D, loss = (used[c].to_numpy().astype(float) for c in ("n_params", "tokens", "val_loss"))
    c, r, y = np.log(N * D), np.log(D / N), np.log(loss)
    if np.ptp(y) < 1e-9:
        yield Judgement("not_identified", "every row has the same loss.")
        return
    half_c, half_r = max(np.ptp(c) / 2, 1e-9), max(np.ptp(r) / 2, 1e-9)
    c, r = (c - c.mean()) / half_c, (r - r.mean()) / half_r
    design = np.stack([np.ones_like(c), c, r, c * c, c * r, r * r], axis=1)
    freedom = len(y) - 6
    if freedom < 1 or np.linalg.matrix_rank(design, tol=1e-8) < 6:
        return
    # Reweighted, so that a few wild rows do not hide the valley (Huber 1981, section 7.8).
    weight = np.ones_like(y)
    for _ in range(20):
        inverse = np.linalg.pinv((design * weight[:, None]).T @ design, hermitian=True)
        coefficient = inverse @ (design.T @ (weight * y))
        residual = y - design @ coefficient
        scale = max(1.5 * float(np.median(np.abs(residual))) / 0.6745, 1e-12)
        weight = np.minimum(1.0, scale / np.maximum(np.abs(residual), 1e-300))
    variance = float((weight * residual**2).sum()) / freedom
    # The surface is not exactly quadratic; what rounding leaves is no evidence either.
    error = max(float(np.sqrt(variance * inverse[5, 5])), 1e-9)
    if not coefficient[5] / error > float(stdtrit(freedom, 0.95)):
        yield Judgement(
            "not_identified",
            "loss does not curve upwards along a budget, so the table shows no optimum: add "
            "sizes well below and well above the present ones at the same compute, or reduce "
            "the noise.",
        )


def run_findings(problem: Problem, used: pl.DataFrame) -> Iterator[Judgement]:
    """Whether the rows come from too few trainings: their checkpoints are not independent."""
    clusters = clusters_of(used)
    if clusters is not None and clusters.max() < len(problem.free):
        yield Judgement(
            "weak",
            f"the rows are checkpoints of {counted(clusters.max() + 1, 'training')}, no more "
            "than there are constants, so their common errors cannot be told "
            "from the law. Add trainings.",
        )


def _span(values: Array) -> float:
    return float(values.max() / values.min())


def _levels(values: Array) -> int:
    """Different values, those within 2 % counted as one, and a dense range by its width."""
    logs = np.log(np.sort(values))
    apart = np.flatnonzero(np.diff(logs) > 0.02) + 1
    groups = np.split(logs, apart)
    return sum(1 + int(np.ptp(group) / np.log(_NO_SPAN)) for group in groups)


def _narrowest(u: Array, v: Array) -> float:
    """Extent of the points across their narrowest direction."""
    centred = np.stack([u - u.mean(), v - v.mean()], axis=1)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return float(np.ptp(centred @ vectors[:, 0]))
