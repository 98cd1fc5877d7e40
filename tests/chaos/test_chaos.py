"""Every fault once, in the time a change may take to be checked; `make chaos` has them all."""

import pytest

from tests.chaos.table import theatre

# Those of a killed training, a killed sweep and Ctrl-C are in tests/e2e/test_resume.py.
FAULTS = (
    "mlflow_down",
    "disk_full_checkpoint",
    "disk_full_curve",
    "checkpoint_flipped",
    "twins",
    "clock_set_back",
    "loss_nan",
    "worker_terminated",
    "worker_and_training_killed",
    "prefect_restarted",
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with theatre(tmp_path_factory.mktemp("chaos"), seed=0, copies=1) as ready:
        yield ready


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_sweep_that_meets_a_fault_loses_and_doubles_nothing(stage, fault):
    outcome = stage.play(fault, times=1)
    assert outcome.injected >= 1
    assert outcome.lost == 0
    assert outcome.doubled == 0
    # Whoever is asked to stop keeps all he has.
    assert fault != "worker_terminated" or outcome.extra_steps == 0
