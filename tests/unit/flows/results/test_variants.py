"""What is said of a sweep of variants, and which names a comparison of one means."""

import polars as pl
import pytest

from flows.plans.stored import write_plan
from flows.results.variants import expanded, scan_sentences
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


def test_a_rate_at_the_end_of_its_scan_is_doubted():
    rows = [
        ["base", "d32", 1.0, 3.0, 1.1, "the vertex of a parabola through the best three"],
        ["muon", "d32", 16.0, 3.0, 16.0, "at the end of the scan, extended twice"],
    ]
    columns = ["variant", "run", "factor", "loss", "chosen", "how"]
    assert scan_sentences(pl.DataFrame(rows, schema=columns, orient="row")) == [
        "Learning rates scanned, times the recipe's: base x1.1, muon x16.",
        "Doubtful: the rate of muon is at the end of the scan, extended twice.",
    ]
