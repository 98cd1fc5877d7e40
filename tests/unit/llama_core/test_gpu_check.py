"""The script for a machine with a GPU works before it is carried there."""

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


def test_the_gpu_script_resumes_to_the_bit(script):
    # Twenty steps to the last horizon, four of the branch to the first, two evaluations.
    rows = script.resume(script.Here("cpu", tiny=True, rounds=1))
    assert rows == [{"compile": "off", "equal": True, "losses": 26}]


def test_the_gpu_script_goes_on_after_a_part_that_fails(script, monkeypatch, tmp_path, capsys):
    def fail(here):
        raise ZeroDivisionError

    monkeypatch.setitem(script.PARTS, "speed", fail)
    monkeypatch.setitem(script.PARTS, "resume", lambda here: [{"equal": True}])
    answer = tmp_path / "out.json"
    arguments = ["--device", "cpu", "--tiny", "--parts", "speed", "resume", "--json", str(answer)]
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", *arguments])
    script.main()
    assert "ZeroDivisionError" in answer.read_text()
    assert '"equal": true' in answer.read_text()
    assert "FAILED" in capsys.readouterr().out
