"""plan(SweepSpec) -> Plan: every run of a sweep before anything is spent."""

from collections.abc import Iterator, Mapping
from itertools import product

from llama_core.config import AdamW, Cosine, Frozen, ModelConfig, TrainConfig, Wsd
from llama_core.counting import count_params
from sweeps.grid import cells, in_steps, shape
from sweeps.plan_warnings import doubts
from sweeps.recipe import Rates, has_budget, rates, warmup_of, weight_decay_of
from sweeps.spec import Cell, DataRef, IsoflopGrid, PlannedRun, RunSpec, SweepSpec
from sweeps.trunk_cost import middle, trunks


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
        ValueError: a width is not a multiple of 8, no model of the ladder can meet a budget, or
            a batch is not whole sequences.
    """
    runs: list[PlannedRun] = []
    for width, seed in product(spec.ladder.widths, spec.seeds):
        model = shape(spec.ladder, width, spec.corpus.vocab_size)
        runs.extend(runs_of(spec, model, _grid(spec, model), seed, data))
    _refuse_unmet_budgets(spec, runs)
    runs.sort(key=lambda planned: planned.flops_spent)
    return Plan(spec=spec, data=data, runs=tuple(runs), warnings=doubts(spec, runs, source_tokens))


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
        name = f"d{model.d_model}{horizon}{repeat}"
        runs.append(_planned(spec, model, group, rate, seed, data, name))
    return runs


def _grid(spec: SweepSpec, model: ModelConfig) -> list[Cell]:
    # Where the batch depends on the budget, budgets are rounded to sequences first, then to steps.
    first = rates(spec.recipe, model, tokens=1, seq_len=spec.seq_len)
    unit = spec.seq_len if has_budget(spec.recipe) else first.batch_tokens
    return cells(spec.grid, model, seq_len=spec.seq_len, batch_tokens=unit)


def _groups(
    spec: SweepSpec, model: ModelConfig, grid: list[Cell]
) -> Iterator[tuple[Rates, list[Cell]]]:
    """The trainings of one model: the rates and the cells of each."""
    for group in trunks(spec, model, grid):
        rate = rates(spec.recipe, model, tokens=middle(group), seq_len=spec.seq_len)
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
        optimizer=AdamW(lr=rate.lr, weight_decay=weight_decay_of(spec, N, rate, middle(grid))),
        dtype=spec.dtype,
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
    if not isinstance(spec.grid, IsoflopGrid):
        return
    met = {cell.flops_budget for planned in runs for cell in planned.cells}
    unmet = [budget for budget in spec.grid.budgets if budget not in met]
    if unmet:
        listed = ", ".join(f"{budget:.3g}" for budget in unmet)
        low, high = spec.grid.tokens_per_param
        raise ValueError(
            f"no model of the ladder meets the budget {listed} FLOPs with {low:g} to {high:g} "
            f"tokens per parameter. Widths are {list(spec.ladder.widths)}: "
            "add widths, widen grid.tokens_per_param, or drop the budget."
        )
