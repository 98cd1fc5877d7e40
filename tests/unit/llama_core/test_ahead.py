"""Steps launched ahead are timed one after another."""

import torch

from llama_core import ahead as module
from llama_core.ahead import LaunchedSteps


def test_a_step_launched_ahead_is_timed_from_the_end_of_the_one_before(monkeypatch):
    ends = iter([10.0, 12.0, 20.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(ends))
    launched = LaunchedSteps(64)
    for step, started in ((1, 0.0), (2, 1.0)):
        launched.add(step, 0.1, started, torch.tensor(128.0), torch.tensor(1.5))
    [first] = launched.finish(leave=1)
    [second] = launched.finish(leave=0)
    launched.add(3, 0.1, 15.0, torch.tensor(64.0), torch.tensor(1.5))
    [third] = launched.finish(leave=0)
    assert [each.elapsed_s for each in (first, second, third)] == [10.0, 2.0, 5.0]
    assert [each.loss for each in (first, second, third)] == [2.0, 2.0, 1.0]
