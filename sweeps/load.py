"""Read a SweepSpec from a preset's name or a YAML text, with overrides."""

import difflib
import math
from collections.abc import Iterable, Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from sweeps.spec import SweepSpec
from sweeps.tune_spec import TuneSpec
from sweeps.variants import variant_data

_Spec = TypeVar("_Spec", SweepSpec, TuneSpec)


# Characters of a value that a message repeats.
_SHOWN = 40


class SpecError(ValueError):
    """A sweep spec cannot be used; the message says what to change."""


class NoSpecError(SpecError):
    """A name or a file is of no spec."""


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
    if spec_kind(spec) == "study":
        raise SpecError(
            f"{spec} is a study's spec, not a sweep's. Train it with: isoflop tune {spec}"
        )
    parsed = _load(SweepSpec, "", spec, overrides)
    if parsed.is_variant:
        raise SpecError(f"{spec}: name {parsed.name!r} has a slash, as a variant of a sweep has.")
    if parsed.variants:
        try:
            data = variant_data(parsed)
        except ValueError as error:
            raise SpecError(f"{spec}: {error}") from error
        for name, each in data.items():
            _parse(SweepSpec, each, f"{spec}: variants.{name}")
    return parsed


def spec_kind(spec: str) -> Literal["sweep", "study"] | None:
    """What a preset or a YAML file is of; None where neither its name nor its settings show.

    What cannot be read is left to `load_spec`, which says why.
    """
    if spec in presets():
        return "sweep"
    if spec in presets("tune"):
        return "study"
    try:
        data = yaml.safe_load(Path(spec).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, RecursionError):
        return None
    of_sweeps, of_studies = SweepSpec.model_fields.keys(), TuneSpec.model_fields.keys()
    if not isinstance(data, dict):
        return None
    if "grid" not in data and not (of_studies - of_sweeps).isdisjoint(data):
        return "study"
    return None if (of_sweeps - of_studies).isdisjoint(data) else "sweep"


def load_tune_spec(spec: str, overrides: Iterable[str] = ()) -> TuneSpec:
    """Read a TuneSpec as `load_spec` reads a SweepSpec; presets are those of studies.

    Raises:
        SpecError: as in `load_spec`.
    """
    if spec_kind(spec) == "sweep":
        raise SpecError(
            f"{spec} is a sweep's spec, not a study's. Train it with: isoflop sweep {spec}"
        )
    return _load(TuneSpec, "tune", spec, overrides)


def design_overrides(design: str | None, target_flops: float | None) -> tuple[str, ...]:
    """The overrides that the options of a design mean.

    Raises:
        SpecError: a target without a design.
    """
    if design is None:
        if target_flops is not None:
            raise SpecError("--target-flops without --design next changes nothing: give both.")
        return ()
    target = "null" if target_flops is None else repr(target_flops)
    return (f"design={{kind: {design}, target_flops: {target}}}",)


def _load(model: type[_Spec], kind: str, spec: str, overrides: Iterable[str]) -> _Spec:
    if spec in presets(kind):
        text = _folder(kind).joinpath(f"{spec}.yaml").read_text()
    elif Path(spec).is_file():
        try:
            text = Path(spec).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise NoSpecError(f"{spec} is not a YAML file in UTF-8: {error}.") from error
    else:
        near = difflib.get_close_matches(spec, presets(kind), n=1)
        if Path(f"{spec}.yaml").is_file():
            near = [f"{spec}.yaml"]
        question = f" Did you mean {near[0]}?" if near else ""
        fault = f"there is no preset or file {spec!r}."
        if Path(spec).is_dir():
            fault = f"{spec} is a folder."
        raise NoSpecError(
            f"{fault}{question} Give a path to a YAML file, or one of "
            f"the presets: {', '.join(presets(kind))}."
        )
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise NoSpecError(f"{spec} is not YAML: {_one_line(error)}") from error
    if not isinstance(data, dict):
        content = "is empty" if data is None else f"holds {_shown(data)}"
        raise NoSpecError(f"{spec} {content}; it should hold settings, as in `name: mine`.")
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
        data = _numbers(data)
        endless = list(_not_finite(data))
    except RecursionError as error:
        raise SpecError(f"{origin}: a YAML alias stands inside what it names.") from error
    if endless:
        faults = "; ".join(
            f"{where}: {value} should be a finite number" for where, value in endless
        )
        raise SpecError(f"{origin}: {faults}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        listed = error.errors()
        # A list whose values are all refused is also called empty.
        faults = "; ".join(
            _fault(model, fault)
            for fault in listed
            if fault["type"] != "too_short" or not any(_is_within(each, fault) for each in listed)
        )
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
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"--set {override!r}: {value} is not YAML: {_one_line(error)}") from error


# Settings that hold text, though it may read as a number.
_TEXT = ("name", "description", "path", "text_field", "dataset", "subset", "split", "study")


def _numbers(data: Any) -> Any:
    """Turn strings like 2e11 into numbers: YAML 1.1 needs a dot in them, people leave it out."""
    if isinstance(data, dict):
        return {key: value if key in _TEXT else _numbers(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_numbers(value) for value in data]
    if isinstance(data, str) and "e" in data.lower():
        try:
            return float(data)
        except ValueError:
            return data
    return data


def _not_finite(data: Any, where: str = "") -> Iterator[tuple[str, float]]:
    """Every infinity and NaN of a spec, with its setting: none has a meaning there."""
    if isinstance(data, float) and not math.isfinite(data):
        yield where, data
    pairs = data.items() if isinstance(data, dict) else ()
    for key, value in enumerate(data) if isinstance(data, list) else pairs:
        yield from _not_finite(value, f"{where}.{key}".lstrip("."))


# What pydantic says of a fault, in the words of a spec; other messages are its own.
_WORDS = {
    **dict.fromkeys(("tuple_type", "list_type"), "should be a list, as in [16, 32]"),
    **dict.fromkeys(
        ("model_type", "model_attributes_type", "dict_type"), "should be a group of settings"
    ),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "should be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "should be a number"),
    "string_type": "should be text",
    "missing": "is missing",
    "too_short": "should have at least one value",
    "union_tag_not_found": "should name its kind, as in `kind: isoflop`",
}


def _fault(model: type[BaseModel], fault: Any) -> str:
    # The location has union tags ("isoflop") between field names, which help the reader.
    parts = map(str, fault["loc"])
    where = ".".join(part if part.isprintable() else repr(part) for part in parts)
    if fault["type"] == "extra_forbidden":
        return f"unknown key {where}{_did_you_mean(model, where)}"
    message = _WORDS.get(fault["type"], fault["msg"])
    for prefix in ("Value error, ", "Input ", "String "):
        message = message.removeprefix(prefix)
    if fault["type"] == "union_tag_invalid":
        message = f"kind {fault['ctx']['tag']!r} is none of {fault['ctx']['expected_tags']}"
    if message.startswith("should be"):
        message = f"{_shown(fault['input'])} {message}"
    return f"{where}: {message}" if where else message


def _did_you_mean(model: type[BaseModel], where: str) -> str:
    """The setting with the nearest name; with its groups, where those are others."""
    group, _, key = where.rpartition(".")
    paths = sorted(_paths(model))
    near = difflib.get_close_matches(key, {path.rpartition(".")[2] for path in paths}, n=1)
    if not near:
        return ""
    named = [path for path in paths if path.rpartition(".")[2] == near[0]]
    here = f"{group}.{near[0]}".lstrip(".")
    return f" (did you mean {near[0] if here in named and near[0] != key else named[0]}?)"


def _is_within(fault: Any, other: Any) -> bool:
    """Whether a fault is of a value in the list or group of another."""
    return (
        len(fault["loc"])
        > len(other["loc"])
        == len([1 for part, same in zip(fault["loc"], other["loc"], strict=False) if part == same])
    )


def _shown(value: Any) -> str:
    """A value as a message repeats it, cut off where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _paths(annotation: Any, group: str = "") -> set[str]:
    """Every setting of a model, and of the models in its fields, with its groups."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        below = (_paths(field.annotation, f"{group}{name}.") for name, field in fields.items())
        return {f"{group}{name}" for name in fields}.union(*below)
    parts = getattr(annotation, "__args__", ())
    return set[str]().union(*(_paths(part, group) for part in parts))


def _one_line(error: Exception) -> str:
    """What is wrong and where; a fault of YAML without the text that it quotes."""
    mark = getattr(error, "problem_mark", None)
    if isinstance(error, yaml.MarkedYAMLError) and mark is not None:
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())
