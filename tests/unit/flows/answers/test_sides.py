"""Which names a comparison means."""

import pytest

from flows.answers.sides import expanded
from flows.plans.stored import write_plan
from flows.settings import Home
from sweeps.load import load_spec
from sweeps.plan import plan
from sweeps.spec import DataRef


def test_one_sweep_of_variants_is_compared_by_its_members(tmp_path):
    home = Home(tmp_path)
    override = "variants={gpt3: {block: gpt3}, nope: {block: {positions: none}}}"
    spec = load_spec("smoke", [override])
    write_plan(plan(spec, DataRef(digest="x")), home)
    with pytest.raises(ValueError, match="no variant trained yet"):
        expanded(["smoke"], home)
    scanned = spec.model_copy(update={"scan": None})
    write_plan(plan(scanned, DataRef(digest="x")), home)
    assert expanded(["smoke"], home) == ("smoke/base", "smoke/gpt3", "smoke/nope")
    assert expanded(["smoke", "demo"], home) == ("smoke", "demo")
    assert expanded(["table.csv"], home) == ("table.csv",)
