import pytest
import torch

from llama_core.inference.score import score_continuations
from llama_core.model import Llama
from tests.core_tools import tiny


@pytest.fixture(scope="module")
def net():
    made = Llama(tiny(init_std=0.3), attention="eager")
    made.init_weights(0)
    return made


def pairs_of(seed, count=40):
    """Contexts and continuations of several lengths; every third shares its context."""
    generator = torch.Generator().manual_seed(seed)

    def ids(longest):
        length = int(torch.randint(1, longest + 1, (), generator=generator))
        return torch.randint(0, 32, (length,), generator=generator).tolist()

    contexts = [ids(12) for _ in range(count)]
    return [(contexts[i - i % 3], ids(4)) for i in range(count)]


def by_hand(net, context, continuation):
    """The score of one text alone, from all its logits."""
    with torch.no_grad():
        logs = net(torch.tensor([[*context, *continuation]]))[0].double().log_softmax(-1)
    start = len(context) - 1
    rows = logs[start : start + len(continuation)]
    greedy = rows.argmax(-1).tolist() == continuation
    return float(rows[range(len(continuation)), continuation].sum()), greedy


@pytest.mark.parametrize("batch_tokens", [1, 64, 10_000])
def test_a_score_is_that_of_the_text_alone_for_any_batch_size(net, batch_tokens):
    pairs = pairs_of(seed=1)
    # One pair is the model's own continuation, so that both values of `greedy` occur.
    with torch.no_grad():
        likeliest = int(net(torch.tensor([pairs[0][0]]))[0, -1].argmax())
    pairs.append((pairs[0][0], [likeliest]))
    scores = dict(score_continuations(net, pairs, batch_tokens=batch_tokens))
    assert sorted(scores) == list(range(len(pairs)))
    for place, pair in enumerate(pairs):
        expected, greedy = by_hand(net, *pair)
        # fp32, another order of summation.
        assert scores[place].log_probability == pytest.approx(expected, abs=2e-5)
        assert scores[place].greedy == greedy
    assert {score.greedy for score in scores.values()} == {True, False}


def test_choices_of_one_token_read_their_question_once(net, monkeypatch):
    rows = []
    hidden = Llama.hidden
    monkeypatch.setattr(
        Llama, "hidden", lambda self, ids, cache=None: rows.append(len(ids)) or hidden(self, ids)
    )
    choices = [([1, 4, 9], [choice]) for choice in (2, 3, 5, 7)]
    scores = dict(score_continuations(net, choices, batch_tokens=1_000))
    assert len(scores) == 4
    assert rows == [1]


@pytest.mark.parametrize("pair", [([], [1]), ([1], [])])
def test_a_pair_without_tokens_is_refused(net, pair):
    with pytest.raises(ValueError, match="no tokens"):
        list(score_continuations(net, [pair], batch_tokens=64))
