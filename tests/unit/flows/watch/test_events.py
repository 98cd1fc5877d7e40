"""Events of a sweep, for Prefect's automations."""

import prefect.events
import prefect.runtime
import pytest

from flows.runs.directory import RunResult
from flows.watch.events import EventWatcher, emit
from tests.fakes import planned_run


@pytest.fixture
def sent(monkeypatch):
    events = []
    monkeypatch.setattr(
        prefect.events, "emit_event", lambda name, **about: events.append((name, about))
    )
    return events


def test_a_failed_run_is_an_event_of_its_sweep_and_a_finished_one_is_none(sent, monkeypatch):
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "4d2b1b2e-5a0e-4a53-9b4b-0d3c8a1c7f11")
    planned = planned_run(sweep="mine")
    for status, reason in (("finished", ""), ("diverged", "loss nan at step 7")):
        result = RunResult(
            run_id=planned.id, status=status, reason=reason, train_s=1, device="cpu", finished_at=0
        )
        EventWatcher().finished(planned, result)
    [(name, about)] = sent
    assert name == "isoflop.run.failed"
    assert about["resource"]["prefect.resource.id"] == "isoflop.sweep.mine"
    assert about["payload"]["reason"] == "loss nan at step 7"


def test_outside_a_flow_run_nothing_is_sent(sent, monkeypatch):
    monkeypatch.delenv("PREFECT__FLOW_RUN_ID", raising=False)
    emit("sweep.finished", "mine", {})
    assert sent == []
