"""A run's curve, parameters and provenance as MLflow's metrics, params and tags."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from analysis.words import counted, rate, short
from flows.runs.attempts import read_attempts, read_provenance
from flows.runs.directory import RunDir, RunResult
from flows.runs.evaluations import evaluations
from flows.runs.table import mixture_columns
from llama_core.counting import count_params
from sweeps.grid import Cell
from sweeps.spec import PlannedRun

# About how many points of a metric MLflow gets; its charts draw some 300. The full curve
# is logged as an artifact.
_POINTS = 500
# What MLflow refuses in a metric's name.
_NOT_IN_A_NAME = re.compile(r"[^\w.\- ]")
_TRUNK_METRICS = (("optimizer", "lr"), ("optimizer", "grad_norm"), ("speed", "tokens_per_s"))


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a metric, as a tracker returns it."""

    step: int
    value: float
    timestamp_ms: int


def metric_points(run: RunDir, planned: PlannedRun) -> Iterator[tuple[str, Point]]:
    """The points of a run that a tracker receives, thinned the same way every time.

    MLflow's page sorts its sections by the part before the slash, so losses come first. The last
    cooldown continues the trunk's curve. Every other branch has a metric of its own, named after
    its isoflop so that one chart shows all sizes of a budget.
    """
    kept = _kept_steps(planned)
    branches = {cell.tokens: branch_metric(cell) for cell in planned.cells[:-1]}
    for row in run.curve.rows():
        stamp = int(row["at"] * 1000)
        if row["kind"] == "eval":
            yield "loss/val_loss", Point(row["step"], row["val_loss"], stamp)
            if row["val_bpb"] is not None:
                yield "loss/val_bpb", Point(row["step"], row["val_bpb"], stamp)
            for source in row.get("sources", ()):
                name = _NOT_IN_A_NAME.sub("_", source["name"])
                for family in ("loss", "bpb"):
                    if source[family] is not None:
                        point = Point(row["step"], source[family], stamp)
                        yield f"{family}_by_source/{name}", point
        elif row["kind"] == "step" and row["step"] in kept:
            branch = branches.get(row["horizon"])
            yield branch or "loss/train_loss", Point(row["step"], row["loss"], stamp)
            if branch is None:
                for section, key in _TRUNK_METRICS:
                    yield f"{section}/{key}", Point(row["step"], row[key], stamp)


def benchmark_points(run: RunDir) -> list[tuple[str, Point]]:
    """Scores of whole benchmarks, in percent, at the step of the weights evaluated.

    `tasks/BoolQ_0shot`, and with `_bpb` the bits per byte of its right answers.
    """
    evals = run.curve.evals()
    points = []
    for result in evaluations(run):
        if result.limit is None and result.tokens in evals:
            name, at = f"tasks/{result.benchmark}_{result.shots}shot", int(1000 * result.at)
            step = evals[result.tokens]["step"]
            points.append((name, Point(step, result.score, at)))
            if result.answer_bpb is not None:
                points.append((f"{name}_bpb", Point(step, result.answer_bpb, at)))
    return points


def branch_metric(cell: Cell) -> str:
    """Name of a cooldown branch's loss: `loss_cooldown/C_1.60e11`, or by tokens off an isoflop."""
    if cell.flops_budget is None:
        return f"loss_cooldown/D_{cell.tokens}"
    # MLflow takes no plus sign in a name.
    return f"loss_cooldown/C_{cell.flops_budget:.2e}".replace("+", "")


def run_params(planned: PlannedRun) -> dict[str, str]:
    """Parameters of a run to filter and group by."""
    counts = count_params(planned.run.model)
    train = planned.run.train
    return {
        "n_params": str(counts.n_params),
        "n_params_total": str(counts.total),
        "n_params_non_embedding": str(counts.non_embedding),
        "d_model": str(planned.run.model.d_model),
        "n_layers": str(planned.run.model.n_layers),
        "horizons": ",".join(str(tokens) for tokens in train.schedule.horizons),
        "lr": repr(train.optimizer.lr),
        "lr_source": planned.lr_source,
        "batch_tokens": str(train.batch_tokens),
        "warmup_tokens": str(train.warmup_tokens),
        "schedule": train.schedule.kind,
        "seed": str(train.seed),
        "data_digest": planned.run.data.digest,
        **{
            name: f"{value:.4g}" if isinstance(value, float) else str(value)
            for name, value in mixture_columns(planned).items()
        },
    }


def run_description(planned: PlannedRun, result: RunResult) -> str:
    """What a training was and gave, in two sentences."""
    model, train = planned.run.model, planned.run.train
    made = (
        f"{short(planned.n_params)} parameters, {counted(model.n_layers, 'layer')} of width "
        f"{model.d_model}, peak learning rate {rate(train.optimizer.lr)} ({planned.lr_source})."
    )
    if result.status != "finished":
        return f"{made} {result.status}: {result.reason}"
    losses = [f"{end.val_loss:.4f} after {short(end.tokens)}" for end in result.observations]
    return f"{made} Validation loss in nats/token: {', '.join(losses)} tokens."


def provenance_tags(run: RunDir) -> dict[str, str]:
    """The provenance of a run as tags to filter by; MLflow shows the commit as its source."""
    made_by, attempts = read_provenance(run), read_attempts(run)
    if made_by is None:
        return {}
    tags = {
        "mlflow.source.git.commit": made_by.git_commit,
        "isoflop.git_dirty_sha256": made_by.git_dirty_sha256,
        "isoflop.lock_sha256": made_by.lock_sha256,
        "isoflop.data_sha256": made_by.data_sha256,
        "isoflop.tokenizer_sha256": made_by.tokenizer_sha256,
        "isoflop.seed": None if made_by.seed is None else str(made_by.seed),
        "isoflop.device": made_by.device_name or made_by.processor,
        "isoflop.host": made_by.host,
        "isoflop.attempts": str(len(attempts)) if attempts else None,
        "isoflop.spec": None if made_by.spec is None else json.dumps(made_by.spec, sort_keys=True),
    }
    return {key: value for key, value in tags.items() if value}


def _kept_steps(planned: PlannedRun) -> frozenset[int]:
    """Steps whose rows are mirrored: dense at the start, then even; the last of each cooldown.

    A pure function of the run's plan, so that a resumed run thins as an undisturbed one.
    """
    train = planned.run.train
    total = train.total_steps
    if total <= _POINTS:
        return frozenset(range(1, total + 1))
    early = {round(1.06**power) for power in range(200) if 1.06**power <= total}
    room = _POINTS - len(early)
    even = {round(1 + index * (total - 1) / (room - 1)) for index in range(room)}
    ends = {cell.tokens // train.batch_tokens for cell in planned.cells}
    return frozenset(early | even | ends)
