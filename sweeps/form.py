"""Types of the parameters that Prefect shows as a form and checks before a run is made."""

from typing import Annotated

from pydantic import WithJsonSchema

from sweeps.load import presets
from sweeps.spec import SweepSpec
from sweeps.tune_spec import TuneSpec

_FILE = r"(/|\.ya?ml$)"


_NAME = "a preset, or the path of a YAML file on the worker's machine"
_SETTING = r"^[A-Za-z_][\w.]*="


def _choice(kind: str) -> WithJsonSchema:
    """A preset from a list, or the path of a file."""
    preset = {"title": "preset", "type": "string", "enum": presets(kind)}
    file = {"title": "YAML file", "type": "string", "pattern": _FILE}
    return WithJsonSchema({"anyOf": [preset, file], "description": _NAME})


def _settings(spec: type[SweepSpec] | type[TuneSpec], example: str) -> WithJsonSchema:
    """Overrides, with the spec's settings as their help."""
    described = [
        f"`{name}` ({field.description})" if field.description else f"`{name}`"
        for name, field in spec.model_fields.items()
    ]
    return WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "string", "pattern": _SETTING},
            "description": f"one setting a line, such as `{example}`. Settings: "
            f"{', '.join(described)}",
        }
    )


# Prefect takes the help of a plain type from the flow's docstring, of these from their schema.
SweepName = Annotated[str, _choice("")]
StudyName = Annotated[str, _choice("tune")]
SweepSettings = Annotated[tuple[str, ...], _settings(SweepSpec, "grid.budgets=[1e12, 2e12]")]
StudySettings = Annotated[tuple[str, ...], _settings(TuneSpec, "trials=24")]
