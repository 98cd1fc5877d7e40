"""The reference of settings: every setting of a spec, with type, default, unit and text."""

import pytest
import yaml

from docs.site.settings import groups, study_page, sweep_page, undescribed
from sweeps.load import load_spec, presets
from sweeps.spec import SweepSpec
from sweeps.tune_spec import TuneSpec


@pytest.mark.parametrize("spec", [SweepSpec, TuneSpec])
def test_every_setting_says_what_it_is(spec):
    assert undescribed(spec) == []


def test_a_row_has_values_unit_default_and_text():
    page = sweep_page()
    assert (
        "| `min_tokens` | whole number from 0, in tokens | `0` | no cell has fewer: in its first "
        "steps a loss falls by another law than later |"
    ) in page
    assert "| `seq_len` | whole number above 0, in tokens | `128` |" in page
    assert "| `name` | text | **required** |" in page
    assert "| `schedule` | `wsd` or `cosine` | `wsd` |" in page


def test_every_link_of_the_page_leads_to_a_group_of_it():
    for spec, page in ((SweepSpec, sweep_page()), (TuneSpec, study_page())):
        anchors = [group.anchor for group in groups(spec)]
        assert len(set(anchors)) == len(anchors)
        assert all(f"{{#{anchor}}}" in page for anchor in anchors)


@pytest.mark.parametrize("preset", presets())
def test_the_page_has_every_setting_that_a_preset_uses(preset):
    page = sweep_page()
    spec = yaml.safe_load(load_spec(preset).model_dump_json(exclude_unset=True))
    assert [name for name in spec if f"| `{name}` |" not in page] == []
