"""A trial of a study as an ordinary run."""

from collections.abc import Mapping

from llama_core.blocks import bundle
from llama_core.config import Frozen, ModelConfig, Optimizer, TrainConfig, Wsd, require_equal_shares
from sweeps.grid import TokensGrid, cells, whole
from sweeps.plan import Plan
from sweeps.recipe import require_whole_sequences, warmup_tokens
from sweeps.spec import DataRef, PlannedRun, RunSpec
from sweeps.tune_spec import TuneSpec


class StudyPlan(Frozen):
    """The trials of a study: those proposed, then as many as are still to be, spread evenly.

    Where the later trials go is known only from the losses of the earlier ones; what they cost
    hardly depends on it.
    """

    spec: TuneSpec
    data: DataRef
    runs: tuple[PlannedRun, ...]

    @property
    def flops_spent(self) -> int:
        """Counted FLOPs of all trainings, branches included."""
        return sum(planned.flops_spent for planned in self.runs)


AnyPlan = Plan | StudyPlan


def trial_run(
    spec: TuneSpec, model: ModelConfig, data: DataRef, number: int, params: Mapping[str, float]
) -> PlannedRun:
    """The training of one trial; its budgets are whole steps.

    A searched batch is rounded to whole sequences, as many for each rank.

    Args:
        params: a value for each searched parameter, by the names of `sweeps.tune_spec.box`.

    Raises:
        ValueError: the batch that the spec fixes is not whole sequences or cannot be shared among
            the ranks, or two budgets round to the same number of steps.
    """
    if isinstance(spec.search.batch_tokens, int):
        batch_tokens = spec.search.batch_tokens
        require_whole_sequences("search.batch_tokens", batch_tokens, spec.seq_len)
    else:
        batch_tokens = whole(params["batch_tokens"], spec.least_batch)
    grid = TokensGrid(tokens=spec.tokens)
    budgets = tuple(cells(grid, model, seq_len=spec.seq_len, batch_tokens=batch_tokens))
    horizons = tuple(cell.tokens for cell in budgets)
    train = TrainConfig(
        seq_len=spec.seq_len,
        batch_tokens=batch_tokens,
        warmup_tokens=_warmup(spec, params, horizons[0], batch_tokens),
        schedule=Wsd(horizons=horizons, cooldown_fraction=spec.cooldown_fraction),
        optimizer=_optimizer(spec, params),
        z_loss=bundle(spec.block).z_loss,
        dtype=spec.run_dtype,
        seed=spec.train_seed,
        eval_tokens=spec.eval_tokens,
    )
    require_equal_shares(train, spec.placement.ranks)
    return PlannedRun(
        sweep=spec.name,
        name=f"d{model.d_model}-t{number:03d}",
        run=RunSpec(model=model, train=train, data=data),
        cells=budgets,
        lr_source=f"trial {number} of study {spec.name}",
    )


def _optimizer(spec: TuneSpec, params: Mapping[str, float]) -> Optimizer:
    search = spec.search
    beta2 = 1 - params["beta2_gap"] if "beta2_gap" in params else search.beta2
    decay = params.get("weight_decay", search.weight_decay)
    optimizer = spec.optimizer.model_copy(update={"beta2": beta2})
    assert isinstance(decay, float)
    return optimizer.at(lr=params["lr"], weight_decay=decay)


def _warmup(spec: TuneSpec, params: Mapping[str, float], shortest: int, batch_tokens: int) -> int:
    fraction = params.get("warmup_fraction", spec.search.warmup_fraction)
    if not isinstance(fraction, float):
        return warmup_tokens(shortest, batch_tokens)
    return whole(fraction * shortest, batch_tokens)
