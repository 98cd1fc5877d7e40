"""A sweep designed in rounds: what it trains first, what next, and when it stops."""

from pathlib import Path

import numpy as np
import pytest

from flows.files import write_whole
from flows.plans.rounds import Rounds, plans_in_rounds, read_rounds
from flows.runs.directory import Observation, RunDir, RunResult
from flows.runs.state import missing
from flows.settings import Home
from sweeps.load import load_spec
from sweeps.plan import Plan, plan
from sweeps.spec import DataRef, PlannedRun


def whole(*overrides: str, target: str = "1e15") -> Plan:
    """The demo's grid of 37 cells."""
    design = f"design={{kind: next, target_flops: {target}}}"
    return plan(load_spec("demo", [design, *overrides]), DataRef(digest="x"))


def train(run: PlannedRun, home: Home, status: str = "finished") -> None:
    """End a run with losses of a law and 0.2 % of noise that belongs to its cells."""
    directory = RunDir(home.runs / run.id)
    directory.create(run)
    losses = []
    for cell in run.cells:
        noise = np.random.default_rng(run.n_params + cell.tokens).normal()
        loss = (2.4 + 300 / run.n_params**0.58 + 6900 / cell.tokens**0.7) * np.exp(0.002 * noise)
        losses.append(
            Observation(
                tokens=cell.tokens, val_loss=float(loss), val_bpb=1.5, weights_sha256="0" * 64
            )
        )
    result = RunResult(
        run_id=run.id, status=status, reason="" if status == "finished" else "a bug",
        observations=tuple(losses) if status == "finished" else (), train_s=1.0, device="cpu",
        finished_at=1.0,
    )  # fmt: skip
    write_whole(directory.result_path, result.model_dump_json())


def run_rounds(planned: Plan, home: Home, most: int | None = None) -> tuple[Plan, Rounds]:
    """Train round by round, at most so many runs before the process is 'killed'."""
    folder = home.sweeps / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    trained = 0
    for part in plans_in_rounds(planned, home, folder):
        for run in missing(part.runs, home):
            if trained == most:
                return part, read_rounds(folder)
            train(run, home)
            trained += 1
    return part, read_rounds(folder)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_x(home):
    import time
    t=time.time()
    w = whole()
    part, record = run_rounds(w, home)
    print(time.time()-t, len(w.runs), w.observations, w.flops_spent, part.flops_spent, part.observations)
    for r in record.rounds: print(r.why, r.before, r.predicted, [(c.place,c.flops) for c in r.cells])
    print(record.stopped, record.reached)
    assert 0
