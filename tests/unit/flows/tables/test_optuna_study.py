"""The trials of an Optuna study are the rows of a table."""

import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from analysis.table.observations import TableError
from analysis.table.read import read_table
from flows.tables.optuna_study import is_journal, read_study


def _add_study(storage: BaseStorage, name: str = "lr", direction: str = "minimize") -> None:
    study = optuna.create_study(study_name=name, storage=storage, direction=direction)
    study.set_user_attr("n_params", 60_000_000)
    for k, state in enumerate((TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)):
        study.add_trial(
            create_trial(
                state=state,
                params={"lr": 1e-3 * (k + 1)},
                distributions={"lr": FloatDistribution(1e-4, 1.0, log=True)},
                value=3.0 - k if state == TrialState.COMPLETE else None,
                intermediate_values={1: 2.0},
                user_attrs={"tokens": 4e9, "layers": [1, 2]},
            )
        )


def _journal(path: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(path)))


@pytest.mark.parametrize("kind", ["journal", "database"])
def test_trials_have_parameters_attributes_and_state(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "study"
    _add_study(_journal(path) if kind == "journal" else RDBStorage(f"sqlite:///{path}"))
    assert is_journal(path) == (kind == "journal")
    names = [str(path), f"lr@{path}"] + ([f"lr@sqlite:///{path}"] if kind == "database" else [])
    for name in names:
        contents = read_study(name)
        assert contents.frame["status"].to_list() == ["COMPLETE", "PRUNED", "FAIL"]
        first = contents.frame.select("lr", "tokens", "layers", "n_params").row(0)
        assert first == (1e-3, 4e9, "[1, 2]", 60_000_000)
        # What a study minimises is its loss.
        table = read_table(contents)
        assert table.used["val_loss"].to_list() == [3.0]


def test_what_a_study_maximises_is_no_loss(tmp_path: Path) -> None:
    path = tmp_path / "study"
    _add_study(_journal(path), direction="maximize")
    with pytest.raises(TableError, match=r"no column for val_loss.*maximises its value"):
        read_table(read_study(str(path)))


def test_one_of_several_studies_must_be_named(tmp_path: Path) -> None:
    path = tmp_path / "study"
    storage = _journal(path)
    _add_study(storage)
    _add_study(storage, "wd")
    with pytest.raises(TableError, match="several studies: lr, wd"):
        read_study(str(path))
    with pytest.raises(TableError, match="no study 'la': lr, wd"):
        read_study(f"la@{path}")
    assert read_study(f"wd@{path}").frame.height == 3


@pytest.mark.parametrize("storage", ["{}/none", "sqlite:///{}/none"])
def test_a_storage_that_does_not_exist_is_refused_and_not_made(
    tmp_path: Path, storage: str
) -> None:
    with pytest.raises(TableError, match=r"no file .*none"):
        read_study("lr@" + storage.format(tmp_path))
    assert not (tmp_path / "none").exists()


def test_a_damaged_storage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study"
    _add_study(_journal(path))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2][:20] + b"\n", *lines[3:]]))
    with pytest.raises(TableError, match="cannot be read as a storage of Optuna"):
        read_study(str(path))
    path.write_text("N,D,loss\n")
    with pytest.raises(TableError, match="neither a database nor a journal"):
        read_study(str(path))
    with sqlite3.connect(path.with_name("other.db")) as other:
        other.execute("CREATE TABLE runs (loss REAL)")
    other.close()
    with pytest.raises(TableError, match="cannot be read as a storage of Optuna"):
        read_study(str(path.with_name("other.db")))


def test_a_study_without_trials_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study"
    optuna.create_study(study_name="lr", storage=_journal(path))
    with pytest.raises(TableError, match="has no trials"):
        read_study(str(path))
