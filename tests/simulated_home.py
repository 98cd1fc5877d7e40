"""A home of sweeps whose losses follow a known law, without training: for dashboards and speed."""

import json
import os
from pathlib import Path

import numpy as np
from optuna.trial import TrialState, create_trial

from analysis.tuning.answer import fit_lr
from analysis.tuning.study_law import StudyLaw
from flows.files import write_whole
from flows.runs.directory import Observation, RunDir, RunResult
from flows.settings import Home
from flows.tuning.ranges import search_box, study_ranges
from flows.tuning.report import write_trials
from flows.tuning.study import propose
from llama_core.schedule import cooldown_start
from sweeps.load import load_spec, load_tune_spec
from sweeps.plan import Plan, plan
from sweeps.shapes import shape
from sweeps.spec import DataRef, PlannedRun
from sweeps.tune_plan import trial_run
from sweeps.tune_spec import TuneSpec

E, A, B, ALPHA, BETA = 2.4, 290.0, 7700.0, 0.575, 0.7
_ENDED_AT = 1.79e9


def simulated_sweep(
    root: Path,
    name: str = "made",
    *overrides: str,
    seeds: int = 1,
    rows: int = 60,
    finished: int | None = None,
    noise: float = 0.002,
) -> Plan:
    """Write a sweep of the demo's grid; its plan.

    Args:
        seeds: trainings of every size.
        rows: of each curve; a training ends at the last.
        finished: how many runs have ended, the cheapest first; None: all.
    """
    home = Home(root)
    for folder in (home.runs, home.sweeps, home.tunes, home.forecasts):
        folder.mkdir(parents=True, exist_ok=True)
    first = int.from_bytes(name.encode()[-2:], "big") * 100
    spec = load_spec(
        "demo", (f"name={name}", f"seeds={[first + k for k in range(seeds)]}", *overrides)
    )
    planned = plan(spec, DataRef(digest="made up"))
    for place, run in enumerate(planned.runs):
        if finished is None or place < finished:
            _write_run(home, run, rows, noise, _ENDED_AT + 60 * place)
    folder = home.sweeps / name
    folder.mkdir(exist_ok=True)
    write_whole(folder / "plan.json", planned.model_dump_json())
    return planned


def simulated_study(
    root: Path, name: str = "tuned", *, trials: int = 12, finished: int | None = None
) -> TuneSpec:
    """Write a study of two sizes whose losses are least at one rate and one batch.

    Args:
        trials: of each size.
        finished: how many of all have ended; None: all, and its laws are written.
    """
    home = Home(root)
    spec = load_tune_spec("lr-batch", (f"name={name}", f"trials={trials}", f"startup={trials}"))
    folder = home.tunes / name
    for path in (home.runs, folder):
        path.mkdir(parents=True, exist_ok=True)
    runs = []
    for width in spec.ladder.widths:
        model = shape(spec.ladder, width, spec.make)
        proposed = propose(spec, search_box(spec, model), [], trials)
        for number, params in enumerate(proposed):
            trial = create_trial(state=TrialState.RUNNING, params={}, distributions={})
            trial.number, trial.params = number, params
            runs.append((trial, trial_run(spec, model, DataRef(digest="made up"), number, params)))
    write_whole(folder / "spec.json", spec.model_dump_json())
    table = write_trials(runs, home, folder)
    for place, (_, run) in enumerate(runs[:finished]):
        train = run.run.train
        away = np.log([train.optimizer.lr / 0.012, train.batch_tokens / 800])
        excess = float(away**2 @ [0.03, 0.02])
        _write_run(home, run, 20, 0.001, _ENDED_AT + 60 * place, excess)
    if finished is None:
        table = write_trials(runs, home, folder)
        fit = fit_lr(table, ranges=study_ranges(spec))
        write_whole(folder / "law.json", StudyLaw.of(fit, study=name, data="made up").text())
    return spec


def loss_of(N: float, D: float) -> float:
    """The law's loss."""
    return float(E + A / N**ALPHA + B / D**BETA)


def _write_run(
    home: Home, run: PlannedRun, rows: int, noise: float, ended_at: float, excess: float = 0.0
) -> None:
    directory = RunDir(home.runs / run.id)
    if directory.result_path.exists():
        return
    directory.create(run)
    N, last = run.n_params, run.cells[-1].tokens
    draw = np.random.default_rng(int(run.id[:8], 16))
    lines = []
    train = run.run.train
    batch = train.batch_tokens
    trunk = cooldown_start(train.schedule, last, batch)
    for number, tokens in enumerate(np.geomspace(batch, last, rows)):
        step = max(number + 1, round(tokens / batch))
        loss = (loss_of(N, tokens) + excess) * float(np.exp(draw.normal(0, 10 * noise)))
        lines.append(
            {"kind": "step", "step": step, "tokens": step * batch, "loss": loss,
             "horizon": None if step <= trunk else last,
             "lr": 0.01, "grad_norm": 1.0, "tokens_per_s": 5e4, "mfu": None, "memory_gib": 0.1,
             "at": ended_at - rows + number}
        )  # fmt: skip
    losses = {
        cell.tokens: (loss_of(N, cell.tokens) + excess) * float(np.exp(draw.normal(0, noise)))
        for cell in run.cells
    }
    lines += [
        {"kind": "eval", "step": tokens // batch, "tokens": tokens, "horizon": tokens,
         "val_loss": loss, "val_bpb": loss / 1.6, "weights_sha256": "0" * 64, "at": ended_at}
        for tokens, loss in losses.items()
    ]  # fmt: skip
    write_whole(directory.curve_path, "".join(json.dumps(line) + "\n" for line in lines))
    result = RunResult(
        run_id=run.id,
        status="finished",
        observations=tuple(
            Observation(tokens=tokens, val_loss=loss, val_bpb=loss / 1.6, weights_sha256="0" * 64)
            for tokens, loss in losses.items()
        ),
        train_s=60.0,
        device="cpu",
        finished_at=ended_at,
    )
    write_whole(directory.result_path, result.model_dump_json())
    os.utime(directory.result_path, (ended_at, ended_at))
