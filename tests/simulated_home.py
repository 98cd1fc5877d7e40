"""A home of sweeps whose losses follow a known law, without training: for dashboards and speed."""

import json
import os
from pathlib import Path

import numpy as np

from flows.files import write_whole
from flows.runs.directory import Observation, RunDir, RunResult
from flows.settings import Home
from llama_core.schedule import cooldown_start
from sweeps.load import load_spec
from sweeps.plan import Plan, plan
from sweeps.spec import DataRef, PlannedRun

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


def loss_of(N: float, D: float) -> float:
    """The law's loss."""
    return float(E + A / N**ALPHA + B / D**BETA)


def _write_run(home: Home, run: PlannedRun, rows: int, noise: float, ended_at: float) -> None:
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
        loss = loss_of(N, tokens) * float(np.exp(draw.normal(0, 10 * noise)))
        lines.append(
            {"kind": "step", "step": step, "tokens": step * batch, "loss": loss,
             "horizon": None if step <= trunk else last,
             "lr": 0.01, "grad_norm": 1.0, "tokens_per_s": 5e4, "mfu": None, "memory_gib": 0.1,
             "at": ended_at - rows + number}
        )  # fmt: skip
    losses = {
        cell.tokens: loss_of(N, cell.tokens) * float(np.exp(draw.normal(0, noise)))
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
