"""A spec is read from a preset or a file; what cannot be one is refused in words."""

import pytest

from sweeps.load import SpecError, load_spec, presets


@pytest.mark.parametrize("override", ["grid.budgets=[1e12", "grid.budgets=[.inf]"])
def test_an_override_that_is_not_a_number_is_refused_in_words(override):
    with pytest.raises(SpecError, match="budgets"):
        load_spec("demo", [override])


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("grid.tokens_per_param=[3, .inf]", "grid.tokens_per_param.1: inf should be a finite"),
        ("ladder={depths: [4], aspect: .inf}", "ladder.aspect: inf should be a finite number"),
        ("weight_decay=.inf", "weight_decay: inf should be a finite number"),
        ("weight_decay={kind: timescale, exponent: .nan}", "decay.exponent: nan should be a fin"),
        ("recipe={kind: fixed, lr: .inf, batch_tokens: 1024}", "recipe.lr: inf should be a fin"),
        ("ladder={depths: [4], aspect: 1e300}", "ladder.aspect: 1e.300 should be less than or eq"),
        ("ladder={sizes: [1e60]}", "ladder.sizes.0: 1e.60 should be less than or equal to 1000"),
        ("max_trunk_cost=1", "max_trunk_cost: 1 should be less than 1"),
        ("grid.tokens_per_param=[150, 3]", r"150 is above 3. Write \[3, 150\]"),
    ],
)
def test_a_number_that_no_sweep_can_have_is_refused_at_its_setting(override, fault):
    with pytest.raises(SpecError, match=fault):
        load_spec("demo", [override])


def test_a_yaml_alias_inside_what_it_names_is_refused():
    with pytest.raises(SpecError, match="demo: a YAML alias stands inside what it names"):
        load_spec("demo", ["recipe.kind=&a [*a]"])


def test_all_presets_load_and_state_their_own_name():
    assert {"chinchilla", "demo", "gpu-day", "gpu-week", "llama-mixture", "smoke"} <= {*presets()}
    for name in presets():
        assert load_spec(name).name == name


def test_an_unknown_key_is_refused_with_the_nearest_known_one():
    with pytest.raises(SpecError, match=r"ladder\.width \(did you mean widths\?\)"):
        load_spec("demo", ["ladder.width=[16]"])


def test_an_unknown_spec_names_the_presets():
    with pytest.raises(SpecError, match="chinchilla, demo, gpu-day, gpu-week, "):
        load_spec("dmeo")


def test_an_override_without_a_value_is_refused():
    with pytest.raises(SpecError, match=r"a\.b=c"):
        load_spec("demo", ["seq_len"])


def test_exponents_without_a_dot_are_numbers():
    spec = load_spec("demo", ["grid.budgets=[2e11, 4e11]"])
    assert spec.grid.budgets == (2e11, 4e11)


def test_a_spec_that_is_not_a_mapping_or_lacks_a_field_is_refused(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("- 1\n")
    with pytest.raises(SpecError, match=r"holds \[1\]; it should hold settings"):
        load_spec(str(path))
    path.write_text("name: x\n")
    with pytest.raises(SpecError, match="is missing"):
        load_spec(str(path))


def test_a_fault_of_yaml_is_named_with_its_line(tmp_path):
    spec = tmp_path / "mine.yaml"
    spec.write_text("name: [x\n")
    with pytest.raises(SpecError, match=r"mine.yaml is not YAML: line 2, column 1: expected"):
        load_spec(str(spec))


def test_a_folder_is_no_spec_and_is_called_a_folder(tmp_path):
    with pytest.raises(SpecError, match=r"is a folder\. Give a path to a YAML file"):
        load_spec(str(tmp_path))
