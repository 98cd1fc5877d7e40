"""plan(SweepSpec) -> Plan: every run of a sweep before anything is spent."""

import math
from collections.abc import Iterator, Mapping
from itertools import product

from llama_core.config import AdamW, Cosine, Frozen, ModelConfig, TrainConfig, Wsd
from sweeps.coverage import EXPECTED_OPTIMUM, coverage, size_at
from sweeps.grid import cells, in_steps
from sweeps.plan_warnings import doubts
from sweeps.recipe import Rates, rates, warmup_tokens
from sweeps.shapes import key, sizes
from sweeps.spec import Cell, DataRef, PlannedRun, RunSpec, SweepSpec


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
        """Number of (N, D, loss) points the sweep will give."""
        return sum(len(planned.cells) for planned in self.runs)


def plan(spec: SweepSpec, data: DataRef, *, source_tokens: Mapping[str, int] | None = None) -> Plan:
    """Runs of a sweep in rising order of cost.

    Args:
        data: the prepared corpus the runs will see.
        source_tokens: training tokens of each of its sources; None leaves repetition unchecked.

    Raises:
        ValueError: the ladder has a shape that cannot be built, no model of it can meet a budget,
            or a batch is not whole sequences.
    """
    runs: list[PlannedRun] = []
    for size, seed in product(sizes(spec.ladder, spec.corpus.vocab_size), spec.seeds):
        runs.extend(runs_of(spec, size.model, _grid(spec, size.model), seed, data))
    _refuse_unmet_budgets(spec, runs)
    runs.sort(key=lambda planned: planned.flops_spent)
    return Plan(spec=spec, data=data, runs=tuple(runs), warnings=doubts(spec, runs, source_tokens))


def runs_of(
    spec: SweepSpec, model: ModelConfig, grid: list[Cell], seed: int, data: DataRef
) -> list[PlannedRun]:
    """The trainings of one model that reach these cells, which rise in tokens."""
    return [
        _planned(spec, model, group, rate, seed, data) for rate, group in _groups(spec, model, grid)
    ]


def _grid(spec: SweepSpec, model: ModelConfig) -> list[Cell]:
    # A law's batch depends on the budget, so budgets are first rounded to sequences, then to steps.
    first = rates(spec.recipe, model, tokens=1, seq_len=spec.seq_len)
    unit = spec.seq_len if spec.recipe.kind == "law" else first.batch_tokens
    return cells(spec.grid, model, seq_len=spec.seq_len, batch_tokens=unit)


def _groups(
    spec: SweepSpec, model: ModelConfig, grid: list[Cell]
) -> Iterator[tuple[Rates, list[Cell]]]:
    """The trainings of one model: the rates and the cells of each."""
    law = spec.recipe.kind == "law"
    first = rates(spec.recipe, model, tokens=1, seq_len=spec.seq_len)
    # A cosine decays to one horizon only, so every cell is a training of its own.
    groups = [grid] if spec.schedule == "wsd" else [[cell] for cell in grid]
    for group in groups:
        if not group:
            continue
        if not law:
            yield first, group
            continue
        middle = math.sqrt(group[0].tokens * group[-1].tokens)
        rate = rates(spec.recipe, model, tokens=middle, seq_len=spec.seq_len)
        unit = rate.batch_tokens
        yield rate, in_steps(group, model, seq_len=spec.seq_len, batch_tokens=unit)


def _planned(
    spec: SweepSpec, model: ModelConfig, grid: list[Cell], rate: Rates, seed: int, data: DataRef
) -> PlannedRun:
    horizons = tuple(cell.tokens for cell in grid)
    schedule: Wsd | Cosine
    if spec.schedule == "wsd":
        schedule = Wsd(horizons=horizons, cooldown_fraction=spec.cooldown_fraction)
    else:
        schedule = Cosine(tokens=horizons[0])
    train = TrainConfig(
        seq_len=spec.seq_len,
        batch_tokens=rate.batch_tokens,
        warmup_tokens=warmup_tokens(horizons[0], rate.batch_tokens),
        schedule=schedule,
        optimizer=AdamW(lr=rate.lr, weight_decay=spec.weight_decay),
        dtype=spec.dtype,
        seed=seed,
        eval_tokens=spec.eval_tokens,
    )
    name = f"d{key(spec.ladder, model)}"
    if spec.schedule == "cosine":
        name += f"-D{horizons[0]}"
    if len(spec.seeds) > 1:
        name += f"-s{seed}"
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
            f"{', '.join(f'{row.budget:.3g}' for row in unmet)} FLOPs. At {first.budget:.3g} the "
            f"bounds leave out {bounds}. Add a size near N = "
            f"{size_at(spec, first.budget, EXPECTED_OPTIMUM)}, widen "
            f"{' and '.join(sorted(settings))}, or drop the budget."
        )
