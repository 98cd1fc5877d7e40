"""A training's records say what each step was, and its places go one way."""

from types import SimpleNamespace

import pytest
import torch

from llama_core import course as module
from llama_core.ahead import FinishedStep
from llama_core.counting import train_flops
from llama_core.course import Course
from llama_core.outbox import Outbox
from llama_core.schedule import tokens_spent
from tests.core_tools import batches, recipe, tiny


def course_of(cfg, ranks=1):
    placed = SimpleNamespace(count=ranks, device=torch.device("cpu"), leads=True)
    return Course(tiny(), cfg, batches(cfg), Outbox(None), placed)


@pytest.mark.parametrize("ranks", [1, 4])
def test_a_record_has_its_own_steps_tokens_and_a_devices_own_flops(monkeypatch, ranks):
    monkeypatch.setattr(module, "peak_flops", lambda device, dtype: 1e12)
    cfg = recipe(10)
    course = course_of(cfg, ranks)
    for _ in range(4):
        course.take_step()
    # On a GPU the next step is launched before the numbers of this one are here.
    done = FinishedStep(step=3, lr=0.1, loss=2.0, grad_norm=1.0, elapsed_s=0.5)
    [record] = course.record(done)
    assert record.tokens == 3 * cfg.batch_tokens
    flops = train_flops(tiny(), cfg.seq_len, cfg.batch_tokens)
    assert record.mfu == pytest.approx(flops / ranks / 0.5 / 1e12)
    assert record.tokens_per_s == cfg.batch_tokens / 0.5


def test_the_names_of_checkpoints_rise_along_branches_and_back_on_the_trunk():
    cfg = recipe(10, 20, 30)
    course, names = course_of(cfg), []
    while (segment := course.segment) is not None:
        while course.place.step < segment.last_step:
            course.take_step()
            names.append(course.place.checkpoint_name)
        assert list(course.end(segment)) == []
        names.append(course.place.checkpoint_name)
    assert names == sorted(set(names))
    assert course.place.steps_taken == tokens_spent(cfg) // cfg.batch_tokens
