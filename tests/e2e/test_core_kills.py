"""SIGKILL at random moments, checkpoint writes included, must leave no trace in the result."""

import json
import random
import signal
import time
from pathlib import Path

import pytest

from llama_core.config import Placement
from llama_core.records import CheckpointRecord, EvalRecord, ResumeRecord, StepRecord
from llama_core.train import train
from tests.core_tools import batches, recipe, tiny
from tests.forked import FORKED

KILLS = 20


def train_and_write(folder, pause):
    """A listener as flows has it: rows unbuffered, cut back to the checkpoint a resume names."""
    curve = folder / "curve.jsonl"
    rows = [json.loads(line) for line in curve.read_text().splitlines()] if curve.exists() else []
    cfg = recipe(60, 120, 400)
    begun = False
    out = None
    placement = Placement(checkpoint_every_s=0.02, threads=1)
    for record in train(tiny(), cfg, batches(cfg), placement=placement, checkpoints=folder / "c"):
        if not begun:
            kept = []
            if isinstance(record, ResumeRecord):
                names = [row[1] if row[0] == "checkpoint" else "" for row in rows]
                kept = rows[: names.index(record.checkpoint) + 1]
            curve.write_text("".join(json.dumps(row) + "\n" for row in kept))
            out = curve.open("ab", buffering=0)
            begun = True
        if isinstance(record, StepRecord):
            row = ["step", record.step, record.horizon, record.loss, record.grad_norm, record.lr]
        elif isinstance(record, EvalRecord):
            row = ["eval", record.horizon, record.val_loss, record.weights_sha256]
        elif isinstance(record, CheckpointRecord):
            row = ["checkpoint", Path(record.path).stem]
        else:
            continue
        out.write((json.dumps(row) + "\n").encode())
        time.sleep(pause)


def start(folder, pause):
    process = FORKED.Process(target=train_and_write, args=(folder, pause))
    process.start()
    return process


def status_of(process):
    process.join()
    return process.exitcode


def rows_of(folder: Path) -> list[list[object]]:
    lines = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    return [line for line in lines if line[0] != "checkpoint"]


@pytest.mark.slow
def test_twenty_kills_leave_the_curve_and_the_final_weights_as_they_were(tmp_path):
    calm, harried = tmp_path / "calm", tmp_path / "harried"
    calm.mkdir()
    harried.mkdir()
    assert status_of(start(calm, 0.0)) == 0
    draw = random.Random(0)
    kills = resumed_from = 0
    while kills < KILLS:
        process = start(harried, 0.004)
        written = harried / "curve.jsonl"
        before = written.stat().st_size if written.exists() else 0
        # Die only after some progress, so that twenty kills fit into the run.
        deadline = time.monotonic() + 60
        while process.is_alive() and time.monotonic() < deadline:
            grown = written.stat().st_size if written.exists() else 0
            if grown != before and list((harried / "c").glob("*.json")):
                break
            time.sleep(0.002)
        time.sleep(draw.random() * 0.08)
        if not process.is_alive():
            break
        process.kill()
        assert status_of(process) == -signal.SIGKILL
        kills += 1
        resumed_from += bool(list((harried / "c").glob("*.json")))
    assert status_of(start(harried, 0.0)) == 0
    assert kills >= KILLS, f"the run ended after {kills} kills"
    assert resumed_from > KILLS // 2
    assert rows_of(harried) == rows_of(calm)
    for final in calm.glob("final_*.safetensors"):
        assert (harried / final.name).read_bytes() == final.read_bytes()
