"""The reference of the spec files, from the JSON schemas of the models that read them."""

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from sweeps.spec import SweepSpec
from sweeps.tune_spec import TuneSpec

Schema = dict[str, Any]

_DOCS = re.compile(r"docs/([\w/-]+\.md)")

# The unit of a number, by its name or the last word of its name.
_UNITS = {
    "tokens": "tokens",
    "seq_len": "tokens",
    "D": "tokens",
    "N": "parameters",
    "sizes": "parameters",
    "tokens_per_param": "tokens a parameter",
    "depths": "layers",
    "n_layers": "layers",
    "budgets": "FLOPs",
    "flops": "FLOPs",
    "peak": "FLOP/s",
    "hours": "device-hours",
    "usd": "dollars",
    "usd_per_hour": "dollars an hour",
    "memory_gb": "GB",
    "every_s": "seconds",
}


def sweep_page() -> str:
    """The page of `isoflop sweep SPEC`."""
    return _page(
        "Settings of a sweep",
        "Every setting of the YAML file that `isoflop sweep`, `plan` and `prepare` read. "
        "[A sweep of your own](../how_to/own_sweep.md) has whole examples. On the command line a "
        "setting is its place in the file: `--set grid.min_tokens=200000`.",
        SweepSpec,
    )


def study_page() -> str:
    """The page of `isoflop tune SPEC`."""
    return _page(
        "Settings of a study",
        "Every setting of the YAML file that `isoflop tune` reads; see "
        "[tuning](../tuning/index.md).",
        TuneSpec,
    )


def undescribed(top: type[BaseModel]) -> list[str]:
    """Settings without a help text, `kind` apart, whose group's text says what it is."""
    return [
        f"{group.title}.{name}"
        for group in groups(top)
        for name, setting in group.settings.items()
        if "description" not in setting and name != "kind"
    ]


class Group:
    """A mapping of the file: its place, and its settings."""

    def __init__(self, place: str, schema: Schema) -> None:
        self.place = place
        self.schema = schema
        self.settings: dict[str, Schema] = schema["properties"]

    @property
    def title(self) -> str:
        """Its place in the file, and what tells it from others in that place."""
        kind = self.settings.get("kind", {})
        kinds = kind.get("enum", [kind["const"]] if "const" in kind else [])
        if kinds and not ("default" in kind and len(kinds) > 1):
            return f"`{self.place}` of kind {', '.join(f'`{kind}`' for kind in kinds)}"
        if self.place == "ladder":
            return f"`ladder` of `{self.schema['required'][0]}`"
        return f"`{self.place}`" if self.place else "The file"

    @property
    def anchor(self) -> str:
        """Its id on the page."""
        return re.sub(r"\W+", "-", self.title).strip("-")


def groups(top: type[BaseModel]) -> list[Group]:
    """The mappings that a spec holds, the file itself first, each before those inside it."""
    whole = top.model_json_schema()
    listed: dict[str, Group] = {}

    def add(name: str, group: Group) -> None:
        listed[name] = group
        for setting_name, setting in group.settings.items():
            place = f"{group.place}.{setting_name}".lstrip(".")
            for definition in _references(setting):
                if definition not in listed:
                    add(definition, Group(place, whole["$defs"][definition]))

    add("", Group("", whole))
    return list(listed.values())


def _references(setting: Any) -> Iterator[str]:
    match setting:
        case {"$ref": str(path)}:
            yield path.rsplit("/", 1)[-1]
        case dict():
            # `discriminator` names the same definitions once more.
            for key, part in setting.items():
                if key != "discriminator":
                    yield from _references(part)
        case list():
            for part in setting:
                yield from _references(part)


def _page(title: str, lead: str, top: type[BaseModel]) -> str:
    listed = groups(top)
    links = {group.schema["title"]: f"[{group.title}](#{group.anchor})" for group in listed}
    parts = [f"# {title}", "", lead, ""]
    for group in listed:
        parts += [f"## {group.title} {{#{group.anchor}}}", ""]
        if group.place:
            parts += [_DOCS.sub(r"[\1](../\1)", group.schema.get("description", "")), ""]
        parts += ['<div class="settings" markdown>', ""]
        parts += ["| setting | values | default | what it is |", "|---|---|---|---|"]
        required = group.schema.get("required", [])
        parts += [
            _row(name, setting, links, name in required) for name, setting in group.settings.items()
        ]
        parts += ["", "</div>", ""]
    return "\n".join(parts)


def _row(name: str, setting: Schema, links: dict[str, str], required: bool) -> str:
    default = "**required**" if required else _default(setting.get("default"))
    text = setting.get("description", "tells this group from others in its place")
    text = re.sub(r"\bNone\b", "null", text)
    values = ", in ".join(filter(None, (_values(setting, links), _unit(name))))
    cells = (f"`{name}`", values, default, text)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _unit(name: str) -> str:
    if "exponent" in name:
        return ""
    return next((unit for end, unit in _UNITS.items() if re.search(rf"(^|_){end}$", name)), "")


def _values(setting: Schema, links: dict[str, str]) -> str:
    """What may be written, in words."""
    match setting:
        case {"$ref": str(path)}:
            return links[path.rsplit("/", 1)[-1]]
        case {"anyOf": list(choices)} | {"oneOf": list(choices)}:
            return " or ".join(_values(choice, links) for choice in choices)
        case {"const": value}:
            return f"`{_yaml(value)}`"
        case {"enum": list(values)}:
            return " or ".join(f"`{_yaml(value)}`" for value in values)
        case {"prefixItems": list(items)}:
            return "[" + ", ".join(_values(item, links) for item in items) + "]"
        case {"type": "array", "items": item}:
            return f"list of: {_values(item, links)}"
        case {"type": "object", "additionalProperties": dict(item)}:
            return f"mapping to: {_values(item, links)}"
        case {"type": "object"}:
            return "settings"
        case {"type": "integer" | "number" as kind}:
            return ("whole number" if kind == "integer" else "number") + _bounds(setting)
        case {"type": kind}:
            return {"boolean": "`true` or `false`", "string": "text", "null": "`null`"}[kind]
    return "settings"


def _bounds(setting: Schema) -> str:
    words = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below"}
    words["maximum"] = "to"
    parts = [f"{word} {_yaml(setting[key])}" for key, word in words.items() if key in setting]
    return " " + " ".join(parts) if parts else ""


def _default(value: object) -> str:
    match value:
        case {"kind": kind}:
            return f"`kind: {kind}`"
        case [{"kind": kind}]:
            return f"`[{{kind: {kind}}}]`"
        case dict():
            return "its defaults" if value else "none"
    return f"`{_yaml(value)}`"


def _yaml(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list():
            return "[" + ", ".join(_yaml(each) for each in value) + "]"
        case int():
            return f"{value:_}" if value >= 10_000 else str(value)
        case "":
            return '""'
    return str(value)
