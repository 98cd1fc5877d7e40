"""Exported tables read back to the same numbers, to the bit."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from flows.files import write_whole
from flows.results.export import export_sweep
from flows.runs.directory import RunResult
from flows.runs.table import curves, observations_frame
from flows.settings import Home
from sweeps.load import load_spec
from sweeps.plan import Plan
from sweeps.spec import DataRef
from tests.fakes import finished_run, planned_run

READ = {"parquet": pl.read_parquet, "csv": pl.read_csv, "json": pl.read_json}


@pytest.fixture
def sweep(tmp_path):
    done, waiting = planned_run(width=48), planned_run(width=32)
    run = finished_run(tmp_path, done)
    result = run.result()
    # Digits that a rounded number would lose.
    exact = [
        observation.model_copy(update={"val_loss": 10 / 3 + number / 7})
        for number, observation in enumerate(result.observations)
    ]
    odd = result.model_copy(update={"observations": tuple(exact)})
    write_whole(run.result_path, RunResult.model_validate(odd.model_dump()).model_dump_json())
    runs = (done, waiting)
    return Plan(spec=load_spec("smoke"), data=DataRef(digest="x"), runs=runs, warnings=())


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_every_format_reads_back_unchanged(sweep, tmp_path, kind):
    home, folder = Home(tmp_path), tmp_path / "deep" / "out"
    written = export_sweep(sweep, home, folder, kind)
    assert [path.name for path in written] == [f"observations.{kind}", f"curves.{kind}"]
    originals = (
        observations_frame(sweep.runs, home),
        curves(sweep.runs, home),
    )
    for path, frame in zip(written, originals, strict=True):
        back = READ[kind](path)
        if kind != "parquet":
            # Text has no types: a column of nothing, or of whole numbers, is read as it looks.
            back = back.cast(dict(frame.schema))
        assert_frame_equal(back, frame, check_exact=True)
    assert not list(folder.glob(".*"))


def test_rows_without_a_loss_are_exported_with_their_reason(sweep, tmp_path):
    [path, _] = export_sweep(sweep, Home(tmp_path), tmp_path, "parquet")
    frame = pl.read_parquet(path)
    assert frame["val_loss"].null_count() == 2
    assert frame.filter(pl.col("val_loss").is_null())["excluded_reason"].to_list() == [
        "not trained yet",
        "not trained yet",
    ]


def test_a_sweep_of_which_nothing_was_trained_has_no_curves(tmp_path):
    plan = Plan(
        spec=load_spec("smoke"), data=DataRef(digest="x"), runs=(planned_run(),), warnings=()
    )
    written = export_sweep(plan, Home(tmp_path), tmp_path, "csv")
    assert [path.name for path in written] == ["observations.csv"]
