"""How well a sweep is tuned: its runs against a study's laws, and checks at its ends."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis.page import Page
from analysis.tuning.regret import NEAR, left_on_table
from analysis.tuning.study_law import StudyLaw
from analysis.words import rate
from flows.plans.fitted_law import fitted_laws
from flows.runs.directory import RunDir
from flows.runs.table import observations_frame
from flows.settings import Home
from sweeps.choices import LawRecipe
from sweeps.plan import Plan
from sweeps.rate_checks import FACTORS, affordable, check_command, check_runs, extremes
from sweeps.spec import PlannedRun


@dataclass(frozen=True, slots=True)
class Tuned:
    """How well a sweep is tuned.

    Attributes:
        study: the study whose laws it is compared with; empty without one.
        rows: every observation with its distance from the laws; empty without a study.
        warnings: what was not checked.
        checks: commands of the runs that would check it.
        checked: results of finished checks.
    """

    study: str
    rows: pl.DataFrame
    warnings: tuple[str, ...]
    checks: tuple[str, ...]
    checked: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """A `Tuned` as plain data."""
        return {
            "study": self.study or None,
            "runs": self.rows.to_dicts(),
            "warnings": list(self.warnings),
            "checks": list(self.checks),
            "checked": list(self.checked),
        }


def tuned(plan: Plan, home: Home, given: str = "") -> Tuned:
    """Compare a plan with the newest study on its corpus, and find the runs that check it.

    Args:
        given: how the plan's spec was named on the command line, with its overrides.
    """
    law = _law_for(plan, home)
    warnings, commands, checked = [], [], []
    for end in extremes(plan):
        if law is not None and _inside(end, law):
            continue
        # Checks of the end itself that somebody has begun are worth ending.
        begun = len(_unfinished(end, home)) < len(FACTORS)
        run = end if begun else affordable(plan, end)
        missing = _unfinished(run, home) if run is not None else []
        if run is not None and not missing:
            checked.append(_judged(run, check_runs(run), home))
            continue
        warnings.append(_unchecked(plan, end, run))
        commands += [check_command(plan, check, given) for check in missing]
    # In a sweep of few sizes both ends may be checked at the same one.
    commands = list(dict.fromkeys(commands))
    rows = pl.DataFrame()
    if law is not None:
        kept = ("name", "n_params", "tokens", "lr", "batch_tokens")
        rows = left_on_table(observations_frame(plan.runs, home).select(kept), law)
    return Tuned(law.study if law else "", rows, tuple(warnings), tuple(commands), tuple(checked))


def _unfinished(run: PlannedRun, home: Home) -> list[PlannedRun]:
    return [check for check in check_runs(run) if not RunDir(home.runs / check.id).finished()]


def _unchecked(plan: Plan, end: PlannedRun, run: PlannedRun | None) -> str:
    """That the rate of an end was not checked, and at which size two runs would and their cost."""

    def share(run: PlannedRun) -> str:
        part = sum(check.flops_spent for check in check_runs(run)) / plan.flops_spent
        return f"{100 * part:.2g} %"

    text = (
        f"the learning rate of {end.name} (N = {end.n_params:,}), "
        f"{rate(end.run.train.optimizer.lr)}, was not checked at an end of the sweep. Two runs at "
        f"its shortest budget, with half and twice that rate, would cost {share(end)} of the "
        "sweep's FLOPs"
    )
    if run is end:
        return f"{text}."
    if run is None:
        return f"{text}, and no size can be checked for 5 % or less."
    return f"{text}; for {share(run)}, {run.name} (N = {run.n_params:,}) can be checked."


def add_tuned(page: Page, tuning: Tuned) -> None:
    """Add the section of a sweep's report that shows whether its recipe is tuned."""
    page.heading("Is the recipe tuned?")
    for warning in tuning.warnings:
        page.text(f"{warning[0].upper()}{warning[1:]}", role="warn")
    for command in tuning.checks:
        page.text(command, role="soft")
    for sentence in tuning.checked:
        page.text(sentence)
    if tuning.rows.is_empty():
        page.text(
            "There is no study of learning rate and batch on this corpus, so the loss left on the "
            "table is unknown. Fit one with: isoflop tune lr-batch",
            role="warn",
        )
        return
    left = tuning.rows["loss_left"].drop_nulls().to_list()
    if left:
        page.text(
            f"Against the laws of study {tuning.study}: at most {max(left):.4f} nats per token are "
            "predicted to be left on the table. The cost follows from the nearest surface's "
            "curvature; rows marked outside are beyond what the study was fitted on."
        )
    header = ["run", "N", "D tokens", "lr", "lr / lr*", "batch", "batch / batch*", "loss left", ""]
    page.table(header, [_cells(row) for row in tuning.rows.iter_rows(named=True)])


def tuned_lines(tuning: Tuned) -> list[str]:
    """A `Tuned` for a terminal: what was not checked, commands, verdicts and the worst run."""
    lines = [f"advice: {warning}" for warning in tuning.warnings]
    lines += [f"  {command}" for command in tuning.checks]
    lines += list(tuning.checked)
    if not tuning.rows.is_empty() and tuning.rows["loss_left"].max() is not None:
        worst = tuning.rows.sort("loss_left", nulls_last=False).row(-1, named=True)
        lines.append(
            f"study {tuning.study} predicts at most {worst['loss_left']:.4f} nats per token left "
            f"on the table by learning rate and batch ({worst['name']} at D = {worst['tokens']:,})"
        )
    return lines


def _law_for(plan: Plan, home: Home) -> StudyLaw | None:
    laws = fitted_laws(home)
    if isinstance(plan.spec.recipe, LawRecipe):
        return laws.get(plan.spec.recipe.study)
    return next((law for law in laws.values() if law.data == plan.data.digest), None)


def _inside(run: PlannedRun, law: StudyLaw) -> bool:
    low, high = law.support.N
    return bool(low / NEAR <= run.n_params <= high * NEAR)


def _judged(run: PlannedRun, checks: list[PlannedRun], home: Home) -> str:
    """Whether half and twice the rate give a higher loss, as they should."""
    tokens = run.cells[0].tokens
    losses = [_loss(check, tokens, home) for check in checks]
    own = _loss(run, tokens, home)
    if own is None:
        return f"{run.name}: its checks are finished, the run itself is not."
    changes = ", ".join(
        f"x{factor:g} {loss - own:+.4f}"
        for factor, loss in zip(FACTORS, losses, strict=True)
        if loss is not None
    )
    worse = all(loss is None or loss > own for loss in losses)
    verdict = "its learning rate is bracketed" if worse else "a better learning rate is near"
    return f"{run.name} at D = {tokens:,}: {changes} nats per token; {verdict}."


def _loss(run: PlannedRun, tokens: int, home: Home) -> float | None:
    result = RunDir(home.runs / run.id).result()
    observed = result.observations if result is not None else ()
    return next((row.val_loss for row in observed if row.tokens == tokens), None)


def _cells(row: dict[str, Any]) -> list[str]:
    def ratio(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    left = row["loss_left"]
    return [
        row["name"],
        f"{row['n_params']:,}",
        f"{row['tokens']:,}",
        rate(row["lr"]),
        ratio(row["lr_ratio"]),
        f"{row['batch_tokens']:,}",
        ratio(row["batch_ratio"]),
        "–" if left is None else f"{left:.4f}",
        "outside" if row["outside"] else "",
    ]
