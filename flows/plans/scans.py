"""The scans of a sweep's variants: what is trained of them, and the plan at the rates they find."""

from collections.abc import Iterator, Mapping, Sequence

from flows.runs.directory import RunDir
from flows.runs.state import missing
from flows.settings import Home
from sweeps.plan import Plan, plan
from sweeps.rate_scan import Scan, scan, scan_runs
from sweeps.spec import PlannedRun, SweepSpec
from sweeps.variants import BASE


class ScanError(ValueError):
    """No run of a variant's scan reached its end."""


def plans_with_scans(planned: Plan, home: Home) -> Iterator[Plan]:
    """The plan of the scans as long as they are not over, then the whole plan.

    The caller trains what is missing of a plan before it asks for the next. Where scans stay
    unfinished, as under a cap, the whole plan does not come.
    """
    planned = with_scans(planned, home)
    while _unfinished(planned):
        scans = tuple(run for run in planned.runs if run.rate_factor is not None)
        yield planned.model_copy(update={"runs": scans})
        if missing(scans, home):
            return
        planned = with_scans(planned, home)
    yield planned


def with_scans(planned: Plan, home: Home) -> Plan:
    """The plan as far as the scans have come: each variant at its best rate once all are over.

    Before that the variants' runs have the rates of the recipe, and ids that are not theirs yet.
    A plan without variants, or one whose scans are over, stays as it is.

    Raises:
        ScanError: every run of a variant's scan diverged.
    """
    if not _unfinished(planned):
        return planned
    settings = planned.spec.scan
    assert settings is not None
    own = [run for run in planned.runs if run.rate_factor is None]
    scans: list[PlannedRun] = []
    factors: dict[str, float] = {}
    for variant in (BASE, *planned.spec.variants):
        runs = [run for run in own if run.variant == variant]
        trained, outcome = _scanned(runs, settings.factors, home)
        scans += trained
        if outcome.factor is not None:
            factors[variant] = outcome.factor
        elif not outcome.missing:
            names = ", ".join(f"x{factor:g}" for factor in outcome.losses)
            raise ScanError(
                f"variants.{variant}: every run of its scan diverged, at {names} of the recipe's "
                "rate. Lower its recipe or lr_factor."
            )
    if len(factors) == len(planned.spec.variants) + 1:
        spec = _at_factors(planned.spec, factors)
        own, planned = (
            list(plan(spec, planned.data).runs),
            planned.model_copy(update={"spec": spec}),
        )
    runs = sorted([*scans, *own], key=lambda run: run.flops_spent)
    return planned.model_copy(update={"runs": tuple(runs)})


def scans_of(planned: Plan, home: Home) -> dict[str, tuple[PlannedRun, Scan]]:
    """The scan of each variant that has one, with the last of its runs."""
    by_variant: dict[str, list[PlannedRun]] = {}
    for run in planned.runs:
        if run.rate_factor is not None:
            by_variant.setdefault(run.variant, []).append(run)
    scans = {}
    for variant in (BASE, *planned.spec.variants):
        if runs := by_variant.get(variant):
            factors = tuple(sorted(run.rate_factor or 0.0 for run in runs))
            scans[variant] = runs[-1], scan(factors, _losses(runs, home), extend=False)
    return scans


def _scanned(
    runs: Sequence[PlannedRun], factors: tuple[float, ...], home: Home
) -> tuple[list[PlannedRun], Scan]:
    """The runs of one scan, those included that its losses ask for, and what it has found."""
    trained = scan_runs(runs, factors)
    while True:
        losses = _losses(trained, home)
        outcome = scan(factors, losses)
        more = scan_runs(runs, set(outcome.missing) - {run.rate_factor for run in trained})
        if not more:
            return trained, outcome
        trained += more


def _losses(runs: Sequence[PlannedRun], home: Home) -> Mapping[float, float | None]:
    """The losses of scan runs by factor, None of those that diverged; others are left out."""
    losses: dict[float, float | None] = {}
    for run in runs:
        result = RunDir(home.runs / run.id).result()
        if result is None or result.status not in ("finished", "diverged"):
            continue
        assert run.rate_factor is not None
        tokens = run.cells[0].tokens
        seen = [each.val_loss for each in result.observations if each.tokens == tokens]
        losses[run.rate_factor] = seen[0] if result.status == "finished" else None
    return losses


def _unfinished(planned: Plan) -> bool:
    return bool(planned.spec.variants) and planned.spec.scan is not None


def _at_factors(spec: SweepSpec, factors: Mapping[str, float]) -> SweepSpec:
    """The spec with each variant at a factor on the rate it had, and no scan."""
    variants = {
        name: part | {"lr_factor": factors[name] * part.get("lr_factor", spec.lr_factor)}
        for name, part in spec.variants.items()
    }
    changes = {"variants": variants, "lr_factor": factors[BASE] * spec.lr_factor, "scan": None}
    return spec.model_copy(update=changes)
