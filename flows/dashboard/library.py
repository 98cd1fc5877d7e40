"""What the dashboard knows of a home: read from its files, and again when they change."""

import math
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from analysis.fit.run_figures import loss_curves_data
from analysis.law import LossLaw
from analysis.sweep.brief import Brief, brief
from analysis.tuning.brief import StudyBrief, study_brief
from analysis.tuning.study_law import StudyLaw, StudyLawError
from flows.dashboard.kept import Kept
from flows.dashboard.seen import RunSeen, Signature, StudySeen, SweepSeen
from flows.forecasts.registered import Registered, Scored, read_forecasts, read_scores
from flows.plans.joined import Joined, joined
from flows.plans.stored import read_plan
from flows.runs.directory import RunDir
from flows.runs.table import curves as run_curves
from flows.settings import Home
from flows.tuning.stored import begun, read_study_spec, read_trials
from flows.watch.curves import CurveReader
from flows.watch.progress import progress_with
from sweeps.plan import Plan
from sweeps.spec import PlannedRun
from sweeps.tune_spec import TuneSpec

# States of files are at most this old; a request that follows another soon asks the disk nothing.
_FRESH_S = 0.5
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_-]*)?")
_CURVE = ("run_id", "name", "n_params", "tokens", "train_flops", "train_loss")


@dataclass(frozen=True, slots=True)
class _RunFiles:
    """A planned run with its id, its files and its FLOPs, which take time to work out."""

    id: str
    planned: PlannedRun
    run: RunDir
    result: str
    curve: str
    flops: float


@dataclass(frozen=True, slots=True)
class _Planned:
    """A plan with what is worked out from it once."""

    plan: Plan
    whole: Joined
    runs: tuple[_RunFiles, ...]
    earlier: tuple[_RunFiles, ...]
    flops: float


@dataclass(frozen=True, slots=True)
class _Study:
    """A study's spec, trials and law, as its folder has them."""

    spec: TuneSpec
    trials: pl.DataFrame
    law: StudyBrief | None


@dataclass(slots=True)
class _Curves:
    """A sweep's curves as far as they are read; one thread at a time reads on.

    Attributes:
        settled: the runs whose curves are in `lines`.
    """

    readers: dict[str, CurveReader] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    lines: pl.DataFrame = field(default_factory=pl.DataFrame)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Library:
    """The sweeps, studies and forecasts of a home. It only reads."""

    def __init__(self, home: Home, clock: Callable[[], float] = time.monotonic) -> None:
        self.home = home
        self._clock = clock
        self._lock = threading.RLock()
        self._looked: dict[str, float] = {}
        self._plans: Kept[_Planned | None] = Kept(math.inf)
        self._laws: Kept[Brief | None] = Kept(math.inf)
        self._sweeps: dict[str, SweepSeen] = {}
        self._runs: dict[str, RunSeen] = {}
        self._studies: Kept[_Study | None] = Kept(math.inf)
        self._trials: dict[str, _RunFiles] = {}
        self._forecasts: Kept[list[tuple[Registered, list[Scored]]]] = Kept()
        self._curves: dict[str, _Curves] = {}

    def sweeps(self) -> list[SweepSeen]:
        """Every sweep of the home; the one that changed last comes first."""
        # A variant of a sweep has a folder in the sweep's.
        plans = [*self.home.sweeps.glob("*/plan.json"), *self.home.sweeps.glob("*/*/plan.json")]
        names = (path.parent.relative_to(self.home.sweeps).as_posix() for path in sorted(plans))
        sweeps = map(self.sweep, names)
        return sorted(filter(None, sweeps), key=lambda sweep: -sweep.changed_at)

    def sweep(self, name: str) -> SweepSeen | None:
        """A sweep by the name of its folder; None where there is none."""
        if not _NAME.fullmatch(name):
            return None
        with self._lock:
            now = self._clock()
            if now - self._looked.get(name, -1e9) < _FRESH_S:
                return self._sweeps.get(name)
            self._looked[name] = now
            seen = self._look(name)
            if seen is None:
                self._sweeps.pop(name, None)
            else:
                self._sweeps[name] = seen
            return seen

    def _look(self, name: str) -> SweepSeen | None:
        planned = self._planned(name)
        if planned is None:
            return None
        folder = self.home.sweeps / name
        runs = tuple(map(self._run, planned.runs))
        earlier = tuple(map(self._run, planned.earlier))
        plan_at, law_at, table_at = (
            signature(folder / name)[0]
            for name in ("plan.json", "law.json", "observations.parquet")
        )
        ended_at = max((run.signature[0][0] for run in (*runs, *earlier)), default=0)
        return SweepSeen(
            runs=runs,
            changed_at=max(_newest(runs), plan_at, law_at) / 1e9,
            plan=planned.plan,
            whole=planned.whole,
            earlier=earlier,
            law=self._brief(folder),
            reported=table_at > ended_at,
            flops_planned=planned.flops,
        )

    def _planned(self, name: str) -> _Planned | None:
        now = signature(self.home.sweeps / name / "plan.json")
        return self._plans.get(name, now, lambda: self._read_plan(name))

    def _read_plan(self, name: str) -> _Planned | None:
        plan = read_plan(self.home, name)
        if plan is None:
            return None
        whole = joined(plan, self.home)
        runs = tuple(map(self._file_of, plan.runs))
        own = {run.id for run in runs}
        others = map(self._file_of, whole.plan.runs if whole.plan is not plan else ())
        earlier = tuple(run for run in others if run.id not in own)
        return _Planned(plan, whole, runs, earlier, sum(run.flops for run in runs))

    def _file_of(self, planned: PlannedRun) -> _RunFiles:
        run = RunDir(self.home.runs / planned.id)
        paths = str(run.result_path), str(run.curve_path)
        return _RunFiles(run.id, planned, run, *paths, float(planned.flops_spent))

    def _brief(self, folder: Path) -> Brief | None:
        path = folder / "law.json"
        return self._laws.get(path, signature(path), lambda: _read_brief(path))

    def _run(self, files: _RunFiles) -> RunSeen:
        known = self._runs.get(files.id)
        ended = signature(files.result)
        if known is not None and known.settled and known.signature[0] == ended:
            return known
        now = (ended, signature(files.curve))
        # The lock of a process that died is free, though no file has changed.
        training = known is not None and known.progress.state == "training"
        if known is not None and known.signature == now and training == files.run.busy():
            return known
        result = files.run.result()
        progress = progress_with(result, files.planned, files.run)
        seen = RunSeen(files.planned, progress, result, now, files.flops)
        self._runs[files.id] = seen
        return seen

    def studies(self) -> list[StudySeen]:
        """Every study of the home; the one that changed last comes first."""
        names = (path.parent.name for path in sorted(self.home.tunes.glob("*/spec.json")))
        studies = filter(None, map(self.study, names))
        return sorted(studies, key=lambda study: -study.changed_at)

    def study(self, name: str) -> StudySeen | None:
        """A study by the name of its folder; None where there is none."""
        if not _NAME.fullmatch(name) or "/" in name:
            return None
        with self._lock:
            folder = self.home.tunes / name
            files = [folder / file for file in ("spec.json", "trials.csv", "law.json")]
            now = tuple(map(signature, files))
            study = self._studies.get(name, now, lambda: _read_study(folder))
            if study is None:
                return None
            runs = tuple(map(self._run, self._trials_of(study)))
            changed_at = max(_newest(runs), *(stamp for stamp, _ in now)) / 1e9
            return StudySeen(runs, changed_at, study.spec, study.trials, study.law)

    def _trials_of(self, study: _Study) -> list[_RunFiles]:
        """The runs of a study's trials that have begun, each read once."""
        ids = study.trials["run"].unique(maintain_order=True).to_list()
        for planned in begun((each for each in ids if each not in self._trials), self.home):
            self._trials[planned.id] = self._file_of(planned)
        return [self._trials[each] for each in ids if each in self._trials]

    def forecasts(self) -> list[tuple[Registered, list[Scored]]]:
        """Every registered forecast with its scores, the newest first."""

        def read() -> list[tuple[Registered, list[Scored]]]:
            newest = reversed(read_forecasts(self.home))
            return [(each, read_scores(each.name, self.home)) for each in newest]

        paths = sorted(self.home.forecasts.glob("*.json*"))
        now = tuple((path.name, signature(path)) for path in paths)
        return self._forecasts.get("", now, read)

    def curves(self, runs: Sequence[PlannedRun]) -> pl.DataFrame:
        """The curves of runs, averaged for a figure; each row of a file is read once."""
        files = [self._file_of(planned) for planned in runs]
        key = ",".join(each.id for each in files)
        with self._lock:
            curves = self._curves.setdefault(key, _Curves())
        with curves.lock:
            unread = [each for each in files if each.id not in curves.settled]
            with self._lock:
                settled = [each for each in unread if self._run(each).settled]
            self._read_settled(settled, curves)
            growing = [each for each in unread if each.id not in curves.settled]
            frames = [curves.lines, *(self._growing(each, curves) for each in growing)]
        begun = [frame for frame in frames if frame.height]
        return pl.concat(begun, how="vertical_relaxed") if begun else pl.DataFrame()

    def _read_settled(self, files: Sequence[_RunFiles], curves: _Curves) -> None:
        """Read the curves of runs that have settled, all at once and never again."""
        lines = run_curves([each.planned for each in files], self.home)
        if lines.height:
            lines = loss_curves_data(lines).rename({"loss": "train_loss"})
            curves.lines = pl.concat([curves.lines, lines]) if curves.lines.height else lines
        curves.settled.update(each.id for each in files)

    def _growing(self, files: _RunFiles, curves: _Curves) -> pl.DataFrame:
        """The curves of a run that may grow, read on row by row."""
        reader = curves.readers.setdefault(files.id, CurveReader(files.planned, files.run))
        reader.read()
        rows = pl.DataFrame(reader.curve_rows(), infer_schema_length=None)
        return rows.select(_CURVE) if rows.height else rows


def signature(path: Path | str) -> Signature:
    """When a file was written and how long it is; zeros where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - paths of thousands of runs stay texts
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)


def _newest(runs: Sequence[RunSeen]) -> int:
    """When the newest file of runs was written, in nanoseconds; 0 without one."""
    return max((stamp for run in runs for stamp, _ in run.signature), default=0)


def _read_study(folder: Path) -> _Study | None:
    spec = read_study_spec(folder)
    if spec is None:
        return None
    try:
        law = study_brief(StudyLaw.load(folder / "law.json"))
    except StudyLawError:
        law = None
    return _Study(spec, read_trials(folder), law)


def _read_brief(path: Path) -> Brief | None:
    try:
        return brief(LossLaw.load(path))
    except (OSError, ValueError):
        return None
