"""The law that a frontier is asked of: of a sweep or table, a published one, or one in a file.

The libraries that learn from runs are imported only once there are some, so that a misspelt name
is refused at once.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from analysis.frontier.decision import Goal
from analysis.law import LossLaw
from analysis.published import UnknownName, law, law_names
from analysis.table.observations import TableError
from flows.answers.question import Priced
from flows.answers.source import open_source
from flows.plans.find import other_kind
from flows.settings import home_of, open_settings
from flows.tables.source import is_service

if TYPE_CHECKING:
    from flows.answers.runs import Runs

_OPTIONS = "These are options of isoflop fit: --law takes what its --json wrote."


def check_law(name: str) -> None:
    """Refuse a name that is neither of a law nor of runs.

    Raises:
        ValueError: there is no such law or file, or it holds none.
    """
    if not _holds_runs(name):
        read_law(name)


def law_for(name: str, goal: Goal, priced: Priced) -> tuple[LossLaw, bool]:
    """The law to answer under, and whether its draws are a forecast's.

    A sweep whose runs give no forecast answers under its fitted law, and says why.

    Raises:
        ValueError: there is no such law, or the table gives none.
    """
    if not _holds_runs(name):
        return read_law(name), False
    fitted = None
    if not Path(name).is_file() and _law_of_sweep(name).is_file():
        fitted = read_law(name)
    try:
        if fitted is not None and fitted.form == "data_constrained":
            raise TableError("a forecast takes every token for a fresh one, and this law does not.")
        from flows.answers.runs import read_runs

        runs = read_runs(open_source(name))
        return _with_options(law_of_runs(runs, goal, priced)), True
    except TableError as error:
        if fitted is None:
            if "--" not in str(error):
                raise
            raise TableError(f"{error} {_OPTIONS}") from error
        why = f"No forecast: {error} The intervals are those of the fitted law."
        return fitted.with_warnings(why), False


def _with_options(law: LossLaw) -> LossLaw:
    """The law of a table, saying whose options its warnings name."""
    named = any(" --" in line for line in law.trust.lines)
    return law.with_warnings(_OPTIONS) if named else law


def law_of_runs(runs: "Runs", goal: Goal, priced: Priced) -> LossLaw:
    """The law near the answer with the draws of the runs' forecast.

    Where unique tokens are limited, with what the runs that repeat theirs say.

    Raises:
        TableError: rows that no forecast can learn from.
    """
    from analysis.forecast.answer import Question, forecast
    from analysis.forecast.beside import fit_beside
    from analysis.forecast.frontier_law import frontier_law, methods_disagree
    from analysis.repetition.answer import MOST_DRAWS, fit_repeated
    from analysis.table.selection import one_law

    table = one_law(runs.table, best_of=(), pool=False, named=True)
    name = Path(runs.source.name).stem
    learnt = forecast(table, Question(anyway=True))
    law = frontier_law(table, goal, priced.demand, name, learnt, serving=priced.serving)
    warnings = methods_disagree(learnt, fit_beside(table), law, goal)
    repeated = None
    if priced.unique_tokens is not None:
        repeated = fit_repeated(table, bootstrap=MOST_DRAWS, seed=0, level=0.9, source=name)
    if repeated is not None and repeated.law is None:
        # The doubts about a law of repeats are in the law itself.
        warnings = (*warnings, *repeated.warnings)
    law = law.model_copy(update={"repeated": None if repeated is None else repeated.law})
    return law.with_warnings(*warnings)


def read_law(name: str) -> LossLaw:
    """A law of one of our sweeps or a published one, by name, or a law from a file.

    A file holds what `LossLaw.save` wrote, or what `isoflop fit --json` wrote for one group.

    Raises:
        ValueError: there is no such law or file, or it holds none.
    """
    path = Path(name)
    if not path.is_file():
        path = _law_of_sweep(name)
        if not path.is_file():
            if Path(name).suffix:
                raise ValueError(f"there is no file {name}.")
            try:
                return law(name)
            except UnknownName as error:
                other = other_kind(name, home_of(open_settings()))
                raise ValueError(f"{error} {other}".strip()) from error
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{name} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{name} holds no law: expected an object with a law's constants.")
    groups = content.get("groups")
    if groups is not None and len(groups) != 1:
        raise ValueError(
            f"{name} holds {len(groups)} laws; a frontier needs one: fit one group at a time."
        )
    try:
        return LossLaw.model_validate(content if groups is None else _fitted(groups[0], path.stem))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise ValueError(f"{name} is not a law: {where}: {first['msg']}") from error


def _law_of_sweep(name: str) -> Path:
    return home_of(open_settings()).sweeps / name / "law.json"


def _holds_runs(name: str) -> bool:
    """Whether --law names a sweep with observations or a table, not constants."""
    path = Path(name)
    if path.is_file():
        return path.suffix != ".json" and not _is_object(path)
    if is_service(name) or _law_of_sweep(name).with_name("observations.parquet").is_file():
        return True
    return path.is_dir() and name not in law_names()


def _is_object(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        return False


def _fitted(group: dict[str, Any], name: str) -> dict[str, Any]:
    """The whole law of a fit's group; around bare constants, what the group says of them."""
    if isinstance(group.get("loss_law"), dict):
        return dict(group["loss_law"])
    unknown = {
        "name": name,
        "form": group.get("form", "chinchilla"),
        "n_counts": group.get("n_counts", "unknown"),
        "c_counts": group.get("c_counts", "flops_6nd"),
        "loss_unit": group.get("loss_unit", "unknown"),
        "source": "isoflop fit",
    }
    return unknown | dict(group.get("law") or {})
