"""Answers come once for a state of the table, and the page knows which one it shows."""

from concurrent.futures import BrokenExecutor, Executor, Future

from flows.dashboard.fits import Fits


class ByHand(Executor):
    """Leaves every question open until the test answers it."""

    def __init__(self):
        self.open = []

    def submit(self, function, /, *arguments, **options):
        self.open.append((Future(), function, arguments))
        return self.open[-1][0]

    def answer(self, place):
        future, function, arguments = self.open[place]
        future.set_running_or_notify_cancel()
        future.set_result(function(*arguments))


def double(number):
    return 2 * number


def test_an_answer_is_computed_once_for_a_state_and_again_for_the_next():
    hand = ByHand()
    fits = Fits(lambda: hand)
    first = fits.get("law", 1, double, lambda: (1,))
    assert (first.value, first.awaited) == (None, True)
    assert "being computed" in first.note
    hand.answer(0)
    assert fits.get("law", 1, double, lambda: (1,)).value == 2
    assert len(hand.open) == 1
    older = fits.get("law", 2, double, lambda: (2,))
    assert (older.value, older.awaited) == (2, True)
    assert "the one below is older" in older.note
    hand.answer(1)
    assert fits.peek("law", 2).value == 4
    assert fits.peek("law", 2).note == ""
    assert fits.peek("law", 3) is None


def test_a_failure_is_said_and_not_tried_again():
    hand = ByHand()
    fits = Fits(lambda: hand)
    fits.get("law", 1, double, lambda: (1,))
    hand.open[0][0].set_exception(ValueError("no rows"))
    assert fits.get("law", 1, double, lambda: (1,)).note == "No answer: no rows"
    assert len(hand.open) == 1


def test_a_question_whose_process_was_killed_is_asked_once_more():
    hand = ByHand()
    fits = Fits(lambda: hand)

    def ask(name):
        return fits.get(name, 1, double, lambda: (1,))

    assert [ask(name).awaited for name in ("heavy", "law")] == [True, True]
    for future, *_ in hand.open:
        future.set_exception(BrokenExecutor("killed"))
    assert [ask(name).awaited for name in ("heavy", "law")] == [True, True]
    hand.open[2][0].set_exception(BrokenExecutor("killed"))
    hand.answer(3)
    assert ask("law").value == 2
    # It was killed twice, so perhaps for this very question.
    assert "killed" in ask("heavy").note
    assert len(hand.open) == 4


def test_a_question_that_a_slider_has_passed_is_given_up_and_may_be_asked_again():
    hand = ByHand()
    fits = Fits(lambda: hand)
    fits.get("at 1", 1, double, lambda: (1,), topic="slider")
    fits.get("at 2", 1, double, lambda: (2,), topic="slider")
    assert hand.open[0][0].cancelled()
    assert fits.peek("at 1", 1) is None
    assert fits.get("at 1", 1, double, lambda: (1,), topic="slider").awaited
    hand.answer(2)
    assert fits.get("at 1", 1, double, lambda: (1,), topic="slider").value == 2
