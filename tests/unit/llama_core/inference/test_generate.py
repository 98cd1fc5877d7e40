import pytest
import torch

from llama_core.config import Block
from llama_core.inference.generate import _choose, generate, generate_rows
from llama_core.layers.attention import KvCache
from llama_core.model import Llama
from tests.core_tools import tiny


@pytest.fixture
def net():
    made = Llama(tiny(init_std=0.3))
    made.init_weights(0)
    return made


def test_cached_logits_are_those_of_the_whole_text(net):
    ids = torch.randint(0, 32, (2, 12), generator=torch.Generator().manual_seed(0))
    cache = KvCache(net.config, 2, 12, net.lm_head.weight)
    with torch.no_grad():
        pieces = [net(part, cache) for part in ids.split([5, 1, 1, 3, 2], dim=1)]
        # Another order of summation over twelve keys.
        torch.testing.assert_close(torch.cat(pieces, 1), net(ids), rtol=0, atol=1e-5)


def test_greedy_takes_the_likeliest_token_every_time(net):
    ids = [1, 5]
    for chosen in generate(net, [1, 5], max_new_tokens=10):
        with torch.no_grad():
            assert chosen == int(net(torch.tensor([ids]))[0, -1].argmax())
        ids.append(chosen)
    assert len(ids) == 12


def test_sampling_follows_its_seed(net):
    def sample(seed):
        return list(generate(net, [1], max_new_tokens=20, temperature=1.0, seed=seed))

    assert sample(3) == sample(3)
    assert sample(3) != sample(4)


def test_a_small_top_p_is_greedy_and_a_large_one_is_not(net):
    greedy = list(generate(net, [1], max_new_tokens=20))
    narrow = generate(net, [1], max_new_tokens=20, temperature=1.0, top_p=1e-6)
    wide = generate(net, [1], max_new_tokens=20, temperature=1.0)
    assert list(narrow) == greedy
    assert list(wide) != greedy


def test_generation_ends_at_the_stop_token_without_yielding_it(net):
    greedy = list(generate(net, [1], max_new_tokens=20))
    assert (
        list(generate(net, [1], max_new_tokens=20, stop=greedy[4]))
        == greedy[: greedy.index(greedy[4])]
    )


@pytest.mark.parametrize(
    ("prompt", "settings"), [([], {}), ([1], {"temperature": -1.0}), ([1], {"top_p": 0.0})]
)
def test_unusable_settings_are_refused(net, prompt, settings):
    with pytest.raises(ValueError, match=r"prompt|temperature"):
        next(generate(net, prompt, max_new_tokens=1, **settings))


def test_a_text_longer_than_the_learned_positions_is_refused_before_its_first_token():
    net = Llama(tiny(block=Block(positions="learned"), max_positions=8))
    net.init_weights(0)
    # The last token needs no position: nothing continues it.
    assert len(list(generate(net, [1, 2, 3], max_new_tokens=6))) == 6
    with pytest.raises(ValueError, match="sequence of 9 tokens is longer than the table"):
        next(generate(net, [1, 2, 3], max_new_tokens=7))
    with pytest.raises(ValueError, match="sequence of 9 tokens is longer than the table"):
        net(torch.zeros(1, 9, dtype=torch.long))


@pytest.mark.parametrize("block", [Block(), Block(positions="learned"), Block(positions="none")])
def test_rows_of_several_lengths_continue_as_they_would_alone(block):
    learned = 16 if block.positions == "learned" else None
    net = Llama(tiny(init_std=0.3, block=block, max_positions=learned))
    net.init_weights(0)
    prompts = [[1, 5, 9, 2], [1], [1, 7, 7]]
    together = list(zip(*generate_rows(net, prompts, max_new_tokens=12), strict=True))
    alone = [tuple(generate(net, prompt, max_new_tokens=12)) for prompt in prompts]
    assert together == alone
    assert len(set(alone)) == 3


def chosen(probabilities, *, temperature=1.0, top_p=1.0, draws=2_000):
    """How often each id is drawn from logits of these probabilities, as a share."""
    logits = torch.tensor(probabilities).log().expand(draws, -1)
    ids = _choose(logits, temperature, top_p, torch.Generator().manual_seed(0))
    return (torch.bincount(ids[:, 0], minlength=len(probabilities)) / draws).tolist()


# Three standard deviations of a share of 2,000 draws are at most 0.034.
CLOSE = {"abs": 0.034}


def test_ids_are_drawn_with_their_probabilities():
    assert chosen([0.5, 0.25, 0.25]) == pytest.approx([0.5, 0.25, 0.25], **CLOSE)


def test_top_p_keeps_the_token_that_reaches_it_and_none_after():
    assert chosen([0.5, 0.25, 0.25], top_p=0.49) == [1.0, 0.0, 0.0]
    assert chosen([0.2, 0.5, 0.3], top_p=0.6) == pytest.approx([0, 0.625, 0.375], **CLOSE)
    # Powers of two, so that the sum is exact: half is reached by the first alone.
    assert chosen([0.5, 0.25, 0.25], top_p=0.5) == [1.0, 0.0, 0.0]


def test_a_high_temperature_evens_probabilities_out_and_a_low_one_sharpens_them():
    # At temperature 2 probabilities of 0.8 and 0.2 become as 2 to 1, at a half as 16 to 1.
    assert chosen([0.8, 0.2], temperature=2.0) == pytest.approx([2 / 3, 1 / 3], **CLOSE)
    assert chosen([0.8, 0.2], temperature=0.5) == pytest.approx([16 / 17, 1 / 17], **CLOSE)
