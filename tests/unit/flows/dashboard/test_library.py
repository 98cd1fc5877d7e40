"""What the library reads of runs, and when anew."""

from flows.runs.directory import RunDir
from tests.dashboards import Never, desk_of
from tests.simulated_home import simulated_sweep


def test_the_curves_of_a_run_that_ends_take_the_place_of_those_so_far(tmp_path):
    planned = simulated_sweep(tmp_path, "live", finished=3)
    run = RunDir(tmp_path / "runs" / planned.runs[2].id)
    whole = desk_of(tmp_path, Never).library.curves(planned.runs)
    result = run.result_path.read_text()
    run.result_path.unlink()
    library = desk_of(tmp_path, Never).library
    assert library.curves(planned.runs).height == whole.height
    run.result_path.write_text(result)
    for _ in range(2):
        assert library.curves(planned.runs).sort("run_id", "tokens").equals(whole)
