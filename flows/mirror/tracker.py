"""The MLflow mirror of run directories."""

import hashlib
import logging
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from flows.files import file_lock, read_record, write_whole
from flows.mirror.client import all_runs, client, entities, mlflow_exception
from flows.mirror.entries import Entry
from flows.mirror.metrics import (
    Point,
    benchmark_points,
    metric_points,
    provenance_tags,
    run_description,
    run_params,
)
from flows.mirror.models import TAG as MODELS
from flows.mirror.models import laid_out, link_all, local_folder, with_model
from flows.mirror.views import VIEWS_NOTE, run_page, sweep_page, view_tags
from flows.runs.directory import RunDir, RunResult
from flows.runs.evaluations import FOLDER
from flows.runs.exports import FOLDER as EXPORTS
from flows.runs.exports import Export, exports
from flows.settings import Home, Settings, masked
from sweeps.spec import PlannedRun

log = logging.getLogger(__name__)

_BATCH = 1000
# Where MLflow keeps the colour of a run in its charts.
_COLOUR = "mlflow.runColor"
_PARENT = "mlflow.parentRunId"
# What MLflow shows above a run or an experiment, as Markdown.
_DESCRIPTION = "mlflow.note.content"
# By our id of a run: MLflow's id, and whether MLflow shows it as running.
Mirrored = Mapping[str, tuple[str | None, bool]]


class MlflowTracker:
    """One MLflow experiment for each sweep, its runs flat: nested runs show no charts."""

    def __init__(self, uri: str, artifacts: Path) -> None:
        # Written into notes beside the runs, so without its password.
        self._uri = masked(uri)
        # A server decides where its artifacts are; a path of this machine means nothing there.
        self._artifacts = None if uri.startswith("http") else artifacts
        self._experiments: dict[str, str] = {}
        self._client = client(uri)

    def initialise(self) -> None:
        """Make the tables of a fresh database."""
        self._client.search_experiments(max_results=1)

    def mirrored(self, sweep: str) -> Mirrored:
        """All runs of a sweep that MLflow has, asked for at once."""
        runs: dict[str, tuple[str | None, bool]] = {}
        for run in all_runs(self._client, self._experiment(sweep)):
            ours = run.data.tags.get("isoflop.run_id")
            if ours is not None:
                runs.setdefault(ours, (run.info.run_id, run.info.status == "RUNNING"))
        return runs

    def publish(self, run: RunDir, planned: PlannedRun, mirrored: Mirrored | None = None) -> None:
        """Write what the mirror lacks; nothing of a run that was never trained.

        Rows keep the times stored on disk, so a row sent twice is the same row to MLflow, and a
        crash between sending it and recording that does no harm.

        Args:
            mirrored: what `mirrored` has just answered; MLflow is asked for runs not in it.
        """
        if not run.curve_path.exists() and run.result() is None:
            return
        # Two sweeps that share a run must not both create it.
        with file_lock(run.path / "mirror.lock"):
            note_path = run.path / f"mirror-{planned.sweep}.json"
            note = _read_note(note_path, self._uri)
            known = (mirrored or {}).get(run.id)
            there, running = known or self._look_up(planned.sweep, run.id)
            exported, signature = exports(run), _signature(run)
            if there is None or there != note.run or (note.status is not None and running):
                # The mirror is new, restored from a copy, or has no note: send all rows again.
                note = _Note(uri=self._uri)
                note.run = there or self._create(run, planned)
                self._send_params(note.run, planned)
                self._send_tags(note.run, provenance_tags(run))
            elif note.signature == signature:
                return
            # No row may be mirrored and then lost in a power cut.
            run.curve.sync()
            points = list(metric_points(run, planned))
            if note.sent_sha256 != _digest(points[: note.sent]):
                # The curve was mended, or an older version thinned it in another way.
                note.sent = 0
            self._send(note.run, points[note.sent :])
            note.sent, note.sent_sha256 = len(points), _digest(points)
            scores = benchmark_points(run)
            if len(scores) != note.scores:
                self._send(note.run, scores)
                note.scores = len(scores)
            result = run.result()
            if result is not None and note.status != result.status:
                self._close(note.run, run, planned, result)
                note.status = result.status
            for export in exported:
                if export.tokens not in note.models and self._log_model(note.run, run, export):
                    note.models = (*note.models, export.tokens)
            # A model whose files are gone is missed again by the next sync.
            whole = all(export.tokens in note.models for export in exported)
            note.signature = signature if whole else ""
            write_whole(note_path, note.model_dump_json())

    def _log_model(self, mlflow_run: str, run: RunDir, export: Export) -> bool:
        """Log exported weights as a model of the run; False where they are gone."""
        if not export.is_whole():
            log.warning(
                "%s no longer has the weights of %s, so MLflow lacks the model. Write them again: "
                "isoflop export-hf %s DIR --horizon %d",
                *(export.folder, run.id, run.id, export.tokens),
            )
            return False
        logged = self._client.get_run(mlflow_run)
        root = local_folder(logged.info.artifact_uri)
        with laid_out(export, mlflow_run, run.id) as (folder, entry):
            if root is not None:
                link_all(folder, root / entry["artifact_path"])
            else:
                self._client.log_artifacts(mlflow_run, str(folder), entry["artifact_path"])
            self._client.set_tag(mlflow_run, MODELS, with_model(logged.data.tags, entry))
        return True

    def log_report(self, sweep: str, report: Path, summary: dict[str, float], verdict: str) -> None:
        """Log a sweep's report and its law's numbers as the run `report` of the experiment.

        The verdict describes the run and, with a link to the report, the experiment.
        """
        run_id = self._log_page(sweep, "report", report, summary)
        self._client.set_tag(run_id, _DESCRIPTION, _markdown(verdict))
        experiment = self._experiment(sweep)
        page = run_page(experiment, run_id, f"/artifacts/{report.name}")
        self._client.set_experiment_tag(
            experiment, _DESCRIPTION, f"{_markdown(verdict)}\n\n[The report]({page}). {VIEWS_NOTE}"
        )

    def log_entries(
        self,
        sweep: str,
        entries: Sequence[Entry],
        colours: Mapping[str, str],
        shares: Sequence[str] = (),
    ) -> None:
        """Log a sweep's observations and curves, and the views that show them.

        An entry that MLflow has as it is now is not sent again. Two processes must not log the
        same sweep at once.

        Args:
            entries: a curve comes before its observations.
            colours: of the trainings, by our id.
            shares: columns of a sweep of mixtures.
        """
        experiment = self._experiment(sweep)
        for key, value in view_tags(shares).items():
            self._client.set_experiment_tag(experiment, key, value)
        ids: dict[str, str] = {}
        shas: dict[str, str] = {}
        for run in all_runs(self._client, experiment):
            ours, tags = run.data.tags.get("isoflop.run_id"), run.data.tags
            ids.setdefault(ours, run.info.run_id)
            shas.setdefault(ours, tags.get("isoflop.entry_sha256", ""))
            if ours in colours and tags.get(_COLOUR) != colours[ours]:
                self._client.set_tag(run.info.run_id, _COLOUR, colours[ours])
        replaced: set[str] = set()
        for place, entry in enumerate(entries):
            if shas.get(entry.key) != entry.sha256:
                if entry.key in ids:
                    # MLflow would keep the old values of its metrics beside the new ones.
                    self._client.delete_run(ids[entry.key])
                    replaced.add(entry.key)
                ids[entry.key] = self._log_entry(experiment, entry, ids, place)
            elif entry.parent in replaced:
                self._client.set_tag(ids[entry.key], _PARENT, ids[entry.parent])

    def _log_entry(self, experiment: str, entry: Entry, ids: Mapping[str, str], place: int) -> str:
        at = [point.timestamp_ms for _, point in entry.points]
        tags = {"isoflop.kind": entry.kind, "isoflop.run_id": entry.key}
        # MLflow's page lists them, and their colours in a legend, by the time they began.
        began = min(at, default=0) + place
        run_id = str(self._client.create_run(experiment, began, tags).info.run_id)
        self._send(run_id, list(entry.points))
        parent = {} if entry.parent is None else {_PARENT: ids[entry.parent]}
        self._client.set_terminated(
            run_id, "FAILED" if entry.failed else "FINISHED", max(at, default=None)
        )
        # Last: with this digest nothing is missing.
        described = {"mlflow.runName": entry.name, "verdict": entry.verdict, _COLOUR: entry.colour}
        self._send_tags(run_id, {**parent, **described, "isoflop.entry_sha256": entry.sha256})
        return run_id

    def log_study(
        self, study: str, report: Path, summary: dict[str, float], trials: Sequence[str]
    ) -> None:
        """Make the run `study` the parent of the trials' runs, with the report and the numbers."""
        parent = self._log_page(study, "study", report, summary)
        for run_id in trials:
            child, _ = self._look_up(study, run_id)
            if child is not None:
                self._client.set_tag(child, _PARENT, parent)

    def _log_page(self, sweep: str, kind: str, page: Path, summary: dict[str, float]) -> str:
        experiment = self._experiment(sweep)
        pages = self._client.search_runs([experiment], f"tags.`isoflop.kind` = '{kind}'")
        tags = {"isoflop.kind": kind, "isoflop.run_id": kind, "mlflow.runName": kind}
        run_id = str(
            pages[0].info.run_id
            if pages
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
            str(experiment.experiment_id): str(experiment.name)
            for experiment in self._client.search_experiments()
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
        """Mark a run as killed; publishing it again continues it."""
        self._client.set_terminated(mlflow_run, "KILLED")

    def chart_path(self, sweep: str) -> str:
        """Path and fragment of the page that shows a sweep: its view, else MLflow's own charts."""
        experiment = self._experiment(sweep)
        tags = self._client.get_experiment(experiment).tags
        return sweep_page(experiment, tags)

    def report_path(self, sweep: str) -> str | None:
        """Path and fragment of the page that shows a sweep's report; None without a report."""
        run_id, _ = self._look_up(sweep, "report")
        if run_id is None:
            return None
        return f"/{run_page(self._experiment(sweep), run_id, '/artifacts/report.html')}"

    def _experiment(self, sweep: str) -> str:
        if sweep not in self._experiments:
            experiment = self._client.get_experiment_by_name(sweep)
            if experiment is None:
                try:
                    folder = (self._artifacts / sweep).as_uri() if self._artifacts else None
                    self._client.create_experiment(sweep, folder)
                except mlflow_exception():
                    # Another worker may have made it at the same moment; else this raises again.
                    log.info("experiment %s exists by now", sweep)
                experiment = self._client.get_experiment_by_name(sweep)
            if experiment.lifecycle_stage == "deleted":
                self._client.restore_experiment(experiment.experiment_id)
            self._experiments[sweep] = str(experiment.experiment_id)
        return self._experiments[sweep]

    def _look_up(self, sweep: str, run_id: str) -> tuple[str | None, bool]:
        """MLflow's id of a run, and whether MLflow shows it as running."""
        query = f"tags.`isoflop.run_id` = '{run_id}'"
        runs = self._client.search_runs([self._experiment(sweep)], query, max_results=1)
        return (runs[0].info.run_id, runs[0].info.status == "RUNNING") if runs else (None, False)

    def _create(self, run: RunDir, planned: PlannedRun) -> str:
        tags = {
            "mlflow.runName": planned.name,
            "isoflop.kind": "training",
            "isoflop.run_id": run.id,
            "sweep": planned.sweep,
        }
        # The start is the first row's time, so that a mirror made later shows the same times.
        first = next(run.curve.rows(), None)
        started = int(first["at"] * 1000) if first else None
        created = self._client.create_run(self._experiment(planned.sweep), started, tags)
        return str(created.info.run_id)

    def _send_params(self, mlflow_run: str, planned: PlannedRun) -> None:
        params = [entities().Param(key, value) for key, value in run_params(planned).items()]
        self._client.log_batch(mlflow_run, params=params)

    def _send_tags(self, mlflow_run: str, tags: dict[str, str]) -> None:
        self._client.log_batch(mlflow_run, tags=[entities().RunTag(*tag) for tag in tags.items()])

    def _send(self, mlflow_run: str, points: list[tuple[str, Point]]) -> None:
        metric = entities().Metric
        for start in range(0, len(points), _BATCH):
            batch = [
                metric(key, point.value, point.timestamp_ms, point.step)
                for key, point in points[start : start + _BATCH]
                # SQL stores no NaN; the run's status and reason show a diverged step.
                if math.isfinite(point.value)
            ]
            self._client.log_batch(mlflow_run, metrics=batch)

    def _close(self, mlflow_run: str, run: RunDir, planned: PlannedRun, result: RunResult) -> None:
        paths = (run.spec_path, run.curve_path, run.result_path)
        for path in (*paths, run.provenance_path, run.attempts_path):
            if path.exists():
                self._client.log_artifact(mlflow_run, str(path))
        ended = {
            "isoflop.status": result.status,
            "isoflop.reason": result.reason,
            _DESCRIPTION: run_description(planned, result),
        }
        # Attempts may have been added since the run was created in MLflow.
        self._send_tags(mlflow_run, provenance_tags(run) | ended)
        last = run.curve.last()
        ended_ms = int(last["at"] * 1000) if last else None
        self._client.set_terminated(
            mlflow_run, "FINISHED" if result.status == "finished" else "FAILED", ended_ms
        )


class _Note(BaseModel):
    """What this machine has sent to a tracking server; losing it never makes a duplicate."""

    uri: str
    run: str | None = None
    sent: int = 0
    sent_sha256: str = ""
    scores: int = 0
    models: tuple[int, ...] = ()
    status: str | None = None
    signature: str = ""


def _markdown(text: str) -> str:
    """Plain text that Markdown shows as it is: N* and line ends."""
    return re.sub(r"([*_#\[\]<>`|])", r"\\\1", text).replace("\n", "\n\n")


def _signature(run: RunDir) -> str:
    """Changes with every file of a run that is mirrored, without reading one."""
    beside = sorted(file for name in (FOLDER, EXPORTS) for file in (run.path / name).glob("*.json"))
    paths = [run.curve_path, run.result_path, *beside]
    states = [(path.name, path.stat()) for path in paths if path.exists()]
    return " ".join(f"{name}:{state.st_size}:{state.st_mtime_ns}" for name, state in states)


def _digest(points: list[tuple[str, Point]]) -> str:
    return hashlib.sha256(repr(points).encode()).hexdigest()


def _read_note(path: Path, uri: str) -> _Note:
    """The note for this tracking server, empty if there is none."""
    note = read_record(path, _Note)
    return note if note is not None and note.uri == uri else _Note(uri=uri)


def open_tracker(settings: Settings, home: Home) -> MlflowTracker:
    """The tracker of the settings, its database initialised.

    Under a lock: a fresh database opened by several processes at once is left half made.
    """
    with file_lock(home.root / "mlflow.lock"):
        tracker = MlflowTracker(settings.tracking_uri(home), home.artifacts)
        tracker.initialise()
    return tracker
