from llama_core.corpus.steps import progress
from llama_core.corpus.steps.progress import Meter, share_report


def test_a_meter_says_the_speed_and_the_time_left(monkeypatch):
    clock, messages = [0.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    meter = Meter(messages.append, "encoding books", 1_000_000_000)
    # What an earlier process did is not this one's speed.
    meter.skip(500_000_000)
    for second in range(1, 11):
        clock[0] = second
        meter.add(2_000_000)
    assert messages[0] == "encoding books"
    assert messages[-1] == "encoding books: 52%, 2.0 MB/s, 4 min left"
    # The first seconds say nothing about the speed.
    assert len(messages) == 1 + 9


def test_a_meter_without_a_total_says_how_much_was_handled(monkeypatch):
    clock, messages = [0.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    meter = Meter(messages.append, "reading hub")
    clock[0] = 10.0
    meter.add(1_250_000_000)
    assert messages[-1] == "reading hub: 1,250 MB, 125.0 MB/s"


def test_a_share_is_reported_at_most_twice_a_second(monkeypatch):
    clock, messages = [0.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    share = share_report(messages.append, "reading headers")
    # Thousands of small files.
    for number in range(1001):
        clock[0] = number / 1000
        share(number / 1000)
    assert messages == [f"reading headers: {share}" for share in ("0%", "50%", "100%")]
