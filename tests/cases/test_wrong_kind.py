"""A name of another kind than a command takes: one line says what it is, and what takes it."""

from pathlib import Path

import polars as pl
import pytest

from tests.cases.conftest import Run
from tests.others_tables import BASE
from tests.simulated_home import simulated_study, simulated_sweep

SWEEP = "name: mine\nladder: {widths: [16, 32]}\ngrid: {budgets: [1.0e+12]}\n"
STUDY = "name: mine\nladder: {widths: [16]}\ntokens: [300_000]\n"

IS_SWEEP, IS_STUDY = (
    "isoflop runs made lists its runs",
    "tuned is a study: isoflop fit-lr reads its trials",
)
PRESET, STUDY_PRESET = "Train it with: isoflop sweep smoke", "Train it with: isoflop tune lr-batch"
IS_LAW = "besiroglu is a published law: isoflop frontier --law besiroglu"
IS_RUN = "made/d24 is a run: isoflop show made/d24"
IS_TABLE = "A table of runs is read by: isoflop fit runs.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with specs, a table and a home that has a sweep and a study."""
    folder = tmp_path_factory.mktemp("kinds")
    simulated_sweep(folder / "home", "made", rows=3)
    simulated_study(folder / "home", "tuned", trials=8, finished=2)
    (folder / "sweep.yaml").write_text(SWEEP)
    (folder / "study.yaml").write_text(STUDY)
    pl.DataFrame(BASE, schema=["params", "tokens", "loss"], orient="row").write_csv(
        folder / "runs.csv"
    )
    return folder


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("sweep lr-batch", STUDY_PRESET),
        ("sweep study.yaml", "Train it with: isoflop tune study.yaml"),
        ("sweep sweep", "Did you mean sweep.yaml?"),
        ("submit lr-batch", STUDY_PRESET),
        ("tune smoke", PRESET),
        ("tune sweep.yaml", "Train it with: isoflop sweep sweep.yaml"),
        ("tune made", IS_SWEEP),
        ("plan made", IS_SWEEP),
        ("plan tuned", IS_STUDY),
        ("plan runs.csv", IS_TABLE),
        ("prepare besiroglu", IS_LAW),
        ("show made", IS_SWEEP),
        ("show tuned", IS_STUDY),
        ("show smoke", PRESET),
        ("generate made hello", IS_SWEEP),
        ("report tuned", IS_STUDY),
        ("report made/d24", IS_RUN),
        ("report runs.csv", IS_TABLE),
        ("runs lr-batch", STUDY_PRESET),
        ("watch tuned", IS_STUDY),
        ("export smoke", PRESET),
        ("fit tuned", IS_STUDY),
        ("fit made/d24", IS_RUN),
        ("fit smoke", PRESET),
        ("fit lr-batch", STUDY_PRESET),
        ("fit besiroglu", IS_LAW),
        ("fit sweep.yaml", "Train it with: isoflop sweep sweep.yaml"),
        ("forecast tuned", IS_STUDY),
        ("forecast --check made", IS_SWEEP),
        ("next lr-batch --flops 1e13", STUDY_PRESET),
        ("mix tuned", IS_STUDY),
        ("fit-lr made", IS_SWEEP),
        ("fit-lr study.yaml", "Train it with: isoflop tune study.yaml"),
        ("frontier --law tuned --flops 1e13", IS_STUDY),
        ("frontier --law smoke --flops 1e13", PRESET),
        ("compare tuned made", IS_STUDY),
        ("compare runs.csv lr-batch", STUDY_PRESET),
        ("compare runs.csv sweep.yaml", "Train it with: isoflop sweep sweep.yaml"),
    ],
)
def test_a_name_of_another_kind_is_refused_with_what_takes_it(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, expected: str
) -> None:
    monkeypatch.setenv("ISOFLOP_HOME", str(folder / "home"))
    monkeypatch.chdir(folder)
    done = run(*command.split())
    assert done.status == 2
    [line] = done.stderr.splitlines()
    assert expected in line


def test_the_trials_of_a_study_are_a_table_for_fit_lr(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOFLOP_HOME", str(folder / "home"))
    [line] = run("show", "tuned").stderr.splitlines()
    trials = line.rpartition("its trials, ")[2].partition(";")[0]
    # Two trials are too few; they are read all the same.
    assert "trial" in run("fit-lr", trials).stderr
