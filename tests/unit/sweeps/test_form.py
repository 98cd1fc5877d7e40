"""The form of Prefect's page: presets as a choice, help from the spec, bad values refused."""

import jsonschema
import pytest
from pydantic import TypeAdapter

from sweeps.form import StudyName, SweepName, SweepSettings
from sweeps.load import presets


@pytest.mark.parametrize(("name", "kind"), [(SweepName, ""), (StudyName, "tune")])
def test_a_spec_is_a_preset_or_a_file_and_nothing_else(name, kind):
    schema = TypeAdapter(name).json_schema()
    assert schema["anyOf"][0]["enum"] == presets(kind)
    for given in (*presets(kind), "mine.yaml", "folder/mine"):
        jsonschema.validate(given, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate("nosuch", schema)


def test_overrides_have_the_specs_settings_as_help_and_an_equals_sign():
    schema = TypeAdapter(SweepSettings).json_schema()
    assert "`max_trunk_cost` (share of the loss" in schema["description"]
    jsonschema.validate(["grid.budgets=[1e12]"], schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(["seeds"], schema)
