"""A plan as JSON."""

from dataclasses import asdict
from typing import Any

from flows.commands.planned.mixtures import mixture_json
from flows.cost.quote import Cost
from flows.plans.preparing import preparing
from flows.runs.directory import RunDir
from flows.runs.state import run_state
from flows.settings import Home
from flows.tuning.check import tuned
from llama_core.corpus.config import CorpusConfig
from llama_core.corpus.prepared import PreparedCorpus
from sweeps.coverage import asked, coverage, name_of
from sweeps.plan import Plan
from sweeps.spec import PlannedRun
from sweeps.trunk_cost import left_by_run


def plan_json(
    plan: Plan,
    corpus: PreparedCorpus | None,
    cost: Cost | None,
    home: Home,
    given: str = "",
) -> dict[str, Any]:
    """The plan as JSON: everything the table shows, and more.

    Without the corpus the runs have no ids, and without a cost no times.
    """
    return {
        "sweep": plan.spec.name,
        "spec": plan.spec.model_dump(mode="json"),
        "corpus": corpus_json(plan.spec.corpus, corpus),
        "runs": [
            _run_json(planned, home, cost)
            | {"trunk_cost": left_by_run(plan.spec, planned)}
            | mixture_json(plan, planned, corpus)
            for planned in plan.runs
        ],
        "asked": [
            {"n_params": size.asked, "name": name_of(plan.spec, size.model)}
            for size in asked(plan.spec)
        ],
        "budgets": [
            {
                "flops_budget": row.budget,
                "sizes": list(row.kept),
                "left_out": [asdict(each) for each in row.left_out],
            }
            for row in coverage(plan.spec, plan.runs)
        ],
        "flops_spent": plan.flops_spent,
        "observations": plan.observations,
        **cost_json(cost),
        "warnings": [
            *(note.text for note in (corpus.notes if corpus else ()) if note.serious),
            *plan.warnings,
            *(cost.warnings if cost is not None else ()),
        ],
        "tuned": None if plan.spec.variants else tuned(plan, home, given).as_json(),
    }


def corpus_json(config: CorpusConfig, corpus: PreparedCorpus | None) -> dict[str, Any]:
    """A prepared corpus, or what preparing it takes."""
    if corpus is None:
        work = [asdict(each) for each in preparing(config)]
        return {"digest": None, "train_tokens": None, "notes": [], "preparing": work}
    return {
        "digest": corpus.digest,
        "path": str(corpus.path),
        "vocab_size": corpus.vocab_size,
        "train_tokens": corpus.train_tokens,
        "val_tokens": corpus.val_tokens,
        "notes": [note.text for note in corpus.notes],
    }


def cost_json(cost: Cost | None) -> dict[str, Any]:
    """The cost of a plan; without one no times."""
    if cost is None:
        return {"elapsed_s": None, "device_s": None, "usd": None}
    estimate = cost.estimate
    return {
        "flops_left": sum(time.left_flops for time in estimate.runs.values()),
        "elapsed_s": estimate.elapsed_s,
        "elapsed_range_s": list(estimate.elapsed_range_s),
        "device_s": estimate.device_s,
        "idle_share": estimate.idle_share,
        "usd": cost.usd(estimate.device_s),
        "usd_per_hour": cost.usd_per_hour,
        "slots": estimate.slots,
        "basis": estimate.basis,
        "left_out_by_cap": cost.refusal,
    }


def _run_json(planned: PlannedRun, home: Home, cost: Cost | None) -> dict[str, Any]:
    N, train = planned.n_params, planned.run.train
    document = {
        "id": planned.id if planned.run.data.digest else None,
        "name": planned.name,
        "state": run_state(RunDir(home.runs / planned.id)),
        "n_params": N,
        "tokens_per_param": [cell.tokens / N for cell in planned.cells],
        "steps": planned.steps,
        "batch_tokens": train.batch_tokens,
        "warmup_tokens": train.warmup_tokens,
        "lr": train.optimizer.lr,
        "lr_source": planned.lr_source,
        "flops_spent": planned.flops_spent,
        "cells": [cell.model_dump(mode="json") for cell in planned.cells],
    }
    if cost is None:
        return document
    time = cost.estimate.runs[planned.id]
    compiled = cost.estimate.compiled.get(planned.id)
    stacked = next((how for group, how in cost.estimate.stacked if planned.id in group), None)
    return document | {
        "flops_left": time.left_flops,
        "memory_gib": cost.memory_gib[planned.id],
        "time_s": time.whole_s,
        "time_left_s": time.left_s,
        "usd_left": cost.usd(time.left_s),
        "compile": compiled.model_dump() if compiled is not None else None,
        "stack": stacked.model_dump() if stacked is not None else None,
    }
