"""Stand-ins that pass the contract tests of what they stand for, and runs made by hand."""

import json
from collections.abc import Sequence
from pathlib import Path

from flows.files import write_whole
from flows.mirror.metrics import Point, metric_points, run_params
from flows.mirror.tracker import Mirrored, MlflowTracker
from flows.runs.curve import CurveWriter
from flows.runs.directory import Observation, RunDir, RunResult
from flows.runs.evaluations import FOLDER, Evaluation
from llama_core.checkpoints.place import Place
from llama_core.config import AdamW, ModelConfig, TrainConfig, Wsd
from llama_core.counting import train_flops
from llama_core.records import EvalRecord, StepRecord
from sweeps.grid import Cell
from sweeps.spec import DataRef, PlannedRun, RunSpec


class ReadableTracker(MlflowTracker):
    """The MLflow tracker, with what it wrote read back from MLflow."""

    def curve(self, sweep: str, run_id: str, metric: str) -> list[Point]:
        """Points of a metric in rising order of step."""
        mirrored, _ = self._look_up(sweep, run_id)
        if mirrored is None:
            return []
        history = self._client.get_metric_history(mirrored, metric)
        points = [Point(entry.step, entry.value, entry.timestamp) for entry in history]
        return sorted(points, key=lambda point: (point.step, point.timestamp_ms))

    def params(self, sweep: str, run_id: str) -> dict[str, str]:
        """The parameters of the run, as text."""
        mirrored, _ = self._look_up(sweep, run_id)
        return dict(self._client.get_run(mirrored).data.params) if mirrored else {}

    def description(self, sweep: str, run_id: str) -> str:
        """The text that MLflow shows above a run."""
        mirrored, _ = self._look_up(sweep, run_id)
        return str(self._client.get_run(mirrored).data.tags["mlflow.note.content"])

    def run_ids(self, sweep: str) -> list[str]:
        """Ids of the runs mirrored for a sweep."""
        experiment = self._experiment(sweep)
        runs = self._client.search_runs([experiment], max_results=5000)
        return sorted(run.data.tags["isoflop.run_id"] for run in runs)


class FakeTracker:
    """A tracker in memory."""

    def __init__(self) -> None:
        self._points: dict[tuple[str, str], set[tuple[str, Point]]] = {}
        self._params: dict[tuple[str, str], dict[str, str]] = {}

    def load(self) -> None:
        pass

    def publish_all(self, sweep: str, runs: Sequence[tuple[RunDir, PlannedRun]]) -> None:
        for run, planned in runs:
            self.publish(run, planned)

    def catch_up(self) -> None:
        pass

    def mirrored(self, sweep: str) -> Mirrored:
        return {run_id: (run_id, False) for run_id in self.run_ids(sweep)}

    def publish(self, run: RunDir, planned: PlannedRun, mirrored: Mirrored | None = None) -> None:
        key = (planned.sweep, run.id)
        self._params[key] = run_params(planned)
        self._points.setdefault(key, set()).update(metric_points(run, planned))

    def curve(self, sweep: str, run_id: str, metric: str) -> list[Point]:
        points = self._points.get((sweep, run_id), set())
        found = [point for name, point in points if name == metric]
        return sorted(found, key=lambda point: (point.step, point.timestamp_ms))

    def params(self, sweep: str, run_id: str) -> dict[str, str]:
        return self._params.get((sweep, run_id), {})

    def run_ids(self, sweep: str) -> list[str]:
        return sorted(run_id for name, run_id in self._params if name == sweep)

    def log_observations(self, planned) -> None:
        pass

    def log_entries(self, sweep, entries, colours, shares=()) -> None:
        self.entries = {(sweep, entry.key): entry for entry in entries}

    def log_report(self, sweep, report, summary, verdict) -> None:
        self._params[(sweep, "report")] = {"page": report.name}

    def log_study(self, study, report, summary, trials) -> None:
        self._params[(study, "study")] = {"page": report.name}
        self.parents = dict.fromkeys(trials, "study")


def planned_run(*, sweep: str = "test", width: int = 32, steps: tuple[int, ...] = (20, 40)):
    """A planned run of a small model with one horizon for each number of steps."""
    model = ModelConfig(
        vocab_size=512,
        d_model=width,
        n_layers=2,
        n_heads=width // 16,
        n_kv_heads=width // 16,
        head_dim=16,
        d_ffn=88,
    )
    horizons = tuple(1024 * count for count in steps)
    train = TrainConfig(
        seq_len=128,
        batch_tokens=1024,
        warmup_tokens=4096,
        schedule=Wsd(horizons=horizons),
        optimizer=AdamW(lr=0.008),
        eval_tokens=4096,
    )
    cells = tuple(
        Cell(tokens=tokens, flops_budget=None, train_flops=train_flops(model, 128, tokens))
        for tokens in horizons
    )
    run = RunSpec(model=model, train=train, data=DataRef(digest="no such corpus"))
    return PlannedRun(sweep=sweep, name=f"d{width}", run=run, cells=cells, lr_source="test")


def step(number: int, *, horizon: int | None = None, loss: float | None = None) -> StepRecord:
    """A step's record whose values are a function of its number."""
    return StepRecord(
        step=number,
        tokens=1024 * number,
        horizon=horizon,
        loss=5.0 / number if loss is None else loss,
        lr=0.008,
        grad_norm=1.0,
        tokens_per_s=50_000.0 + number,
        mfu=None,
        memory_gib=0.3,
        at=1.7e9 + number / 7,
    )


def evaluation(number: int) -> EvalRecord:
    """The record of a horizon's end."""
    return EvalRecord(
        step=number,
        tokens=1024 * number,
        horizon=1024 * number,
        val_loss=3.0 + 1 / number,
        val_bpb=2.0,
        weights_sha256="0" * 64,
        at=1.7e9 + number / 7 + 0.01,
    )


def finished_run(home: Path, planned: PlannedRun) -> RunDir:
    """A run directory as a real training leaves it: trunk, one branch, the last cooldown."""
    run = RunDir(home / "runs" / planned.id)
    run.create(planned)
    curve = CurveWriter(run.curve_path)
    first, last = planned.run.train.schedule.horizons
    for number in range(1, 15):
        curve.append(step(number))
    for number in range(15, 21):
        curve.append(step(number, horizon=first))
    curve.append(evaluation(20))
    for number in range(15, 29):
        curve.append(step(number))
    for number in range(29, 41):
        curve.append(step(number, horizon=last))
    curve.append(evaluation(40))
    curve.close()
    result = RunResult(
        run_id=planned.id,
        status="finished",
        observations=tuple(
            Observation(tokens=tokens, val_loss=3.0, val_bpb=2.0, weights_sha256="0" * 64)
            for tokens in (first, last)
        ),
        train_s=1.0,
        device="cpu",
        finished_at=1.7e9 + 60,
    )
    write_whole(run.result_path, result.model_dump_json())
    return run


def commit_checkpoint(run: RunDir, steps: int) -> None:
    """The header of a checkpoint after `steps` steps, without tensors."""
    run.checkpoints.mkdir(exist_ok=True)
    place = Place(segment=0, step=steps, steps_taken=steps)
    header = run.checkpoints / f"{place.checkpoint_name}.json"
    header.write_text(json.dumps({"place": place.to_header()}))


SCORE = Evaluation(
    benchmark="arc", family="lm", task="t", metric="acc", tokens=20_480, weights_sha256="0",
    shots=5, limit=None, questions=9, questions_sha256="0", score=50.0, score_stderr=1.0,
    chance=25.0, answer_bpb=1.5, answer_bpb_stderr=None, requests=9, cut=0, unknown=0,
    answer_tokens=None, harness="1", device="cpu", dtype="float32", elapsed_s=1.0, at=7.5,
)  # fmt: skip


def add_score(run: RunDir, **changes: object) -> None:
    """One more evaluation of a run, `SCORE` with changes."""
    score = SCORE.model_copy(update=changes)
    (run.path / FOLDER).mkdir(exist_ok=True)
    path = run.path / FOLDER / f"{len(list((run.path / FOLDER).iterdir()))}.json"
    path.write_text(score.model_dump_json())
