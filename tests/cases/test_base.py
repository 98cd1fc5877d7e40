"""A table in which nothing is odd is fitted as it always was."""

import json

import pytest

from tests.cases.conftest import Run
from tests.others_tables import BASE, TRUE_N_AT_1E20, write_table


def test_the_plain_table_gives_its_law(run: Run, tmp_path) -> None:
    table = write_table(tmp_path / "base.csv", ("N", "D", "loss"), BASE)
    done = run("fit", table, "--bootstrap", 0, "--target-flops", 1e20, "--json", "-")
    assert done.status == 0
    [group] = json.loads(done.stdout)["groups"]
    assert group["exponents"]["N"] == pytest.approx(0.4725, abs=5e-4)
    # The rows' noise of 0.2 % moves N* by a tenth.
    assert group["optimal"][-1]["n_opt"] == pytest.approx(TRUE_N_AT_1E20, rel=0.1)
