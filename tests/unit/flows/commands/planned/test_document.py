"""The JSON of a plan."""

import json

from flows.commands.planned.document import plan_json
from flows.settings import Home
from tests.unit.flows.commands.planned.plans import CORPUS, LARGE, SMALL, cost_of, plan_of


def test_the_json_of_a_plan_has_what_the_table_shows(tmp_path):
    home = Home(tmp_path)
    plan = plan_of(SMALL, LARGE)
    document = json.loads(json.dumps(plan_json(plan, CORPUS, cost_of(plan), home)))
    assert document["flops_left"] == 10.0
    assert (document["usd"], document["usd_per_hour"], document["device_s"]) == (2.5, 2.5, 3600.0)
    assert document["warnings"] == ["thin valleys", "too little memory"]
    first = document["runs"][0]
    assert first["tokens_per_param"] == [20_480 / SMALL.n_params, 40_960 / SMALL.n_params]
    assert (first["usd_left"], first["time_left_s"], first["memory_gib"]) == (1.25, 1800.0, 1.2345)
    assert [cell["tokens"] for cell in first["cells"]] == [20_480, 40_960]
