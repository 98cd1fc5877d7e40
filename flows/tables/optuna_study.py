"""The trials of an Optuna study as a table."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from analysis.table.files import Contents, described
from analysis.table.observations import TableError

_JOURNAL = b'{"op_code":'
_SQLITE = b"SQLite format 3\x00"
_UNREADABLE = (RuntimeError, ValueError, KeyError, AssertionError, OSError)
_HOW = "Write optuna:STUDY@URL, for example optuna:lr@sqlite:///study.db, or @ and a journal file."


def is_journal(path: Path) -> bool:
    """Whether a file is an Optuna journal."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_JOURNAL)) == _JOURNAL


def read_study(name: str) -> Contents:
    """The trials of a study, one a row.

    Args:
        name: `STUDY@STORAGE`, or a storage that holds one study: the URL of a database, a file of
            SQLite or a journal file.

    Raises:
        TableError: there is no such storage or study, it cannot be read, or it has no trial.
    """
    import optuna
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study, at, where = name.partition("@")
    if not at or "://" in study or Path(name).is_file():
        study, where = "", name
    try:
        storage = _storage(where)
        known = optuna.get_all_study_names(storage)
        if not study and len(known) == 1:
            [study] = known
        if study not in known:
            lacking = f"no study {study!r}" if study or not known else "several studies"
            raise TableError(
                f"{where} has {lacking}: {', '.join(known) or 'none at all'}. Name one: "
                f"optuna:STUDY@{where}"
            )
        loaded = optuna.load_study(study_name=study, storage=storage)
        return _contents(loaded)
    except TableError:
        raise
    # What a torn journal, and a database of other software or another version, raise.
    except (OptunaError, SQLAlchemyError, *_UNREADABLE) as error:
        reason = str(error.__cause__ or error) or type(error).__name__
        raise TableError(
            f"{where} cannot be read as a storage of Optuna: {reason.splitlines()[0]}"
        ) from error


def _storage(where: str) -> Any:
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.engine import make_url

    url = where if "://" in where else None
    path = Path(make_url(where).database or "") if where.startswith("sqlite:") else Path(where)
    if url is None or url.startswith("sqlite:"):
        if not path.is_file():
            raise TableError(f"there is no file {path} with an Optuna study. {_HOW}")
        with path.open("rb") as file:
            if file.read(len(_SQLITE)) == _SQLITE:
                url = url or f"sqlite:///{path}"
        if url is None and not is_journal(path):
            raise TableError(f"{path} is neither a database nor a journal of Optuna. {_HOW}")
    if url is not None:
        return RDBStorage(url, skip_table_creation=True)
    return JournalStorage(JournalFileBackend(str(path)))


def _contents(study: Any) -> Contents:
    trials = study.get_trials(deepcopy=False)
    if not trials:
        raise TableError(f"Optuna study {study.study_name!r} has no trials.")
    frame = pl.from_dicts(
        [_row(trial, study) for trial in trials], infer_schema_length=None, strict=False
    )
    contents = described(frame)
    columns = contents.frame.columns
    minimised = len(study.directions) == 1 and study.directions[0].name == "MINIMIZE"
    if "val_loss" in columns or "value" not in columns:
        return contents
    if minimised:
        return replace(contents, mapping={"val_loss": "value"})
    hint = "The study maximises its value, which is no loss."
    return replace(contents, hints=(*contents.hints, hint))


def _row(trial: Any, study: Any) -> dict[str, Any]:
    """A trial: number, state, values, then parameters and attributes, its study's too."""
    row: dict[str, Any] = {"trial": trial.number, "status": trial.state.name}
    values = trial.values or [None] * len(study.directions)
    if len(values) == 1:
        row["value"] = values[0]
    else:
        names = study.metric_names or [f"value_{place}" for place in range(len(values))]
        row |= dict(zip(names, values, strict=True))
    for source in (trial.params, trial.user_attrs, study.user_attrs):
        row |= {name: value for name, value in _scalars(source).items() if name not in row}
    return row


def _scalars(values: Mapping[str, Any]) -> dict[str, Any]:
    scalar = (int, float, str, bool, type(None))
    return {
        name: value if isinstance(value, scalar) else json.dumps(value)
        for name, value in values.items()
    }
