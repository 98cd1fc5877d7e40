"""Read run directories as observations and curves."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import polars as pl

from analysis.table.observations import BPB, LOSS, SCHEMA, SHARE, VAL_TOKENS, sources_of
from flows.runs.directory import Observation, RunDir, RunResult
from flows.runs.state import state_with
from flows.settings import Home
from llama_core.counting import count_params, flops_6nd
from llama_core.records import SourceLoss
from sweeps.spec import PlannedRun

_SCANNED = "trained to choose the learning rate"


def observations(runs: Iterable[PlannedRun], home: Home) -> list[dict[str, Any]]:
    """One row for each planned cell, in the columns of `analysis.table.observations.SCHEMA`.

    Where runs recorded losses by source, their columns follow, null in rows without. A cell
    without a loss stays, with the reason why every fit leaves it out.
    """
    rows = [row for planned in runs for row in _rows(planned, RunDir(home.runs / planned.id))]
    if any("unique_tokens" in row for row in rows):
        # Beside runs on a part of the text the tokens of the others are all unique.
        rows = [row | {"unique_tokens": row.get("unique_tokens", row["tokens"])} for row in rows]
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]


def observations_frame(runs: Iterable[PlannedRun], home: Home) -> pl.DataFrame:
    """`observations` as a data frame."""
    rows = observations(runs, home)
    types = dict(SCHEMA)
    for source in sources_of(rows[0] if rows else ()):
        types |= {f"{family}{source}": pl.Float64() for family in (SHARE, LOSS, BPB)}
        types[f"{VAL_TOKENS}{source}"] = pl.Int64()
    return pl.DataFrame(rows, schema_overrides=types)


def _rows(planned: PlannedRun, run: RunDir) -> Iterator[dict[str, Any]]:
    """The rows of one run, its result read once."""
    result = run.result()
    status = state_with(result, run)
    model, train = planned.run.model, planned.run.train
    counts = count_params(model)
    reached = {seen.tokens: seen for seen in (result.observations if result is not None else ())}
    variant = {"variant": planned.variant} if planned.variant else {}
    for cell in planned.cells:
        seen = reached.get(cell.tokens)
        yield {
            "run_id": f"{run.id}@{cell.tokens}",
            "parent_run_id": run.id,
            "sweep": planned.sweep,
            **variant,
            "name": planned.name,
            "n_params": counts.n_params,
            "n_params_total": counts.total,
            "n_params_non_embedding": counts.non_embedding,
            "tokens": cell.tokens,
            "horizon": cell.tokens,
            "train_flops": cell.train_flops,
            "flops_6nd": flops_6nd(model, cell.tokens),
            "flops_budget": cell.flops_budget,
            "val_loss": seen.val_loss if seen else None,
            "val_bpb": seen.val_bpb if seen else None,
            "loss_unit": "nats_per_token",
            "lr": train.optimizer.lr,
            "batch_tokens": train.batch_tokens,
            "seed": train.seed,
            "status": status,
            "excluded_reason": _SCANNED if planned.rate_factor else _reason(result, seen),
            # A share is the planned one, to the digit.
            **(_by_source(seen.sources if seen else ()) | mixture_columns(planned)),
        }


def _by_source(sources: Sequence[SourceLoss]) -> dict[str, Any]:
    """The columns of the losses by source, family after family."""
    return {
        **{f"{SHARE}{each.name}": each.share for each in sources},
        **{f"{LOSS}{each.name}": each.loss for each in sources},
        **{f"{BPB}{each.name}": each.bpb for each in sources},
        **{f"{VAL_TOKENS}{each.name}": each.val_tokens for each in sources},
    }


def mixture_columns(planned: PlannedRun) -> dict[str, Any]:
    """The name of a run's mixture and the share of each source, or its part of the text."""
    mixture = planned.run.data.mixture
    if mixture is None:
        return {}
    if planned.unique_tokens is not None:
        return {"unique_tokens": planned.unique_tokens}
    shares = {f"share_{name}": share for name, share in mixture.shares.items()}
    return {"mixture": planned.mixture, **shares}


def _reason(result: RunResult | None, seen: Observation | None) -> str | None:
    if seen is not None:
        return None
    return f"{result.status}: {result.reason}" if result is not None else "not trained yet"


def curves(runs: Iterable[PlannedRun], home: Home) -> pl.DataFrame:
    """Training curves of the runs, one row a step.

    Columns: run_id, name, n_params, horizon (null on the trunk), step, tokens, train_flops
    (counted), train_loss (nats per token). A cooldown branch is a curve of its own, with
    `/D_<tokens>` after the run's id and name; the last branch continues the trunk's curve.
    """
    frames = []
    for planned in runs:
        run = RunDir(home.runs / planned.id)
        curve = run.curve.steps()
        if curve.is_empty():
            continue
        last = planned.cells[-1].tokens
        off_trunk = pl.col("horizon").is_not_null() & (pl.col("horizon") != last)
        path = pl.when(off_trunk).then(pl.format("/D_{}", "horizon")).otherwise(pl.lit(""))
        per_token = planned.cells[0].train_flops / planned.cells[0].tokens
        frames.append(
            curve.select(
                (pl.lit(run.id) + path).alias("run_id"),
                (pl.lit(planned.name) + path).alias("name"),
                # Else as wide as the number needs: runs below and above 2^31 would not join.
                pl.lit(planned.n_params, dtype=pl.Int64).alias("n_params"),
                "horizon",
                pl.col("step"),
                pl.col("tokens"),
                (pl.col("tokens") * per_token).alias("train_flops"),
                pl.col("loss").alias("train_loss"),
            )
        )
    return pl.concat(frames) if frames else pl.DataFrame()
