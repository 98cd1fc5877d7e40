"""Cells after a sweep are of its own recipe, and a spec of them plans to exactly those."""

import pytest

from sweeps.load import SpecError, load_spec
from sweeps.next_cells import ladder_and_neighbours, next_cells, next_spec
from sweeps.plan import Plan, plan
from sweeps.spec import DataRef, SweepSpec


@pytest.fixture(scope="module")
def demo() -> Plan:
    return plan(load_spec("demo", ["seeds=[3, 4]"]), DataRef(digest="x"))


def test_a_spec_of_next_cells_plans_to_these_cells_and_costs_no_more(demo: Plan) -> None:
    cells = next_cells(demo, (24, 40), (8, 30), (0, 1e13))
    assert len(cells) == 4
    again = plan(next_spec(demo, cells), DataRef(digest="x"))
    planned = {(run.n_params, c.tokens, c.train_flops) for run in again.runs for c in run.cells}
    assert planned == {(cell.n_params, cell.tokens, cell.train_flops) for cell in cells}
    assert again.flops_spent <= sum(cell.train_flops for cell in cells)
    assert {run.run.train.seed for run in again.runs} == {3}
    assert again.runs[0].sweep == "demo-next"


def test_cells_are_left_out_that_the_sweep_has_or_that_cost_too_much_or_see_too_little(
    demo: Plan,
) -> None:
    had = demo.runs[0]
    ratio = had.cells[0].tokens / had.n_params
    width = had.run.model.d_model
    assert next_cells(demo, (width,), (ratio,), (0, 1e15)) == []
    assert len(next_cells(demo, (width,), (ratio * 1.1,), (0, 1e15))) == 1
    assert next_cells(demo, (width,), (ratio * 1.1,), (0, 1e9)) == []
    # The demo trains on 200,000 tokens or more.
    assert next_cells(demo, (16,), (1,), (0, 1e15)) == []


def test_neighbours_lie_between_the_widths_and_one_step_beyond() -> None:
    spec = load_spec("smoke")
    assert ladder_and_neighbours(spec.ladder.widths) == [8, 16, 24, 32, 40, 48, 56, 64, 80]
    one = spec.model_copy(update={"ladder": spec.ladder.model_copy(update={"widths": (8,)})})
    assert ladder_and_neighbours(one.ladder.widths) == [8, 16]


def test_a_grid_of_cells_names_the_widths_of_its_ladder() -> None:
    cells = "grid={kind: cells, tokens: {16: [4096], 32: [1024, 8192]}}"
    spec = load_spec("smoke", [cells, "ladder.widths=[16, 32]"])
    assert SweepSpec.model_validate_json(spec.model_dump_json()) == spec
    runs = plan(spec, DataRef(digest="x")).runs
    assert {run.run.model.d_model: [c.tokens for c in run.cells] for run in runs} == {
        16: [4096],
        32: [1024, 8192],
    }
    with pytest.raises(SpecError, match="name the same in both"):
        load_spec("smoke", [cells])
