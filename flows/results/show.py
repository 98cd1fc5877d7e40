"""All facts of one run as plain data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.words import flops
from flows.plans.stored import read_plans
from flows.runs.attempts import (
    compile_choice,
    read_attempts,
    read_provenance,
    spent,
    stack_choice,
    steps_kept,
    steps_seen,
)
from flows.runs.directory import RunDir
from flows.runs.evaluations import evaluations
from flows.runs.state import TO_DO, run_state
from flows.settings import Home
from llama_core.counting import count_params
from sweeps.spec import PlannedRun


def run_document(run: RunDir, home: Home, sweeps: Sequence[str] | None = None) -> dict[str, Any]:
    """A run's spec, state, losses, cost, provenance and files.

    Args:
        sweeps: to which it belongs; None reads every plan of the home for it.
    """
    planned, result = run.planned(), run.result()
    train, counts = planned.run.train, count_params(planned.run.model)
    cost = spent(run)
    provenance, choice, stack = read_provenance(run), compile_choice(run), stack_choice(run)
    return {
        "id": run.id,
        "name": planned.name,
        "sweeps": (_sweeps(run.id, home) if sweeps is None else sweeps) or [planned.sweep],
        "state": run_state(run),
        "reason": result.reason if result is not None else "",
        "n_params": counts.n_params,
        "n_params_total": counts.total,
        "n_params_non_embedding": counts.non_embedding,
        "lr": train.optimizer.lr,
        "lr_source": planned.lr_source,
        "batch_tokens": train.batch_tokens,
        "seed": train.seed,
        "steps": planned.steps,
        "steps_done": steps_seen(run),
        "steps_kept": steps_kept(run),
        "train_flops": planned.flops_spent,
        "losses": _losses(run, planned),
        "evaluations": [result.model_dump(mode="json") for result in evaluations(run)],
        "spent": {
            "flops": float(cost.steps * planned.flops_per_step),
            "device_s": cost.seconds * run.placement().ranks,
        },
        "compile": choice.model_dump() if choice is not None else None,
        "stack": stack.model_dump() if stack is not None else None,
        "attempts": [attempt.model_dump(mode="json") for attempt in read_attempts(run)],
        "provenance": provenance.model_dump(mode="json") if provenance is not None else None,
        "spec": planned.run.model_dump(mode="json"),
        "files": {path.name: str(path) for path in _files(run)},
        "next": _next(run, planned),
    }


SOURCES_HEADER = (
    *("D tokens", "source", "of training", "validation tokens", "nats/token", "bits/byte"),
)
POOLED = "the run's loss is their mean, weighted by validation tokens (bits by bytes)"


LOSSES_HEADER = ("D tokens", "D/N", "C counted FLOPs", "loss, nats/token", "bits/byte")


def loss_rows(losses: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The losses of a run's document as rows of a table, one for each horizon."""
    return [
        [
            f"{row['tokens']:,}",
            f"{row['tokens_per_param']:.3g}",
            flops(row["train_flops"]),
            *("–" if row[key] is None else f"{row[key]:.4f}" for key in ("val_loss", "val_bpb")),
        ]
        for row in losses
    ]


def source_rows(losses: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The losses by source of a run's document as rows of a table; none for a single source."""
    return [
        [
            f"{row['tokens']:,}",
            source["name"],
            f"{source['share']:.1%}",
            f"{source['val_tokens']:,}",
            *("–" if source[key] is None else f"{source[key]:.4f}" for key in ("loss", "bpb")),
        ]
        for row in losses
        for source in row["sources"]
    ]


def _losses(run: RunDir, planned: PlannedRun) -> list[dict[str, Any]]:
    """One row for each horizon, from the curve: a run in training has its first ones."""
    N = planned.n_params
    evals = run.curve.evals()
    return [
        {
            "tokens": cell.tokens,
            "tokens_per_param": cell.tokens / N,
            "train_flops": cell.train_flops,
            "flops_budget": cell.flops_budget,
            "val_loss": evals[cell.tokens]["val_loss"] if cell.tokens in evals else None,
            "val_bpb": evals[cell.tokens]["val_bpb"] if cell.tokens in evals else None,
            "sources": evals[cell.tokens].get("sources", []) if cell.tokens in evals else [],
        }
        for cell in planned.cells
    ]


def _sweeps(run_id: str, home: Home) -> list[str]:
    return [
        plan.spec.name for plan in read_plans(home) if any(run.id == run_id for run in plan.runs)
    ]


def _files(run: RunDir) -> list[Path]:
    paths = [run.path, run.spec_path, run.curve_path, run.result_path, run.provenance_path]
    paths += [run.attempts_path, run.checkpoints, run.path / "output.log"]
    return [path for path in paths if path.exists()] + sorted(run.path.glob("final_*.safetensors"))


def _next(run: RunDir, planned: PlannedRun) -> list[str]:
    state = run_state(run)
    if state == "finished":
        return [
            f'isoflop generate {run.id} "The function returns"',
            f"isoflop evaluate {run.id} common-sense",
            f"isoflop export-hf {run.id} DIR",
            f"isoflop fit {planned.sweep}",
        ]
    if state in (*TO_DO, "failed", "out_of_memory"):
        return [f"isoflop sweep {planned.sweep}    (trains the missing runs, this one included)"]
    return [f"isoflop runs {planned.sweep}"]
