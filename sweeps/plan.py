"""plan(SweepSpec) -> Plan: every run of a sweep before anything is spent."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

from analysis.words import flops
from llama_core.blocks import bundle
from llama_core.config import Cosine, Frozen, ModelConfig, TrainConfig, Wsd, require_equal_shares
from llama_core.counting import count_params
from sweeps.coverage import EXPECTED_OPTIMUM, coverage, size_at
from sweeps.faults import plain
from sweeps.grid import Cell, cells, in_steps
from sweeps.mixtures import Mixtures
from sweeps.plan_warnings import doubts
from sweeps.rate_scan import scan_runs
from sweeps.recipe import (
    Rates,
    has_budget,
    rates,
    require_whole_sequences,
    warmup_of,
    weight_decay_of,
)
from sweeps.repetition import matched, on_parts, refuse_many_epochs
from sweeps.shapes import key
from sweeps.spec import DataRef, PlannedRun, RunSpec, SweepSpec
from sweeps.trunk_cost import middle, trunks
from sweeps.variants import BASE, variant_specs


class Plan(Frozen):
    """The runs of a sweep, with warnings to read before starting it."""

    spec: SweepSpec
    data: DataRef
    runs: tuple[PlannedRun, ...]
    warnings: tuple[str, ...]

    @property
    def flops_spent(self) -> int:
        """Counted FLOPs of all trainings, branches included."""
        return sum(planned.flops_spent for planned in self.runs)

    @property
    def observations(self) -> int:
        """Number of (N, D, loss) points the sweep will give, those of scans not counted."""
        return sum(len(planned.cells) for planned in self.runs if planned.rate_factor is None)


def plan(spec: SweepSpec, data: DataRef, *, source_tokens: Mapping[str, int] | None = None) -> Plan:
    """Runs of a sweep in rising order of cost.

    Args:
        data: the prepared corpus the runs will see.
        source_tokens: training tokens of each of its sources; None leaves repetition unchecked.

    Raises:
        ValueError: the ladder has a shape that cannot be built, no model of it can meet a budget,
            a batch is not whole sequences or cannot be shared among the ranks, a mixture reads a
            source too often, or no run is longer than a part of the text.
    """
    if spec.variants:
        return _of_variants(spec, data, source_tokens)
    runs: list[PlannedRun] = []
    for size, seed in product(spec.sizes, spec.seeds):
        runs.extend(runs_of(spec, size.model, _grid(spec, size.model), seed, data))
    for run in runs:
        require_equal_shares(run.run.train, spec.placement.ranks)
    _refuse_unmet_budgets(spec, runs)
    warnings = doubts(spec, runs, source_tokens)
    if spec.mixtures is not None:
        runs = _of_mixtures(spec, spec.mixtures, runs, source_tokens)
    runs += on_parts(spec, runs, source_tokens)
    runs.sort(key=lambda planned: planned.flops_spent)
    return Plan(spec=spec, data=data, runs=tuple(runs), warnings=warnings)


def members(planned: Plan) -> dict[str, Plan]:
    """The plans of base and variants, each a sweep SWEEP/VARIANT of its own, without its scan."""
    plans = {}
    for name, spec in variant_specs(planned.spec).items():
        runs = [
            run.model_copy(
                update={
                    "sweep": spec.name,
                    "name": run.name.removeprefix(f"{name}-"),
                    "variant": "",
                }
            )
            for run in planned.runs
            if run.variant == name and run.rate_factor is None
        ]
        plans[name] = planned.model_copy(update={"spec": spec, "runs": tuple(runs)})
    return plans


def _of_mixtures(
    spec: SweepSpec,
    mixtures: Mixtures,
    runs: list[PlannedRun],
    source_tokens: Mapping[str, int] | None,
) -> list[PlannedRun]:
    """Each run with each mixture."""
    made = spec.shares
    if source_tokens is not None:
        tokens = max((run.cells[-1].tokens for run in runs), default=0)
        refuse_many_epochs(mixtures, made, source_tokens, tokens)
    planned = []
    for (name, shares), run in product(made.items(), runs):
        mixture = matched(
            mixtures, shares, source_tokens, tokens=run.cells[-1].tokens, seq_len=spec.seq_len
        )
        data = run.run.data.model_copy(update={"mixture": mixture})
        own = {"run": run.run.model_copy(update={"data": data})}
        planned.append(
            run.model_copy(update={**own, "name": f"{name}-{run.name}", "mixture": name})
        )
    return planned


def _of_variants(spec: SweepSpec, data: DataRef, source_tokens: Mapping[str, int] | None) -> Plan:
    """Base and variants in one plan, with the scans of their rates if the spec has one."""
    runs: list[PlannedRun] = []
    warnings: dict[str, list[str]] = {}
    for name, member in variant_specs(spec).items():
        try:
            planned = plan(member, data, source_tokens=source_tokens)
        except ValueError as error:
            raise ValueError(f"variants.{name}: {plain(error)}") from error
        own = [
            run.model_copy(
                update={"sweep": spec.name, "name": f"{name}-{run.name}", "variant": name}
            )
            for run in planned.runs
        ]
        runs += own
        if spec.scan is not None:
            runs += scan_runs(own, spec.scan.factors)
        for warning in planned.warnings:
            warnings.setdefault(warning, []).append(name)
    everywhere = len(spec.variants) + 1
    texts = [
        text if len(names) == everywhere else f"{', '.join(names)}: {text}"
        for text, names in warnings.items()
    ]
    runs.sort(key=lambda planned: planned.flops_spent)
    return Plan(spec=spec, data=data, runs=tuple(runs), warnings=(*_other_batches(runs), *texts))


def _other_batches(runs: list[PlannedRun]) -> Iterator[str]:
    """A warning for variants that see other batches than the base at the same step."""
    batches: dict[str, set[int]] = {}
    for run in runs:
        batches.setdefault(run.variant, set()).add(run.run.train.batch_tokens)
    base = batches.pop(BASE)
    for name, own in batches.items():
        if own != base:
            counts = [", ".join(f"{count:,}" for count in sorted(each)) for each in (own, base)]
            yield (
                f"{name} takes batches of {counts[0]} tokens and base of {counts[1]}: their "
                "differences are not paired, and so noisier. Set recipe.batch_tokens for both."
            )


def runs_of(
    spec: SweepSpec, model: ModelConfig, grid: list[Cell], seed: int, data: DataRef
) -> list[PlannedRun]:
    """The trainings of one model that reach these cells, which rise in tokens."""
    groups = list(_groups(spec, model, grid))
    several = len(groups) > 1 or spec.schedule == "cosine"
    repeat = f"-s{seed}" if len(spec.seeds) > 1 else ""
    runs = []
    for rate, group in groups:
        horizon = f"-D{group[-1].tokens}" if several else ""
        name = f"d{key(spec.ladder, model)}{horizon}{repeat}"
        runs.append(_planned(spec, model, group, rate, seed, data, name))
    return runs


def _grid(spec: SweepSpec, model: ModelConfig) -> list[Cell]:
    # Where the batch depends on the budget, budgets are rounded to sequences first, then to steps.
    first = rates(spec.recipe, model, tokens=1, seq_len=spec.seq_len)
    require_whole_sequences("recipe.batch_tokens", first.batch_tokens, spec.seq_len)
    unit = spec.seq_len if has_budget(spec.recipe) else first.batch_tokens
    return cells(spec.grid, model, seq_len=spec.seq_len, batch_tokens=unit)


def _groups(
    spec: SweepSpec, model: ModelConfig, grid: list[Cell]
) -> Iterator[tuple[Rates, list[Cell]]]:
    """The trainings of one model: the rates and the cells of each."""
    for group in trunks(spec, model, grid):
        rate = rates(spec.recipe, model, tokens=middle(group), seq_len=spec.seq_len)
        if spec.lr_factor != 1:
            source = f"{spec.lr_factor:g} times {rate.source}"
            rate = replace(rate, lr=spec.lr_factor * rate.lr, source=source)
        unit = rate.batch_tokens
        yield rate, in_steps(group, model, seq_len=spec.seq_len, batch_tokens=unit)


def _planned(
    spec: SweepSpec,
    model: ModelConfig,
    grid: list[Cell],
    rate: Rates,
    seed: int,
    data: DataRef,
    name: str,
) -> PlannedRun:
    horizons = tuple(cell.tokens for cell in grid)
    N = count_params(model).n_params
    schedule: Wsd | Cosine
    if spec.schedule == "wsd":
        schedule = Wsd(horizons=horizons, cooldown_fraction=spec.cooldown_fraction)
    else:
        schedule = Cosine(tokens=horizons[0])
    train = TrainConfig(
        seq_len=spec.seq_len,
        batch_tokens=rate.batch_tokens,
        warmup_tokens=warmup_of(spec, N, horizons[0], rate.batch_tokens),
        schedule=schedule,
        optimizer=spec.optimizer.at(
            lr=rate.lr, weight_decay=weight_decay_of(spec, N, rate, middle(grid))
        ),
        z_loss=bundle(spec.block).z_loss if spec.z_loss is None else spec.z_loss,
        dtype=spec.run_dtype,
        seed=seed,
        eval_tokens=spec.eval_tokens,
    )
    return PlannedRun(
        sweep=spec.name,
        name=name,
        run=RunSpec(model=model, train=train, data=data),
        cells=tuple(grid),
        lr_source=rate.source,
    )


def _refuse_unmet_budgets(spec: SweepSpec, runs: list[PlannedRun]) -> None:
    unmet = [row for row in coverage(spec, runs) if not row.kept]
    if unmet:
        first, settings = unmet[0], {each.setting for row in unmet for each in row.left_out}
        bounds = "; ".join(f"{', '.join(names)}: {each}" for each, names in first.bounds.items())
        raise ValueError(
            f"no size of the ladder meets the budget "
            f"{', '.join(flops(row.budget) for row in unmet)} FLOPs. At {flops(first.budget)} the "
            f"bounds leave out {bounds}. Add a size near N = "
            f"{size_at(spec, first.budget, EXPECTED_OPTIMUM)}, widen "
            f"{' and '.join(sorted(settings))}, or drop the budget."
        )
