"""A sweep that continues another is one table with it."""

from pathlib import Path

import pytest

from flows.plans.joined import joined
from flows.settings import Home
from sweeps.load import load_spec
from sweeps.plan import Plan, plan
from sweeps.spec import DataRef


def planned(name: str, grid: str, home: Home, data: str = "x") -> Plan:
    spec = load_spec("smoke", [f"name={name}", "ladder.widths=[16]", f"grid={grid}"])
    made = plan(spec, DataRef(digest=data))
    folder = home.sweeps / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(made.model_dump_json())
    return made


def cells(tokens: int, continues: str) -> str:
    return f"{{kind: cells, tokens: {{16: [{tokens}]}}, continues: {continues}}}"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_the_runs_of_all_sweeps_of_a_chain_are_one_table_the_first_first(home: Home) -> None:
    first = planned("base", "{kind: tokens, tokens: [102400]}", home)
    second = planned("base-next", cells(204800, "base"), home)
    third = planned("base-next-next", cells(409600, "base-next"), home)
    both = joined(third, home)
    assert [run.id for run in both.plan.runs] == [
        run.id for each in (first, second, third) for run in each.runs
    ]
    # One group of a fit, and every run still says whence it is.
    assert {run.sweep for run in both.plan.runs} == {"base-next-next"}
    assert [run.name for run in both.plan.runs] == ["base/d16", "base-next/d16", "d16"]
    assert both.plan.spec == third.spec
    assert both.sentences == ("The losses of base and base-next and base-next-next are one table.",)
    assert joined(first, home).plan == first
    assert joined(first, home).sentences == ()


@pytest.mark.parametrize(
    ("data", "words"), [("y", "base was trained on other text"), (None, "base is not in this home")]
)
def test_a_sweep_that_cannot_be_joined_is_named(home: Home, data: str | None, words: str) -> None:
    if data is not None:
        planned("base", "{kind: tokens, tokens: [102400]}", home, data)
    second = planned("base-next", cells(204800, "base"), home)
    both = joined(second, home)
    assert both.plan == second
    assert both.sentences == (f"The losses of what it continues are missing: sweep {words}.",)


def test_a_sweep_that_continues_itself_is_read_once(home: Home) -> None:
    own = planned("own", cells(204800, "own"), home)
    assert joined(own, home).plan == own
