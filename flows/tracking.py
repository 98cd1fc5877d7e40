"""The MLflow mirror of run directories. The only module that imports mlflow."""

import fcntl
import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urlsplit

from flows.attempts import read_attempts, read_provenance
from flows.evaluate import evaluations
from flows.rundir import RunDir, RunResult, write_whole
from flows.settings import Home, Settings, masked
from flows.store import StoreError
from llama_core.counting import count_params
from sweeps.spec import Cell, PlannedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

# About how many points of a metric MLflow gets; its charts draw some 300. The full curve
# goes along as an artifact.
_POINTS = 500
_BATCH = 1000
_TRUNK_METRICS = (("optimizer", "lr"), ("optimizer", "grad_norm"), ("speed", "tokens_per_s"))


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a metric as a tracker returns it."""

    step: int
    value: float
    timestamp_ms: int


class Publisher(Protocol):
    """Where run directories are mirrored. Publishing twice changes nothing."""

    def load(self) -> None:
        """Import what publishing takes, before a thread publishes.

        Libraries that look for one another in `sys.modules` fail over one that is half imported.
        """

    def publish(self, run: RunDir, planned: PlannedRun) -> None:
        """Bring the mirror of one run up to what its directory holds."""

    def catch_up(self) -> None:
        """Publish again what did not go through, now that nothing waits for it."""

    def log_report(self, sweep: str, report: Path, summary: dict[str, float]) -> None:
        """Keep a sweep's report and its law's numbers beside its runs."""

    def log_study(
        self, study: str, report: Path, summary: dict[str, float], trials: Sequence[str]
    ) -> None:
        """Make a study the parent of its trials' runs, and keep its report and numbers there."""


class Tracker(Publisher, Protocol):
    """A mirror that can be read back."""

    def curve(self, sweep: str, run_id: str, metric: str) -> list[Point]:
        """Points of a metric in rising order of step, exactly as published."""

    def params(self, sweep: str, run_id: str) -> dict[str, str]:
        """What the run was, as text."""

    def run_ids(self, sweep: str) -> list[str]:
        """Ids of the runs mirrored for a sweep, and `report` when its report is there."""


def metric_points(run: RunDir, planned: PlannedRun) -> Iterator[tuple[str, Point]]:
    """The points of a run that a tracker receives, thinned the same way every time.

    MLflow's page sorts its sections by what stands before the slash, so losses come first. The
    last cooldown ends the trunk's curve. Every other branch has a metric of its own, named after
    its isoflop so that one chart shows all sizes of a budget.
    """
    kept = _kept_steps(planned.run.train.total_steps)
    branches = {cell.tokens: branch_metric(cell) for cell in planned.cells[:-1]}
    for row in run.rows():
        stamp = int(row["at"] * 1000)
        if row["kind"] == "eval":
            yield "loss/val_loss", Point(row["step"], row["val_loss"], stamp)
            yield "loss/val_bpb", Point(row["step"], row["val_bpb"], stamp)
        elif row["kind"] == "step" and row["step"] in kept:
            branch = branches.get(row["horizon"])
            yield branch or "loss/train_loss", Point(row["step"], row["loss"], stamp)
            if branch is None:
                for section, key in _TRUNK_METRICS:
                    yield f"{section}/{key}", Point(row["step"], row[key], stamp)


def benchmark_points(run: RunDir) -> list[tuple[str, Point]]:
    """Scores of whole benchmarks, in percent, at the step whose weights were asked.

    `tasks/BoolQ_0shot`, and with `_bpb` the bits per byte of its right answers.
    """
    steps = {row["horizon"]: row["step"] for row in run.rows() if row["kind"] == "eval"}
    points = []
    for one in evaluations(run):
        if one.limit is None and one.tokens in steps:
            name, at = f"tasks/{one.benchmark}_{one.shots}shot", int(1000 * one.at)
            points.append((name, Point(steps[one.tokens], one.score, at)))
            if one.answer_bpb is not None:
                points.append((f"{name}_bpb", Point(steps[one.tokens], one.answer_bpb, at)))
    return points


def branch_metric(cell: Cell) -> str:
    """Name of a cooldown branch's loss: `loss_cooldown/C_1.60e11`, or by tokens off an isoflop."""
    if cell.flops_budget is None:
        return f"loss_cooldown/D_{cell.tokens}"
    # MLflow takes no plus sign in a name.
    return f"loss_cooldown/C_{cell.flops_budget:.2e}".replace("+", "")


def run_params(planned: PlannedRun) -> dict[str, str]:
    """The facts of a run that people filter and group by."""
    counts = count_params(planned.run.model)
    train = planned.run.train
    return {
        "n_params": str(counts.multiplying),
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
    }


def provenance_tags(run: RunDir) -> dict[str, str]:
    """What made a run, as tags to filter by; MLflow shows the commit as the run's source."""
    found, attempts = read_provenance(run), read_attempts(run)
    if found is None:
        return {}
    tags = {
        "mlflow.source.git.commit": found.git_commit,
        "isoflop.git_dirty_sha256": found.git_dirty_sha256,
        "isoflop.lock_sha256": found.lock_sha256,
        "isoflop.data_sha256": found.data_sha256,
        "isoflop.tokenizer_sha256": found.tokenizer_sha256,
        "isoflop.seed": None if found.seed is None else str(found.seed),
        "isoflop.device": found.device_name or found.processor,
        "isoflop.host": found.host,
        "isoflop.attempts": str(len(attempts)) if attempts else None,
        "isoflop.spec": None if found.spec is None else json.dumps(found.spec, sort_keys=True),
    }
    return {key: value for key, value in tags.items() if value}


class MlflowTracker:
    """Mirrors into one MLflow experiment a sweep, runs flat: nested runs show no charts."""

    def __init__(self, uri: str, artifacts: Path) -> None:
        # Written into notes beside the runs, where a password has no business.
        self._uri = masked(uri)
        # Through a server artifacts go where it keeps them; a path here means nothing there.
        self._artifacts = None if uri.startswith("http") else artifacts
        self._experiments: dict[str, str] = {}
        self._client = _client(uri)

    def load(self) -> None:
        """All there: a tracker was made."""

    def catch_up(self) -> None:
        """Nothing: here `publish` raises what does not go through."""

    def initialise(self) -> None:
        """Make the tables of a fresh database."""
        self._client.search_experiments(max_results=1)

    def publish(self, run: RunDir, planned: PlannedRun) -> None:
        """Write what the mirror lacks. Rows keep the times stored on disk, so a row sent twice
        is the same row to MLflow, and a crash between sending and noting it does no harm. A run
        that was never trained is nothing to mirror.
        """
        if not run.curve_path.exists() and run.result() is None:
            return
        with (run.path / "mirror.lock").open("w") as lock:
            # Two sweeps that share a run must not both find it missing and create it.
            fcntl.flock(lock, fcntl.LOCK_EX)
            note = _Note.load(run.path / f"mirror-{planned.sweep}.json", self._uri)
            found, running = self._look_up(planned.sweep, run.id)
            if found is None or found != note.run or (note.status is not None and running):
                # The mirror was made anew, put back, or not noted: what is sent twice is sent once.
                note.run, note.sent, note.scores = found or self._create(run, planned), 0, 0
                note.status = None
                self._send_params(note.run, planned)
                self._send_tags(note.run, provenance_tags(run))
            # A row must not be mirrored and then lost to a power cut.
            run.sync_curve()
            points = list(metric_points(run, planned))
            self._send(note.run, points[note.sent :])
            note.sent = len(points)
            scores = benchmark_points(run)
            if len(scores) != note.scores:
                self._send(note.run, scores)
                note.scores = len(scores)
            result = run.result()
            if result is not None and note.status != result.status:
                self._close(note.run, run, result)
                note.status = result.status
            note.save()

    def curve(self, sweep: str, run_id: str, metric: str) -> list[Point]:
        """Points of a metric in rising order of step."""
        found = self._find(sweep, run_id)
        if found is None:
            return []
        history = self._client.get_metric_history(found, metric)
        points = [Point(entry.step, entry.value, entry.timestamp) for entry in history]
        return sorted(points, key=lambda point: (point.step, point.timestamp_ms))

    def params(self, sweep: str, run_id: str) -> dict[str, str]:
        """What the run was, as text."""
        found = self._find(sweep, run_id)
        return dict(self._client.get_run(found).data.params) if found else {}

    def run_ids(self, sweep: str) -> list[str]:
        """Ids of the runs mirrored for a sweep."""
        experiment = self._experiment(sweep)
        runs = self._client.search_runs([experiment], max_results=5000)
        return sorted(run.data.tags["isoflop.run_id"] for run in runs)

    def log_report(self, sweep: str, report: Path, summary: dict[str, float]) -> None:
        """Keep a sweep's report and its law's numbers as the run `report` of the experiment."""
        self._log_page(sweep, "report", report, summary)

    def log_study(
        self, study: str, report: Path, summary: dict[str, float], trials: Sequence[str]
    ) -> None:
        """Make the run `study` the parent of the trials' runs, with the report and the numbers."""
        parent = self._log_page(study, "study", report, summary)
        for run_id in trials:
            child = self._find(study, run_id)
            if child is not None:
                self._client.set_tag(child, "mlflow.parentRunId", parent)

    def _log_page(self, sweep: str, kind: str, page: Path, summary: dict[str, float]) -> str:
        experiment = self._experiment(sweep)
        found = self._client.search_runs([experiment], f"tags.`isoflop.kind` = '{kind}'")
        tags = {"isoflop.kind": kind, "isoflop.run_id": kind, "mlflow.runName": kind}
        run_id = str(
            found[0].info.run_id
            if found
            else self._client.create_run(experiment, tags=tags).info.run_id
        )
        for key, value in summary.items():
            self._client.log_metric(run_id, f"report/{key}", value)
        self._client.log_artifact(run_id, str(page))
        self._client.set_terminated(run_id, "FINISHED")
        return run_id

    def open_runs(self) -> list[tuple[str, str, str]]:
        """Runs that MLflow shows as running: sweep, our id, MLflow's id."""
        experiments = {
            str(found.experiment_id): str(found.name) for found in self._client.search_experiments()
        }
        running = self._client.search_runs(
            list(experiments), "attributes.status = 'RUNNING'", max_results=5000
        )
        return [
            (experiments[run.info.experiment_id], run.data.tags["isoflop.run_id"], run.info.run_id)
            for run in running
            if run.data.tags.get("isoflop.kind") == "training"
        ]

    def end(self, mlflow_run: str) -> None:
        """Say of a run that it was killed; publishing it again goes on with it."""
        self._client.set_terminated(mlflow_run, "KILLED")

    def chart_path(self, sweep: str) -> str:
        """Path and fragment of the page that compares the curves of a sweep's runs.

        `workflowType` keeps MLflow out of its GenAI mode, where runs hide under evaluations.
        """
        experiment = self._experiment(sweep)
        view = "workflowType=machine_learning&compareRunsMode=CHART"
        return f"/#/experiments/{experiment}/runs?{view}"

    def _experiment(self, sweep: str) -> str:
        if sweep not in self._experiments:
            found = self._client.get_experiment_by_name(sweep)
            if found is None:
                try:
                    place = (self._artifacts / sweep).as_uri() if self._artifacts else None
                    self._client.create_experiment(sweep, place)
                except _mlflow_exception():
                    # Another worker may have made it at the same moment; else this raises again.
                    log.info("experiment %s exists by now", sweep)
                found = self._client.get_experiment_by_name(sweep)
            if found.lifecycle_stage == "deleted":
                self._client.restore_experiment(found.experiment_id)
            self._experiments[sweep] = str(found.experiment_id)
        return self._experiments[sweep]

    def _find(self, sweep: str, run_id: str) -> str | None:
        return self._look_up(sweep, run_id)[0]

    def _look_up(self, sweep: str, run_id: str) -> tuple[str | None, bool]:
        """MLflow's id of a run, and whether it stands there as running."""
        query = f"tags.`isoflop.run_id` = '{run_id}'"
        found = self._client.search_runs([self._experiment(sweep)], query, max_results=1)
        return (found[0].info.run_id, found[0].info.status == "RUNNING") if found else (None, False)

    def _create(self, run: RunDir, planned: PlannedRun) -> str:
        tags = {
            "mlflow.runName": planned.name,
            "isoflop.kind": "training",
            "isoflop.run_id": run.id,
            "sweep": planned.sweep,
        }
        # The start is the first row's time, so that a mirror made later tells the same story.
        first = next(run.rows(), None)
        started = int(first["at"] * 1000) if first else None
        created = self._client.create_run(self._experiment(planned.sweep), started, tags)
        return str(created.info.run_id)

    def _send_params(self, mlflow_run: str, planned: PlannedRun) -> None:
        from mlflow.entities import Param

        params = [Param(key, value) for key, value in run_params(planned).items()]
        self._client.log_batch(mlflow_run, params=params)

    def _send_tags(self, mlflow_run: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(mlflow_run, tags=[RunTag(*tag) for tag in tags.items()])

    def _send(self, mlflow_run: str, points: list[tuple[str, Point]]) -> None:
        from mlflow.entities import Metric

        for start in range(0, len(points), _BATCH):
            batch = [
                Metric(key, point.value, point.timestamp_ms, point.step)
                for key, point in points[start : start + _BATCH]
                # SQL stores no NaN; a diverged step is told by the run's status and reason.
                if math.isfinite(point.value)
            ]
            self._client.log_batch(mlflow_run, metrics=batch)

    def _close(self, mlflow_run: str, run: RunDir, result: RunResult) -> None:
        paths = (run.spec_path, run.curve_path, run.result_path)
        for path in (*paths, run.provenance_path, run.attempts_path):
            if path.exists():
                self._client.log_artifact(mlflow_run, str(path))
        ended = {"isoflop.status": result.status, "isoflop.reason": result.reason}
        # Attempts have been added since the run was made here.
        self._send_tags(mlflow_run, provenance_tags(run) | ended)
        last = run.last_row()
        ended_ms = int(last["at"] * 1000) if last else None
        self._client.set_terminated(
            mlflow_run, "FINISHED" if result.status == "finished" else "FAILED", ended_ms
        )


class _Note:
    """What this machine knows it has sent; losing it costs time, never a duplicate."""

    def __init__(self, path: Path, uri: str, data: dict[str, Any]) -> None:
        self._path = path
        self._uri = uri
        self.run: str | None = data.get("run")
        self.sent: int = data.get("sent", 0)
        self.scores: int = data.get("scores", 0)
        self.status: str | None = data.get("status")

    @classmethod
    def load(cls, path: Path, uri: str) -> "_Note":
        """The note for this tracking server; an empty one when there is none."""
        try:
            data = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            data = {}
        return cls(path, uri, data if data.get("uri") == uri else {})

    def save(self) -> None:
        """Write the note."""
        note = {"uri": self._uri, "run": self.run, "sent": self.sent, "scores": self.scores}
        write_whole(self._path, json.dumps(note | {"status": self.status}))


def _kept_steps(total: int) -> frozenset[int]:
    """Steps whose rows are mirrored: dense at the start, then even; the last always.

    A pure function of the run's length, so that a resumed run thins as an undisturbed one.
    """
    if total <= _POINTS:
        return frozenset(range(1, total + 1))
    early = {round(1.06**power) for power in range(200) if 1.06**power <= total}
    room = _POINTS - len(early)
    even = {round(1 + index * (total - 1) / (room - 1)) for index in range(room)}
    return frozenset(early | even)


def _client(uri: str) -> "MlflowClient":
    load_mlflow()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def load_mlflow() -> None:
    """Import MLflow, with few words."""
    # Read when mlflow is imported.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # A server that is down is found out in seconds, not in minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow  # noqa: F401

    # Importing it turns these up; their lines would run through a live table.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


class MlflowArtifacts:
    """A `flows.store.Store` behind the artifact proxy of an MLflow server, over HTTP."""

    def __init__(self, address: str, tracking_uri: str | None) -> None:
        """Args:
        address: mlflow-artifacts://HOST:PORT/FOLDER.
        tracking_uri: where runs are written; tells http from https when it is a server.
        """
        host, folder = urlsplit(address).netloc, urlsplit(address).path.strip("/")
        if not host or not folder:
            raise StoreError(
                f"ISOFLOP_STORE={masked(address)} names no server or no folder. "
                "Give mlflow-artifacts://HOST:PORT/FOLDER."
            )
        server = tracking_uri if tracking_uri and tracking_uri.startswith("http") else None
        load_mlflow()
        from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

        self._address = masked(address)
        self._files = MlflowArtifactsRepository(address, tracking_uri=server or f"http://{host}")

    def put(self, name: str, content: bytes) -> None:
        """Write a file."""
        folder, _, last = name.rpartition("/")
        with self._telling(name), TemporaryDirectory() as scratch:
            (Path(scratch) / last).write_bytes(content)
            self._files.log_artifact(str(Path(scratch) / last), folder)

    def get(self, name: str) -> bytes:
        """Read a file."""
        with self._telling(name), TemporaryDirectory() as scratch:
            return Path(self._files.download_artifacts(name, scratch)).read_bytes()

    def names(self, folder: str) -> list[str]:
        """List the files of a folder."""
        with self._telling(folder):
            found = self._files.list_artifacts(folder)
            return [PurePosixPath(entry.path).name for entry in found if not entry.is_dir]

    def remove(self, name: str) -> None:
        """Remove a file."""
        with self._telling(name):
            self._files.delete_artifacts(name)

    @contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        try:
            yield
        except (_mlflow_exception(), OSError) as error:
            reason = str(error).partition("\n")[0]
            raise StoreError(f"{self._address}: {name}: {reason}") from error


def _mlflow_exception() -> type[Exception]:
    from mlflow.exceptions import MlflowException

    return cast(type[Exception], MlflowException)


def mirror_error() -> tuple[type[Exception], ...]:
    """What MLflow's troubles are raised as."""
    from sqlalchemy.exc import SQLAlchemyError

    return _mlflow_exception(), SQLAlchemyError, OSError


def open_tracker(settings: Settings, home: Home) -> MlflowTracker:
    """The tracker of the settings, its database initialised.

    One process must come first: a fresh database opened by several at once is left half made.
    """
    with (home.root / "mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tracker = MlflowTracker(settings.tracking_uri(home), home.artifacts)
        tracker.initialise()
    return tracker
