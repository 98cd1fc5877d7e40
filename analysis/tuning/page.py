"""A tuned recipe in a few lines for a terminal, and the page of a study."""

from collections.abc import Callable, Mapping

import polars as pl

from analysis.page import Page
from analysis.published import lr_rules
from analysis.table.sources import read_words
from analysis.tuning.answer import LrFit, with_budgets
from analysis.tuning.brief import interval_words
from analysis.tuning.figures import (
    draw_importances,
    draw_law,
    draw_surface,
    law_data,
    surface_data,
    trials_at,
)
from analysis.tuning.law import TunedLaw
from analysis.tuning.rules import predictions, published_exponents
from analysis.tuning.surface import Optimum
from analysis.tuning.trials import AXES
from analysis.words import counted, rate, short

_COUNTED = ("n_params", "tokens", "batch_tokens")
# Columns of a table of trials, and what they are called on a page.
_COLUMNS = {
    "name": "trial",
    "n_params": "N",
    "tokens": "D tokens",
    **dict(zip(AXES, ("peak lr", "batch, tokens", *AXES[2:]), strict=True)),
    "val_loss": "loss, nats/token",
    "excluded_reason": "in the fit",
}


def fit_lines(fit: LrFit) -> list[str]:
    """The laws, their intervals and advice, for a terminal."""
    sizes = len({point.N for point in fit.points})
    minima = counted(len(fit.points), "minimum", "minima")
    lines = [f"Doubtful: {doubt}" for doubt in fit.doubts]
    if fit.read:
        lines.append(f"read: {read_words(fit.read)}")
    lines += [
        f"lr*    = {_law_words(fit.lr, fit.level)}",
        f"batch* = {_law_words(fit.batch, fit.level)}",
        f"recipe: lr = {_law_words(fit.recipe_lr, fit.level)}",
        f"recipe: batch = {_law_words(fit.recipe_batch, fit.level)}",
        f"through {minima} of {counted(sizes, 'size')}, N in parameters that "
        "multiply a token, D and batch in tokens",
    ]
    lines += [f"left out {counted(count, 'row')}: {reason}" for reason, count in fit.left_out]
    lines += [f"No surface: {refusal}" for refusal in fit.refusals]
    lines += [f"Doubtful: {advice}" for advice in fit.advice]
    return lines


def study_page(
    name: str,
    fit: LrFit | None,
    verdict: str,
    table: pl.DataFrame,
    importances: Mapping[str, Mapping[str, float]],
) -> Page:
    """The page of a study.

    Args:
        table: every trial and budget, those left out with their reason.
        importances: Optuna's importance of each parameter, by size; empty where it has none.
    """
    page = Page(f"Tuning {name}")
    if fit is None:
        page.text(verdict, role="lead")
    else:
        add_tuned(page, fit)
    if any(importances.values()):
        page.heading("What mattered to the search")
        page.figure(draw_importances(importances), name="importances", height=320)
    add_trials(page, table)
    return page


def add_tuned(page: Page, fit: LrFit) -> None:
    """The laws of a study, the minima that they go through, and its surfaces."""
    page.text(f"lr* = {_law_words(fit.lr, fit.level)}", role="lead")
    page.text(f"batch* = {_batch_words(fit.batch, fit.level)}", role="lead")
    page.text(
        "N counts every parameter that multiplies a token, D the training tokens; intervals "
        f"are {fit.level:.0%}. Each law goes through the minima of surfaces, not through the "
        "lowest trials.",
        role="soft",
    )
    if fit.recipe_lr.coef is not None or fit.recipe_batch.coef is not None:
        page.text(
            f"As a recipe for other sizes: lr = {_law_words(fit.recipe_lr, fit.level)}, batch = "
            f"{_batch_words(fit.recipe_batch, fit.level)}. {_known_words()}"
        )
    if fit.read:
        page.text(f"Read: {read_words(fit.read)}.", role="soft")
    for sentence in (*fit.doubts, *fit.refusals, *fit.advice):
        page.text(sentence, role="warn")
    _minima(page, fit)
    _laws(page, fit)
    _surfaces(page, fit)


def _laws(page: Page, fit: LrFit) -> None:
    page.heading("The laws")
    data = law_data(fit)
    page.figure(draw_law(data), name="law", panels=True, data=data)
    page.heading("Beside published rules")
    page.text(
        "Rules fitted elsewhere, on other text and at a thousand times the size, for the same N "
        "and D. Rules in compute take C = 6·N·D; all take the same N, also Step Law, which counts "
        "neither embeddings nor head."
    )
    header = ["N", "D tokens", "quantity", "surface", f"{fit.level:.0%} interval", "rule", "value"]
    page.table(header, _comparison(fit))
    for rule, source in lr_rules().select("rule", "source").unique(maintain_order=True).rows():
        page.text(f"{rule}: {source}.", role="soft")


def _surfaces(page: Page, fit: LrFit) -> None:
    page.heading("Surfaces")
    page.text(
        "A quadratic in logs through the trials near the minimum of each size and budget. The bars "
        "are the minimum's interval; where one ends at the frame, the trials do not bound it there."
    )
    for number, point in enumerate(fit.points):
        figure = draw_surface(point, trials_at(point, fit.table))
        data = surface_data(point)
        page.figure(figure, name=f"surface-{number}", height=440, data=data)


def _minima(page: Page, fit: LrFit) -> None:
    page.heading("The best rate and batch of each size and budget")
    percent = f"{fit.level:.0%} interval"
    header = ["N", "D tokens", "peak lr", percent, "batch, tokens", percent, "loss there",
              "lowest trial", "trials"]  # fmt: skip
    rows = []
    for point in fit.points:
        lr, batch = (point.surface.optima.get(name) for name in ("lr", "batch_tokens"))
        rows.append(
            [
                short(point.N),
                short(point.D),
                *_minimum_cells(lr, rate),
                *_minimum_cells(batch, short),
                f"{point.surface.loss:.4f}",
                f"{trials_at(point, fit.table)['val_loss'].to_numpy().min():.4f}",
                str(len(point.surface.rows)),
            ]
        )
    page.table(header, rows)


def _minimum_cells(optimum: Optimum | None, number: Callable[[float], str]) -> tuple[str, str]:
    if optimum is None:
        return "–", "not searched"
    at_edge = f" ({optimum.edge} end of the range)" if optimum.edge else ""
    return f"{number(optimum.value)}{at_edge}", interval_words(optimum, number)


def _comparison(fit: LrFit) -> list[list[str]]:
    rows = []
    for point in fit.points:
        for rule in predictions(
            n_params=point.N, n_params_non_embedding=point.N, tokens=point.D
        ).iter_rows(named=True):
            optimum = point.surface.optima.get(rule["quantity"])
            if optimum is None:
                continue
            rows.append(
                [
                    short(point.N),
                    short(point.D),
                    rule["quantity"],
                    short(optimum.value),
                    interval_words(optimum),
                    rule["rule"],
                    short(rule["value"]),
                ]
            )
    return rows


def add_trials(page: Page, table: pl.DataFrame) -> None:
    """Every trial and budget, those of one size and budget from the lowest loss up."""
    page.heading("Trials")
    left_out = table.filter(pl.col("val_loss").is_null()).height
    page.text(f"{counted(table.height, 'loss', 'losses')}, {left_out} left out of the fits.")
    columns = [column for column in _COLUMNS if column in table.columns]
    rows = with_budgets(table).sort("n_params", "budget", "val_loss", nulls_last=True)
    page.table(
        [_COLUMNS[column] for column in columns],
        [
            [_trial_cell(column, row[column]) for column in columns]
            for row in rows.iter_rows(named=True)
        ],
    )


def _trial_cell(column: str, value: object) -> str:
    if value is None:
        return "used" if column == "excluded_reason" else "–"
    if column == "lr" and isinstance(value, float):
        return rate(value)
    form = {"val_loss": ".4f", "name": "", "excluded_reason": ""}.get(column, ".3g")
    return f"{value:{',.0f' if column in _COUNTED else form}}"


def _known_words() -> str:
    known = published_exponents()
    return (
        "It starts from the exponents of published rules and moves with the trials: for lr "
        f"{known['lr'].words}; for the batch {known['batch_tokens'].words}."
    )


def _batch_words(law: TunedLaw, level: float) -> str:
    return _law_words(law, level) + (" tokens" if law.coef is not None else "")


def _law_words(law: TunedLaw, level: float) -> str:
    if law.coef is None:
        return f"not identified ({law.reasons[0] if law.reasons else 'no minimum'})"
    words = f"{law.coef:.4g}"
    for name, value in (("N", law.exponent_N), ("D", law.exponent_D)):
        interval = law.intervals.get(f"exponent_{name}")
        if interval is not None:
            words += f" · {name}^{value:.3f} [{interval[0]:.2f}, {interval[1]:.2f}, {level:.0%}]"
    return words
