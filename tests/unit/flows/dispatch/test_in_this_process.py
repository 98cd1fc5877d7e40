"""Signals while Prefect is imported."""

import os
import signal

import pytest

from flows.dispatch.in_this_process import stopped_after


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_body_and_not_within_it(number):
    handler = signal.getsignal(number)
    reached = []

    def interrupted():
        with stopped_after():
            os.kill(os.getpid(), number)
            reached.append(number)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert reached == [number]
    assert signal.getsignal(number) is handler


def test_without_a_signal_nothing_is_raised_and_an_error_of_the_body_goes_on():
    with stopped_after():
        pass
    with pytest.raises(ZeroDivisionError), stopped_after():
        _ = 1 / 0
