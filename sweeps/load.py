"""Read a SweepSpec from a preset's name or a YAML text, with overrides."""

import difflib
from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from sweeps.spec import SweepSpec
from sweeps.tune_spec import TuneSpec

_Spec = TypeVar("_Spec", SweepSpec, TuneSpec)


class SpecError(ValueError):
    """A sweep spec cannot be used; the message says what to change."""


def presets(kind: str = "") -> list[str]:
    """Names of the shipped presets: of sweeps, or of studies if the kind is `tune`."""
    entries = _folder(kind).iterdir()
    return sorted(entry.name[:-5] for entry in entries if entry.name.endswith(".yaml"))


def load_spec(spec: str, overrides: Iterable[str] = ()) -> SweepSpec:
    """Read a preset by name, or a YAML file by path; apply overrides like `grid.budgets=[1e12]`.

    Raises:
        SpecError: there is no such preset or file, it is not YAML, a key is unknown, or a value
            is out of range. The message names every fault, an unknown key with the nearest known.
    """
    return _load(SweepSpec, "", spec, overrides)


def load_tune_spec(spec: str, overrides: Iterable[str] = ()) -> TuneSpec:
    """Read a TuneSpec as `load_spec` reads a SweepSpec; presets are those of studies.

    Raises:
        SpecError: as in `load_spec`.
    """
    return _load(TuneSpec, "tune", spec, overrides)


def _load(model: type[_Spec], kind: str, spec: str, overrides: Iterable[str]) -> _Spec:
    if spec in presets(kind):
        text = _folder(kind).joinpath(f"{spec}.yaml").read_text()
    elif Path(spec).is_file():
        text = Path(spec).read_text()
    else:
        raise SpecError(
            f"there is no preset or file {spec!r}. Give a path to a YAML file, or one of the "
            f"presets: {', '.join(presets(kind))}."
        )
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"{spec} is not YAML: {_one_line(error)}") from error
    if not isinstance(data, dict):
        raise SpecError(f"{spec} holds {type(data).__name__}, not a mapping of settings.")
    base = _parse(model, data, spec)
    # Overrides change the whole spec, defaults included: `recipe.coef=…` needs the default recipe.
    data = base.model_dump(mode="json")
    for override in overrides:
        _override(data, override)
    return _parse(model, data, spec)


def _folder(kind: str) -> Traversable:
    return files("sweeps").joinpath("presets", *kind.split())


def _parse(model: type[_Spec], data: Any, origin: str) -> _Spec:
    try:
        return model.model_validate(_numbers(data))
    except ValidationError as error:
        faults = "; ".join(_fault(model, fault) for fault in error.errors())
        raise SpecError(f"{origin}: {faults}") from error


def _override(data: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    if not equals or not path:
        raise SpecError(f"--set {override!r} is not of the form a.b=c.")
    *parents, last = path.split(".")
    group = data
    for key in parents:
        child = group.setdefault(key, {})
        if not isinstance(child, dict):
            raise SpecError(f"--set {override!r}: {key} is {child!r}, not a group of settings.")
        group = child
    try:
        group[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SpecError(f"--set {override!r}: {value} is not YAML: {_one_line(error)}") from error


def _numbers(data: Any) -> Any:
    """Turn strings like 2e11 into numbers: YAML 1.1 needs a dot in them, people leave it out."""
    if isinstance(data, dict):
        return {key: _numbers(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_numbers(value) for value in data]
    if isinstance(data, str) and "e" in data.lower():
        try:
            return float(data)
        except ValueError:
            return data
    return data


def _fault(model: type[BaseModel], fault: Any) -> str:
    # The location has union tags ("isoflop") between field names, which help the reader.
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        key = str(fault["loc"][-1])
        near = difflib.get_close_matches(key, sorted(_keys(model)), n=1)
        return f"unknown key {where}" + (f" (did you mean {near[0]}?)" if near else "")
    message = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _keys(annotation: Any) -> set[str]:
    """Every setting of a model, and of the models in its fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        return set(fields).union(*(_keys(field.annotation) for field in fields.values()))
    return set[str]().union(*map(_keys, getattr(annotation, "__args__", ())))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
