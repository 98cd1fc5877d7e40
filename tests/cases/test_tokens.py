"""Anybody's token files are planned on like text, and what they lack is told."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cases.conftest import Run

GPU = ("--gpu", "h100", "--mfu", "0.4")
SMALL = ("--set", "eval_tokens=1024")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stream of documents that end with id 0, as nanoGPT's scripts write it."""
    draw = np.random.default_rng(0)
    stream = [np.append(draw.integers(1, 500, 300), 0) for _ in range(700)]
    made = tmp_path / "own"
    made.mkdir()
    np.concatenate(stream).astype("<u2").tofile(made / "train.bin")
    return made


def sources(folder: Path, **settings: object) -> tuple[str, str]:
    source = {"kind": "tokens", "path": str(folder), "end": 0} | settings
    return ("--set", f"corpus.sources={json.dumps([source])}")


def test_a_sweep_of_own_tokens_is_planned_and_says_that_bits_per_byte_are_absent(
    run: Run, folder: Path
) -> None:
    (folder / "more.bin.gz").write_bytes(bytes(9_000))
    assert run("prepare", "smoke", *SMALL, *sources(folder)).status == 0
    done = run("plan", "smoke", *GPU, *SMALL, *sources(folder))
    assert done.status == 0, done.stderr
    assert "1 file is not read (more.bin.gz)" in done.stdout
    assert "no tokenizer is given, so there are no bits per byte" in done.stdout


def test_ids_beyond_the_vocabulary_are_refused_with_what_to_set(run: Run, folder: Path) -> None:
    np.full(2_000, 50_256, "<u2").tofile(folder / "other.bin")
    done = run("prepare", "smoke", *SMALL, *sources(folder))
    assert done.status == 2
    assert "has the id 50,256 at token 0" in done.stderr
    assert "Traceback" not in done.stderr
