"""Read a SweepSpec from a preset's name or a YAML text, with overrides."""

import difflib
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from sweeps.spec import SweepSpec


class SpecError(ValueError):
    """A sweep spec that cannot be used; the message says what to change."""


def presets() -> list[str]:
    """Names of the presets that are shipped."""
    found = files("sweeps").joinpath("presets").iterdir()
    return sorted(entry.name[:-5] for entry in found if entry.name.endswith(".yaml"))


def load_spec(spec: str, overrides: Iterable[str] = ()) -> SweepSpec:
    """A preset by name, or a YAML file by path; then overrides such as `grid.budgets=[1e12]`.

    Raises:
        SpecError: no such preset or file, not YAML, an unknown key, a value out of range.
    """
    if spec in presets():
        text = files("sweeps").joinpath("presets", f"{spec}.yaml").read_text()
    elif Path(spec).is_file():
        text = Path(spec).read_text()
    else:
        raise SpecError(f"no preset and no file {spec!r}. Presets: {', '.join(presets())}.")
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"{spec} is not YAML: {_one_line(error)}") from error
    if not isinstance(data, dict):
        raise SpecError(f"{spec} holds {type(data).__name__}, not a mapping of settings.")
    base = parse_spec(data, origin=spec)
    # Overrides fall on the whole spec, defaults included, so that `recipe.coef=…` finds its recipe.
    data = base.model_dump(mode="json")
    for override in overrides:
        _override(data, override)
    return parse_spec(data, origin=spec)


def parse_spec(data: Any, *, origin: str) -> SweepSpec:
    """A SweepSpec from plain data.

    Raises:
        SpecError: as in `load_spec`; one line for each fault, unknown keys with the nearest known.
    """
    try:
        return SweepSpec.model_validate(_numbers(data))
    except ValidationError as error:
        faults = "; ".join(_fault(fault) for fault in error.errors())
        raise SpecError(f"{origin}: {faults}") from error


def _override(data: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    if not equals or not path:
        raise SpecError(f"--set {override!r} is not of the form a.b=c.")
    *parents, last = path.split(".")
    here = data
    for key in parents:
        below = here.setdefault(key, {})
        if not isinstance(below, dict):
            raise SpecError(f"--set {override!r}: {key} is {below!r}, not a group of settings.")
        here = below
    try:
        here[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SpecError(f"--set {override!r}: {value} is not YAML: {_one_line(error)}") from error


def _numbers(data: Any) -> Any:
    """YAML 1.1 reads 2e11 as a string for want of a dot; people write it, so we read it."""
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


def _fault(fault: Any) -> str:
    # Union tags ("isoflop") stand in the location between field names; they help to read it.
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        key = str(fault["loc"][-1])
        near = difflib.get_close_matches(key, sorted(_known_keys(SweepSpec)), n=1)
        return f"unknown key {where}" + (f" (did you mean {near[0]}?)" if near else "")
    message = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _known_keys(model: type[BaseModel]) -> set[str]:
    known: set[str] = set()
    pending = [model]
    while pending:
        for name, field in pending.pop().model_fields.items():
            known.add(name)
            pending.extend(_models_in(field.annotation))
    return known


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
