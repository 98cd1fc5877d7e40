"""Rows of finished runs, and what is still missing."""

import pytest

from flows.files import write_whole
from flows.health.status import read_status
from flows.runs.curve import CurveWriter
from flows.runs.directory import RunDir, RunResult
from flows.runs.state import missing, not_finished, run_state
from flows.runs.table import curves, observations
from flows.settings import Settings, open_home
from llama_core.counting import count_params
from sweeps.load import load_spec
from sweeps.plan import Plan, plan
from sweeps.spec import DataRef, PlannedRun
from tests.fakes import finished_run, planned_run, step

DONE, FAILED, DIVERGED, NEW = (planned_run(width=width) for width in (16, 32, 48, 64))


def ended(home, planned, status, reason):
    run = RunDir(home / "runs" / planned.id)
    run.create(planned)
    result = RunResult(
        run_id=planned.id, status=status, reason=reason, train_s=1, device="cpu", finished_at=1.0
    )
    write_whole(run.result_path, result.model_dump_json())


@pytest.fixture
def home(tmp_path):
    home = open_home(Settings(home=tmp_path))
    finished_run(tmp_path, DONE)
    ended(tmp_path, FAILED, "failed", "a bug")
    ended(tmp_path, DIVERGED, "diverged", "loss is nan")
    return home


def test_a_run_that_failed_is_still_to_train_and_one_that_diverged_is_not(home):
    assert missing((DONE, FAILED, DIVERGED, NEW), home) == [FAILED, NEW]


def test_every_planned_cell_has_a_row_with_its_loss_or_the_reason_it_has_none(home):
    rows = observations((DONE, FAILED, DIVERGED, NEW), home)
    assert [row["run_id"] for row in rows] == [
        f"{run.id}@{cell.tokens}" for run in (DONE, FAILED, DIVERGED, NEW) for cell in run.cells
    ]
    assert [row["val_loss"] for row in rows] == [3.0, 3.0, *[None] * 6]
    assert [row["excluded_reason"] for row in rows[::2]] == [
        None,
        "failed: a bug",
        "diverged: loss is nan",
        "not trained yet",
    ]
    assert [row["status"] for row in rows[1::2]] == ["finished", "failed", "diverged", "planned"]


def test_flops_of_an_observation_are_those_of_its_horizon_trained_alone(home):
    counts = count_params(DONE.run.model)
    for row, cell in zip(observations([DONE], home), DONE.cells, strict=True):
        assert (row["tokens"], row["train_flops"]) == (cell.tokens, cell.train_flops)
        assert row["n_params"] == counts.n_params
        assert row["flops_6nd"] == 6 * counts.n_params * cell.tokens
        assert row["parent_run_id"] == DONE.id


def test_a_branch_is_a_line_of_its_own_and_the_last_cooldown_ends_the_trunk(home):
    frame = curves([DONE, NEW], home)
    lines = {name: rows for (name,), rows in frame.group_by("name")}
    assert set(lines) == {"d16", "d16/D_20480"}
    assert lines["d16/D_20480"]["step"].to_list() == list(range(15, 21))
    assert lines["d16"]["step"].to_list() == list(range(1, 41))
    assert lines["d16"]["train_loss"].to_list() == [5.0 / number for number in range(1, 41)]
    # At its last step a line has come to the FLOPs of that horizon.
    for line, cell in (("d16/D_20480", DONE.cells[0]), ("d16", DONE.cells[1])):
        assert lines[line]["train_flops"][-1] == pytest.approx(cell.train_flops)
    assert curves([NEW], home).is_empty()


def test_curves_of_small_and_of_large_models_are_one_frame(home, monkeypatch):
    other = planned_run(width=80)
    finished_run(home.root, other)
    sizes = {DONE.id: 3_000_000, other.id: 3_000_000_000}
    monkeypatch.setattr(PlannedRun, "n_params", property(lambda run: sizes[run.id]))
    assert set(curves([DONE, other], home)["n_params"]) == set(sizes.values())


def test_unfinished_runs_are_listed_by_name_and_reason(home):
    planned = Plan(
        spec=load_spec("smoke"),
        data=DataRef(digest="x"),
        runs=(DONE, FAILED, DIVERGED, NEW),
        warnings=(),
    )
    assert not_finished(planned, home) == [
        "d32 failed: a bug",
        "d48 diverged: loss is nan",
        "d64 is not trained",
    ]


def test_a_status_counts_every_run_of_a_sweep_once(home, tmp_path):
    begun = planned_run(width=80)
    run = RunDir(home.runs / begun.id)
    run.create(begun)
    curve = CurveWriter(run.curve_path)
    curve.append(step(1))
    curve.close()
    planned = Plan(
        spec=load_spec("smoke"),
        data=DataRef(digest="x"),
        runs=(DONE, FAILED, DIVERGED, NEW, begun),
        warnings=(),
    )
    (home.sweeps / "smoke").mkdir()
    write_whole(home.sweeps / "smoke" / "plan.json", planned.model_dump_json())
    wanted = {"sweep": "smoke", "finished": 1, "failed": 2, "running": 0, "to_do": 2}
    found = read_status(Settings(home=tmp_path), home)
    assert found["sweeps"] == [wanted]
    assert found["runs"] == []
    with run.locked():
        assert run_state(run) == "training"
        found = read_status(Settings(home=tmp_path), home)
    assert found["sweeps"] == [wanted | {"running": 1, "to_do": 1}]
    assert [(row["name"], row["step"], row["steps"]) for row in found["runs"]] == [("d80", 1, 46)]
    assert run_state(run) == "interrupted"


def test_disk_sizes_are_in_gib(home, tmp_path, monkeypatch):
    sizes = type("Usage", (), {"total": 3 * 2**30, "free": 2**29})
    monkeypatch.setattr("flows.health.status.shutil.disk_usage", lambda path: sizes)
    found = read_status(Settings(home=tmp_path), home)
    assert (found["disk_total_gib"], found["disk_free_gib"]) == (3.0, 0.5)


def test_the_last_of_three_horizons_ends_the_trunk(home):
    planned = planned_run(width=80, steps=(10, 20, 40))
    run = RunDir(home.runs / planned.id)
    run.create(planned)
    curve = CurveWriter(run.curve_path)
    for number in range(1, 9):
        curve.append(step(number))
    for horizon in (10, 20, 40):
        curve.append(step(9, horizon=1024 * horizon))
    curve.close()
    names = {name for (name,), _ in curves([planned], home).group_by("name")}
    assert names == {"d80", "d80/D_10240", "d80/D_20480"}


def test_a_run_that_changed_came_went_or_broke_is_seen_at_once(home):
    def states():
        return [row["status"] for row in observations((DONE, FAILED, NEW), home)][::2]

    assert states() == ["finished", "failed", "planned"]
    finished_run(home.root, NEW)
    RunDir(home.runs / FAILED.id).result_path.unlink()
    assert states() == ["finished", "planned", "finished"]
    RunDir(home.runs / DONE.id).result_path.write_text("{")
    assert states() == ["interrupted", "planned", "finished"]
    ended(home.root, DONE, "diverged", "loss is nan")
    assert states() == ["diverged", "planned", "finished"]


def test_beside_runs_on_a_part_of_the_text_every_row_says_how_many_tokens_are_unique(home):
    spec = load_spec("repetition", ["ladder.widths=[16]", "unique_tokens=[32768]"])
    runs = plan(spec, DataRef(digest="x")).runs
    rows = {(row["name"], row["tokens"]): row["unique_tokens"] for row in observations(runs, home)}
    assert {U for (name, _), U in rows.items() if name == "d16-U32768"} == {32_768}
    assert all(tokens == U for (name, tokens), U in rows.items() if name == "d16")
    assert "unique_tokens" not in observations([DONE], home)[0]
    assert "mixture" not in observations(runs, home)[0]
