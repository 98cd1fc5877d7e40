"""As many trainings at once as CPUs or GPUs allow, each with devices of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

import sweeps
from flows.training import slots as module
from flows.training.slots import child_environment, slot_environments
from sweeps.load import load_spec


@pytest.fixture
def machine(monkeypatch):
    def of(*, cpus=8, gpus=0):
        monkeypatch.setattr(module, "usable_cores", lambda: cpus)
        monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)

    return of


def slots_of(given=None, *, own=None, **placement):
    spec = load_spec("smoke")
    changed = spec.placement.model_copy(update=placement)
    return slot_environments(spec.model_copy(update={"placement": changed, "slots": own}), given)


@pytest.mark.parametrize(
    ("cpus", "ranks", "count"), [(8, 1, 8), (8, 2, 4), (7, 2, 3), (1, 1, 1), (1, 2, 1)]
)
def test_without_gpus_there_is_a_slot_for_each_cpu_of_a_rank(machine, cpus, ranks, count):
    machine(cpus=cpus)
    assert slots_of(ranks=ranks) == [{"OMP_NUM_THREADS": "1"}] * count
    assert slots_of(ranks=ranks, threads=3) == [{"OMP_NUM_THREADS": "3"}] * count


def test_a_given_number_of_slots_comes_before_the_specs_and_the_machines(machine):
    machine(cpus=8)
    assert [len(slots_of(own=own)) for own in (None, 3)] == [8, 3]
    assert len(slots_of(2, own=3)) == 2
    machine(gpus=4)
    assert len(slots_of(2, own=3)) == 2


def test_every_training_has_gpus_of_its_own_one_for_each_rank(machine):
    machine(gpus=5)
    devices = [slot["CUDA_VISIBLE_DEVICES"] for slot in slots_of(ranks=2)]
    assert devices == ["0,1", "2,3"]
    # More trainings than GPUs share them in turn.
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots_of(7)] == list("0123401")
    assert slots_of(device="cpu") == [{"OMP_NUM_THREADS": "1"}] * 8


def test_more_ranks_than_gpus_are_refused(machine):
    machine(gpus=2)
    assert len(slots_of(ranks=2)) == 1
    with pytest.raises(ValueError, match=r"placement\.ranks=3, but this machine has 2 GPUs"):
        slots_of(ranks=3)


def test_a_slot_overrides_the_environment_which_overrides_the_allocators(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "9")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "7")
    found = child_environment({"OMP_NUM_THREADS": "2"})
    assert found["OMP_NUM_THREADS"] == "2"
    assert found["MALLOC_TRIM_THRESHOLD_"] == "7"
    assert found["MALLOC_MMAP_THRESHOLD_"] == str(2**30)
    assert found["PATH"]


def test_a_module_in_the_users_folder_does_not_stand_in_for_isoflops(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(sweeps.__file__).parents[1]))
    (tmp_path / "sweeps.py").write_text("raise SystemExit('of the user')")
    command = [sys.executable, "-m", "sweeps.faults"]
    subprocess.run(command, cwd=tmp_path, env=child_environment({}), check=True)
