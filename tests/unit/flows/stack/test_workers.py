"""Workers are waited for as long as they live and one after another reports."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from flows.settings import Settings, open_home
from flows.stack import workers
from flows.stack.servers import StackError

SINCE = datetime(2026, 11, 27, tzinfo=UTC)
NAMES = ("control-worker", *(f"train-worker-{number}" for number in range(8)))


class Alive:
    """A process that runs, or has ended with a status at some second."""

    def __init__(self, clock, ends_at=float("inf")):
        self._clock, self._ends_at, self.returncode = clock, ends_at, 1

    def poll(self):
        return self.returncode if self._clock[0] >= self._ends_at else None


@pytest.fixture
def wait(tmp_path, monkeypatch):
    """Waits for nine workers, by the second of each one's first heartbeat; what was printed."""
    settings, clock = Settings(home=tmp_path), [0.0]

    def wait(beats, *, cores=2, ends=()):
        def heartbeats(settings):
            return {
                name: SINCE + timedelta(seconds=at) for name, at in beats.items() if at <= clock[0]
            }

        def sleep(seconds):
            clock[0] += seconds

        monkeypatch.setattr(workers, "worker_heartbeats", heartbeats)
        monkeypatch.setattr(workers, "usable_cores", lambda: cores)
        time = SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep)
        monkeypatch.setattr(workers, "time", time)
        started = {name: Alive(clock, dict(ends).get(name, float("inf"))) for name in NAMES}
        lines = []
        workers.wait_for_workers(settings, open_home(settings), started, SINCE, say=lines.append)
        return lines

    wait.clock = clock
    return wait


def test_nine_workers_that_report_late_on_two_cores_are_waited_for(wait):
    assert wait(dict.fromkeys(NAMES, 200.0)) == ["waiting for the first heartbeat of 9 workers"]


def test_workers_that_report_at_once_are_not_spoken_of(wait):
    assert wait(dict.fromkeys(NAMES, 1.0)) == []


def test_each_further_worker_is_given_the_whole_time_again(wait):
    wait({name: 250.0 * (number + 1) for number, name in enumerate(NAMES)})
    assert wait.clock[0] >= 9 * 250


@pytest.mark.parametrize(("cores", "patience"), [(1, 540), (2, 270), (9, 60), (64, 60)])
def test_silent_workers_are_named_after_a_minute_times_workers_per_core(wait, cores, patience):
    beats = dict.fromkeys(NAMES, 10.0) | {"train-worker-3": 1e9, "train-worker-7": 1e9}
    words = f"no heartbeat within {patience} s.*: train-worker-3, train-worker-7; see .*logs$"
    with pytest.raises(StackError, match=words):
        wait(beats, cores=cores)
    assert wait.clock[0] == pytest.approx(10 + patience, abs=2)


def test_a_worker_that_exits_is_reported_at_once(wait):
    ends = {"train-worker-5": 3.0}
    with pytest.raises(StackError, match=r"train-worker-5 did not start \(exit 1\); see .*5\.log$"):
        wait(dict.fromkeys(NAMES, 1e9), ends=ends)
    assert wait.clock[0] < 5


def test_a_heartbeat_of_an_earlier_stack_is_none(wait):
    with pytest.raises(StackError, match="train-worker-0"):
        wait(dict.fromkeys(NAMES, 1.0) | {"train-worker-0": -1.0})
