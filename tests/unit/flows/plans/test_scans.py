"""The scans of variants are trained first; their results set the rates of the sweep."""

import math
from pathlib import Path

import pytest

from flows.files import write_whole
from flows.plans.scans import ScanError, plans_with_scans, scans_of, with_scans
from flows.plans.stored import read_plan, read_plans, write_plan
from flows.runs.directory import Observation, RunDir, RunResult
from flows.runs.state import missing
from flows.runs.table import observations_frame
from flows.settings import Home
from sweeps.plan import Plan, members, plan
from sweeps.spec import DataRef, PlannedRun, SweepSpec

# Times the recipe's rate: gpt3's is beyond the scan's first factors.
BEST = {"base": 0.8, "gpt3": 6.0}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.runs.mkdir(parents=True)
    return home


@pytest.fixture
def planned() -> Plan:
    grid = {"kind": "isoflop", "budgets": [2e11, 4e11], "tokens_per_param": [0.1, 400]}
    spec = {"name": "mine", "ladder": {"widths": [24, 48]}, "grid": grid}
    return plan(SweepSpec(**spec, variants={"gpt3": {"block": "gpt3"}}), DataRef(digest="x"))


def train(run: PlannedRun, home: Home, status: str = "finished") -> None:
    """End a run with the loss of a valley around the variant's best rate."""
    loss = 3.0
    if run.rate_factor is not None:
        loss += 0.02 * math.log(run.rate_factor / BEST[run.variant]) ** 2
    directory = RunDir(home.runs / run.id)
    directory.create(run)
    seen = tuple(
        Observation(tokens=cell.tokens, val_loss=loss, val_bpb=None, weights_sha256="0" * 64)
        for cell in run.cells
        if status == "finished"
    )
    result = RunResult(
        run_id=run.id, status=status, observations=seen, train_s=1, device="cpu", finished_at=1
    )
    write_whole(directory.result_path, result.model_dump_json())


def test_scans_are_trained_and_extended_before_the_rest_and_found_again(planned, home):
    trained = []
    for part in plans_with_scans(planned, home):
        trained.append([run.name for run in missing(part.runs, home)])
        for run in missing(part.runs, home):
            train(run, home)
    first, second, third, last = trained
    assert len(first) == 10
    assert (second, third) == (["gpt3-d24-lr-x8"], ["gpt3-d24-lr-x16"])
    assert sorted(last) == ["base-d24", "base-d48", "gpt3-d24", "gpt3-d48"]
    again = with_scans(planned, home)
    assert missing(again.runs, home) == []
    assert again == part
    assert [len(missing(each.runs, home)) for each in plans_with_scans(planned, home)] == [0]


def test_every_run_of_a_variant_has_the_rate_of_its_scan(planned, home):
    for part in plans_with_scans(planned, home):
        for run in missing(part.runs, home):
            train(run, home)
    before, after = members(planned), members(part)
    for name, best in BEST.items():
        rule = {run.name: run.run.train.optimizer.lr for run in before[name].runs}
        rates = {run.name: run.run.train.optimizer.lr for run in after[name].runs}
        assert {key: rates[key] / rule[key] for key in rule} == pytest.approx(
            dict.fromkeys(rule, best), rel=0.005
        )
        assert after[name].runs[0].lr_source.startswith(f"{after[name].spec.lr_factor:g} times")
    found = {name: scan.factor for name, (_, scan) in scans_of(part, home).items()}
    assert found == {name: member.spec.lr_factor for name, member in after.items()}


def test_runs_of_a_scan_are_in_the_table_and_in_no_law(planned, home):
    for part in plans_with_scans(planned, home):
        for run in missing(part.runs, home):
            train(run, home)
    table = observations_frame(part.runs, home)
    scanned = table.filter(table["excluded_reason"] == "trained to choose the learning rate")
    assert scanned.height == 12
    used = table.filter(table["excluded_reason"].is_null())
    assert used["variant"].value_counts().height == 2
    assert used.height == part.observations == 8


def test_a_scan_without_an_end_stops_the_sweep(planned, home):
    parts = plans_with_scans(planned, home)
    for run in next(parts).runs[:-1]:
        train(run, home)
    assert list(parts) == []


def test_a_variant_that_always_diverges_is_named(planned, home):
    parts = plans_with_scans(planned, home)
    for run in next(parts).runs:
        train(run, home, "diverged" if run.variant == "gpt3" else "finished")
    with pytest.raises(ScanError, match=r"variants\.gpt3: every run of its scan diverged"):
        next(parts)


def test_each_variant_has_a_stored_plan_once_its_rate_is_known(planned, home):
    for part in plans_with_scans(planned, home):
        write_plan(part, home)
        if part.spec.scan is not None:
            assert read_plan(home, "mine/gpt3") is None
        for run in missing(part.runs, home):
            train(run, home)
    assert read_plan(home, "mine/gpt3") == members(part)["gpt3"]
    assert [each.spec.name for each in read_plans(home)] == ["mine"]


def test_equal_variants_train_their_runs_once(home, planned):
    spec = planned.spec.model_copy(update={"variants": {"same": {}}, "scan": None})
    twins = plan(spec, planned.data)
    assert len(twins.runs) == 4
    assert len(missing(twins.runs, home)) == 2
