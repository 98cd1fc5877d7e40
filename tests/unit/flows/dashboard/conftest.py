import pytest

from flows.runs.table import curves, observations_frame
from flows.settings import Home
from tests.dashboards import desk_of
from tests.simulated_home import simulated_sweep


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("home")
    made = simulated_sweep(root, "made")
    simulated_sweep(root, "begun", finished=1)
    simulated_sweep(root, "beside", "recipe.coef=0.2")
    # With the tables of a report.
    tables = {"observations": observations_frame, "curves": curves}
    for name, read in tables.items():
        read(made.runs, Home(root)).write_parquet(root / "sweeps" / "made" / f"{name}.parquet")
    return root


@pytest.fixture(scope="session")
def desk(root):
    return desk_of(root)
