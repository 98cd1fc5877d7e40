import pytest

from tests.dashboards import desk_of, write_tables
from tests.simulated_home import simulated_sweep


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("home")
    made = simulated_sweep(root, "made")
    simulated_sweep(root, "begun", finished=1)
    simulated_sweep(root, "beside", "recipe.coef=0.2")
    write_tables(root, made)
    return root


@pytest.fixture(scope="session")
def desk(root):
    return desk_of(root)
