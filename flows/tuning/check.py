"""What studies in this home say of a sweep: its recipe's numbers, and how tuned its runs are."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis.page import Page
from analysis.tuning.regret import NEAR, left_on_table
from flows.plans.fitted_law import fitted_laws
from flows.runs.directory import RunDir
from flows.runs.table import observations_frame
from flows.settings import Home
from sweeps.plan import Plan
from sweeps.rate_checks import FACTORS, check_command, check_runs, extremes
from sweeps.spec import LawRecipe, PlannedRun


@dataclass(frozen=True, slots=True)
class Tuned:
    """How tuned a sweep is.

    Attributes:
        study: whose laws it is compared with; empty when there is none.
        rows: every observation with its distance from the laws; empty without a study.
        warnings: what was not checked.
        checks: what to type for the runs that would check it.
        checked: what finished checks came to.
    """

    study: str
    rows: pl.DataFrame
    warnings: tuple[str, ...]
    checks: tuple[str, ...]
    checked: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "study": self.study or None,
            "runs": self.rows.to_dicts(),
            "warnings": list(self.warnings),
            "checks": list(self.checks),
            "checked": list(self.checked),
        }


def tuned(plan: Plan, home: Home) -> Tuned:
    """Compare a plan with the newest study on its corpus, and look for runs that check it."""
    law = _law_for(plan, home)
    warnings, commands, checked = [], [], []
    for run in extremes(plan):
        if law is not None and _inside(run, law):
            continue
        checks = check_runs(run)
        missing = [check for check in checks if not RunDir(home.runs / check.id).finished()]
        if missing:
            N = run.n_params
            warnings.append(
                f"the learning rate of {run.name} (N = {N:,}), {run.run.train.optimizer.lr:.2e}, "
                "was not checked at an end of the sweep. Two cheap runs at its shortest budget "
                "would, with half and twice that rate."
            )
            commands += [check_command(plan, check) for check in missing]
        else:
            checked.append(_judged(run, checks, home))
    rows = pl.DataFrame()
    if law is not None:
        kept = ("name", "n_params", "tokens", "lr", "batch_tokens")
        rows = left_on_table(observations_frame(plan.runs, home).select(kept), law)
    study = "" if law is None else str(law["study"])
    return Tuned(study, rows, tuple(warnings), tuple(commands), tuple(checked))


def add_tuned(page: Page, found: Tuned) -> None:
    """The section of a sweep's report that shows whether its recipe is tuned."""
    page.heading("Is the recipe tuned?")
    for warning in found.warnings:
        page.text(f"{warning[0].upper()}{warning[1:]}", role="warn")
    for command in found.checks:
        page.text(command, role="soft")
    for sentence in found.checked:
        page.text(sentence)
    if found.rows.is_empty():
        page.text(
            "No study of learning rate and batch on this corpus was found, so nothing is known of "
            "the loss left on the table. Fit one with: isoflop tune lr-batch",
            role="warn",
        )
        return
    left = found.rows["loss_left"].drop_nulls().to_list()
    if left:
        page.text(
            f"Beside the laws of study {found.study}: at most {max(left):.4f} nats per token are "
            "predicted to be left on the table. The cost is read off the nearest surface's "
            "curvature; rows marked outside are beyond what the study was fitted on."
        )
    header = ["run", "N", "D tokens", "lr", "lr / lr*", "batch", "batch / batch*", "loss left", ""]
    page.table(header, [_cells(row) for row in found.rows.iter_rows(named=True)])


def tuned_lines(found: Tuned) -> list[str]:
    """The same for a terminal: warnings, commands, verdicts and the worst run."""
    lines = []
    for warning in found.warnings:
        lines.append(f"warning: {warning}")
    lines += [f"  {command}" for command in found.checks]
    lines += list(found.checked)
    if not found.rows.is_empty() and found.rows["loss_left"].max() is not None:
        worst = found.rows.sort("loss_left", nulls_last=False).row(-1, named=True)
        lines.append(
            f"study {found.study} predicts at most {worst['loss_left']:.4f} nats per token left on "
            f"the table by learning rate and batch ({worst['name']} at D = {worst['tokens']:,})"
        )
    return lines


def _law_for(plan: Plan, home: Home) -> dict[str, Any] | None:
    laws = fitted_laws(home)
    if isinstance(plan.spec.recipe, LawRecipe):
        return laws.get(plan.spec.recipe.study)
    return next((law for law in laws.values() if law["data"] == plan.data.digest), None)


def _inside(run: PlannedRun, law: dict[str, Any]) -> bool:
    low, high = law["support"]["N"]
    return bool(low / NEAR <= run.n_params <= high * NEAR)


def _judged(run: PlannedRun, checks: list[PlannedRun], home: Home) -> str:
    """Whether half and twice the rate are worse, as they should be."""
    tokens = run.cells[0].tokens
    losses = [_loss(check, tokens, home) for check in checks]
    here = _loss(run, tokens, home)
    if here is None:
        return f"{run.name}: its checks are finished, the run itself is not."
    said = ", ".join(
        f"x{factor:g} {loss - here:+.4f}"
        for factor, loss in zip(FACTORS, losses, strict=True)
        if loss is not None
    )
    worse = all(loss is None or loss > here for loss in losses)
    verdict = "its learning rate is bracketed" if worse else "a better learning rate lies beside it"
    return f"{run.name} at D = {tokens:,}: {said} nats per token; {verdict}."


def _loss(run: PlannedRun, tokens: int, home: Home) -> float | None:
    result = RunDir(home.runs / run.id).result()
    found = result.observations if result is not None else ()
    return next((one.val_loss for one in found if one.tokens == tokens), None)


def _cells(row: dict[str, Any]) -> list[str]:
    def ratio(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    left = row["loss_left"]
    return [
        row["name"],
        f"{row['n_params']:,}",
        f"{row['tokens']:,}",
        f"{row['lr']:.2e}",
        ratio(row["lr_ratio"]),
        f"{row['batch_tokens']:,}",
        ratio(row["batch_ratio"]),
        "–" if left is None else f"{left:.4f}",
        "outside" if row["outside"] else "",
    ]
