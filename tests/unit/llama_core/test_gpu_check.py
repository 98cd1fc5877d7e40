import importlib.util
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[3] / "bench/gpu_check.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = sys.modules["gpu_check"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny steps on two busy cores wait for each other
    yield module
    torch.set_num_threads(threads)
    del sys.modules["gpu_check"]


def test_the_gpu_script_resumes_to_the_bit_and_goes_on_after_a_part_that_fails(script, monkeypatch):
    monkeypatch.setitem(script.PARTS, "speed", lambda setting: 1 / 0)
    setting = script.Setting("cpu", tiny=True)
    answers = dict(script.results_of(["speed", "resume"], setting, 100))
    assert answers["speed"] == {"failed": "ZeroDivisionError('division by zero')"}
    # Eight steps to the last horizon, one of the branch to the first, two evaluations.
    assert answers["resume"] == {"to_the_bit": True, "records": 11}
    late = dict(script.results_of(["resume"], setting, -1))
    assert "skipped" in late["resume"]
