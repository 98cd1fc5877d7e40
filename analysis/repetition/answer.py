"""What a table says of repeated data: the form chosen, its constants, and what epochs cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from analysis.law import Array, LossUnit, RepeatedForm, RepeatedLaw, central
from analysis.repeated_data import excess, excess_of_form
from analysis.repetition.choice import Choice, choose
from analysis.repetition.fitting import Data, fit_form, log_residuals, refit
from analysis.repetition.forms import FORMS, Form
from analysis.solver.uncertainty import resample
from analysis.table.observations import Table, check
from analysis.table.repeats import epochs, with_repeats
from analysis.table.runs import clusters_of

# Fewer repeating rows say nothing of a form of three constants.
FEWEST_REPEATING = 6
# Resamples for intervals, at most: each is a fit of up to nine constants.
MOST_DRAWS = 200
_EPOCHS = (2, 4, 8, 16, 32, 64)
# Seeds differ by half a percent; a form that errs by more than this, %, misses more than noise.
_POOR = 3.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What reading the same tokens this often costs, in the unit of the loss, over fresh ones.

    Attributes:
        interval: None without a bootstrap.
    """

    epochs: int
    n_params: float
    unique_tokens: float
    excess: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class RepeatedFit:
    """The law of repeated data of one table.

    Attributes:
        used: n_params, tokens, epochs and val_loss of the rows.
        repeating: how many of them repeat their tokens.
        law: of the form chosen; None where the rows choose none, and then `reason` says why.
        laws: of every form, fitted to all rows; empty where rows are too few for any.
        choice: the errors on rows held out; None where rows are too few for a fold.
        fitted_percent: root mean square residual of each of `laws` on all rows, %.
        intervals: of the constants of `law`; empty without a bootstrap.
        costs: under `law`, at the middle N and U of the rows that repeat.
        loss_unit: of the rows' losses.
    """

    used: pl.DataFrame
    repeating: int
    law: RepeatedLaw | None
    reason: str
    laws: Mapping[RepeatedForm, RepeatedLaw]
    choice: Choice | None
    level: float
    fitted_percent: Mapping[RepeatedForm, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] | None = None
    costs: tuple[Cost, ...] = ()
    loss_unit: LossUnit = "unknown"

    @property
    def rows(self) -> int:
        """How many were used."""
        return self.used.height

    @property
    def most_epochs(self) -> float:
        """How often the rows read their tokens at most."""
        return float(self.used["epochs"].to_numpy().max())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be read before the law."""
        if self.law is None:
            return (f"NO LAW OF REPEATED DATA: {self.reason}",)
        return self.law.doubts


def fit_repeated(
    table: Table, *, bootstrap: int, seed: int, level: float, source: str
) -> RepeatedFit | None:
    """Fit every form to the rows of a table, and choose one; None where no row repeats.

    Args:
        table: checked; rows that `leave_out_repeats` left out take part.
        bootstrap: resamples; never more than 200 are made.
        source: what the rows are, for the law.
    """
    table = check(with_repeats(table))
    times = epochs(table.used)
    if times is None:
        return None
    used = table.used.with_columns(times.alias("epochs")).filter(times.is_not_null())
    data = Data.of(used, used["epochs"])
    count, repeating = used.height, int(data.repeats.sum())
    points = used.select("n_params", "tokens", "epochs", "val_loss")
    choice = choose(data) if repeating >= FEWEST_REPEATING else None
    if choice is None:
        reason = (
            f"{repeating} of {count} rows repeat their tokens, and a form is chosen by predicting "
            f"rows of more epochs or compute from {FEWEST_REPEATING} or more of less. Add some."
        )
        return RepeatedFit(points, repeating, None, reason, {}, None, level)
    theta = {form: fit_form(form, data, np.ones((1, count)))[0] for form in FORMS}
    laws, fitted = {}, dict[RepeatedForm, float]()
    for form, point in theta.items():
        assert form.name is not None
        residuals = log_residuals(form, data, point[None])[0]
        fitted[form.name] = 100 * float(np.sqrt((residuals**2).mean()))
        named = form.constants(point[None], data.rows).items()
        constants = {name: float(values[0]) for name, values in named}
        laws[form.name] = RepeatedLaw(
            form=form.name,
            constants=constants,
            source=source,
            most_epochs=float(data.epochs.max()),
        )
    if choice.costs_nothing:
        reason = (
            f"counting every token as fresh predicts the {repeating} rows that repeat as well as "
            f"any form, up to {data.epochs.max():.3g} epochs: here repetition shows no cost."
        )
        return RepeatedFit(
            points,
            repeating,
            None,
            reason,
            laws,
            choice,
            level,
            fitted,
            loss_unit=table.loss_unit,
        )
    form = choice.chosen.form
    assert form.name is not None
    draws = _draws(form, data, theta[form], used, min(bootstrap, MOST_DRAWS), seed)
    columns = {name: tuple(column.tolist()) for name, column in draws.items()}
    law = laws[form.name].model_copy(update={"doubts": doubts_about(choice), "draws": columns})
    return RepeatedFit(
        points,
        repeating,
        law,
        "",
        laws,
        choice,
        level,
        fitted_percent=fitted,
        intervals={name: central(values, level) for name, values in draws.items()},
        costs=_costs(law, draws, data, level),
        loss_unit=table.loss_unit,
    )


def doubts_about(choice: Choice) -> tuple[str, ...]:
    """What must be read before an answer by the form chosen."""
    chosen, lines = choice.chosen, []
    if chosen.percent > _POOR:
        lines.append(
            f"POOR (repeated data): the form chosen, {chosen.form.words}, predicted repeating "
            f"rows held out only to {chosen.percent:.2g} % (rms): do not go beyond the table."
        )
    if others := [score.form.words for score in choice.as_good]:
        lines.append(
            f"NOT TOLD APART: {' and '.join(others)} predicted the repeating rows held out as "
            f"well as {chosen.form.words}: add rows of more epochs or sizes."
        )
    return tuple(lines)


def _draws(
    form: Form, data: Data, theta: Array, used: pl.DataFrame, count: int, seed: int
) -> dict[str, Array]:
    """The constants under resampled rows, or resampled runs where runs have several rows."""
    if not count:
        return {}
    weights = resample(used.height, count, seed, clusters_of(used))
    return form.constants(refit(form, data, theta, weights), data.rows)


def _costs(
    law: RepeatedLaw, draws: Mapping[str, Array], data: Data, level: float
) -> tuple[Cost, ...]:
    N = np.asarray(np.median(data.N[data.repeats]))
    U = np.asarray(np.median((data.D / data.epochs)[data.repeats]))
    costs = []
    for times in _EPOCHS:
        if times > 1.02 * law.most_epochs:
            break
        D, interval = times * U, None
        if draws:
            interval = central(excess_of_form(law.form, draws, N, D, U), level)
        costs.append(Cost(times, float(N), float(U), float(excess(law, N, D, U)), interval))
    return tuple(costs)
