"""A signal asks a training to stop after its step; a second one, later, stops it at once."""

import signal
import threading
from types import SimpleNamespace

import pytest

from flows.training import signals as module
from flows.training.signals import Interrupted, interruptible, stop_requested


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_an_exception_and_the_old_handler_returns(number):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=number.name), interruptible():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("later_s", "interrupts"), [(2.9, False), (3.1, True)])
def test_a_second_signal_interrupts_from_three_seconds_on(monkeypatch, later_s, interrupts):
    clock = [50.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    before = signal.getsignal(signal.SIGTERM)
    with stop_requested() as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        clock[0] += later_s
        if interrupts:
            with pytest.raises(Interrupted, match="SIGINT twice"):
                signal.raise_signal(signal.SIGINT)
        else:
            signal.raise_signal(signal.SIGINT)
            # The first one counts, not the last.
            clock[0] += 0.2
            with pytest.raises(Interrupted):
                signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_leaves_the_handlers_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with stop_requested() as stop:
            seen.append((signal.getsignal(signal.SIGTERM), stop.is_set()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]
