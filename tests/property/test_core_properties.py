import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from llama_core.config import Block, ModelConfig, Wsd
from llama_core.corpus.batches import MIXTURE_BLOCK, Batches, TokenSource
from llama_core.corpus.cleaning import normalise, passages
from llama_core.counting import count_params, forward_flops_per_sequence
from llama_core.exchange.hf import from_hf, to_hf
from llama_core.layers.attention import KvCache
from llama_core.model import Llama
from llama_core.schedule import lr_multiplier, segments
from tests.core_tools import BATCH_TOKENS, SEQ_LEN, recipe, tokens, without_repeats

ROWS = BATCH_TOKENS // SEQ_LEN


BLOCKS = st.builds(
    Block,
    norm=st.sampled_from(["rms", "layer"]),
    ffn=st.sampled_from(["swiglu", "geglu", "gelu", "relu2"]),
    positions=st.sampled_from(["rotary", "learned", "none"]),
    biases=st.booleans(),
    parallel=st.booleans(),
)


LLAMA = st.just(Block())


@st.composite
def models(draw, blocks=LLAMA):
    n_kv_heads = draw(st.integers(1, 3))
    block = draw(blocks)
    return ModelConfig(
        block=block,
        max_positions=draw(st.integers(11, 20)) if block.positions == "learned" else None,
        vocab_size=draw(st.integers(2, 40)),
        d_model=draw(st.integers(1, 24)),
        n_layers=draw(st.integers(1, 3)),
        n_heads=n_kv_heads * draw(st.integers(1, 3)),
        n_kv_heads=n_kv_heads,
        head_dim=2 * draw(st.integers(1, 6)),
        d_ffn=draw(st.integers(1, 30)),
        tie_embeddings=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
    )


HELD_OUT = tokens(2_000)


@given(model=models(BLOCKS))
@settings(max_examples=60, deadline=None)
def test_counts_are_the_modules_for_any_shape_and_block(model):
    net = Llama(model, attention="eager")
    weights = dict(net.named_parameters())
    with torch.no_grad(), FlopCounterMode(display=False) as forward:
        net(torch.zeros(1, 9, dtype=torch.long))
    counts = count_params(model)
    assert sum(w.numel() for w in weights.values()) == counts.total
    embedding = weights["embed_tokens.weight"].numel()
    assert counts.n_params == counts.non_embedding + embedding
    inputs = {"embed_tokens.weight", "embed_positions.weight", "lm_head.weight"}
    multiplied = sum(weight.numel() for name, weight in weights.items() if name not in inputs)
    assert counts.non_embedding == multiplied
    # torch counts the square of attention, we the causal half with its diagonal.
    above = 4 * model.n_layers * model.n_heads * model.head_dim * (9 * 8 // 2)
    assert forward.get_total_flops() == forward_flops_per_sequence(model, 9) + above


@given(model=models(BLOCKS), split=st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_any_block_continues_a_text_in_its_cache_as_it_reads_the_whole(model, split):
    net = Llama(model.model_copy(update={"init_std": 0.3}), attention="eager")
    net.init_weights(0)
    ids = torch.randint(0, model.vocab_size, (1, 9), generator=torch.Generator().manual_seed(0))
    # Two tokens of padding, which no token after them sees or counts from.
    padded = torch.cat((torch.zeros(1, 2, dtype=torch.long), ids), dim=1)
    with torch.no_grad():
        cache = KvCache(model, 1, 9, net.lm_head.weight)
        pieces = [net(part, cache) for part in ids.split([split, 9 - split], dim=1)]
        # Another order of summation over at most nine keys, relative to logits of size ten.
        torch.testing.assert_close(torch.cat(pieces, 1), net(ids), rtol=1e-4, atol=1e-4)
        beside = net(padded, KvCache(model, 1, 11, net.lm_head.weight, padding=[2]))
        torch.testing.assert_close(beside[:, 2:], net(ids), rtol=1e-4, atol=1e-4)


@given(model=models())
@settings(max_examples=30, deadline=None)
def test_weights_go_to_hugging_face_and_back_unchanged(model):
    net = Llama(model)
    net.init_weights(0)
    state = net.state_dict()
    back = from_hf(model, to_hf(model, state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


@given(
    steps=st.lists(st.integers(1, 300), min_size=1, max_size=5, unique=True),
    fraction=st.floats(0.01, 0.99),
    shape=st.sampled_from(["linear", "one_minus_sqrt"]),
)
def test_every_path_walks_the_trunk_once_and_never_rests_or_overshoots(steps, fraction, shape):
    horizons = tuple(BATCH_TOKENS * step for step in sorted(steps))
    schedule = Wsd(horizons=horizons, cooldown_fraction=fraction, shape=shape)
    cfg = recipe(1).model_copy(update={"schedule": schedule})
    path = segments(cfg)
    trunk = [s for s in path if s.horizon is None]
    assert [s.first_step for s in trunk] == [0, *(s.last_step for s in trunk)][: len(trunk)]
    assert [s.horizon for s in path if s.horizon] == list(horizons)
    assert [s.rejoins for s in path if s.horizon] == [True] * (len(horizons) - 1) + [False]
    for segment in path:
        assert segment.steps >= 1
        for step in range(segment.first_step, segment.last_step):
            assert 0 < lr_multiplier(cfg, step, segment.horizon) <= 1


@given(
    # Less than half a row of a block would never be read, which is refused.
    weights=st.lists(st.floats(0.5, 100), min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
    step=st.integers(0, 5_000),
)
@settings(max_examples=40, deadline=None)
def test_a_mixtures_rows_up_to_any_step_follow_its_weights(weights, seed, step):
    cfg = recipe(1, seed=seed)
    sources = [
        TokenSource(f"s{i}", [np.arange(5_000, dtype=np.uint32)], weight, validation=[HELD_OUT])
        for i, weight in enumerate(weights)
    ]
    made = Batches(sources, np.ones(32, np.int64), SEQ_LEN, BATCH_TOKENS, seed, SEQ_LEN * 8)
    windows = 4_999 // SEQ_LEN
    taken = np.array([made.epochs(step)[s.name] * windows for s in sources])
    rows = step * ROWS
    assert round(taken.sum()) == rows
    # Exact over whole blocks up to the rounding of shares; within a block at most a block off.
    expected = rows * np.array(weights) / sum(weights)
    assert np.all(np.abs(taken - expected) <= rows / MIXTURE_BLOCK + MIXTURE_BLOCK)
    assert np.array_equal(made.at(step), made.at(step))
    assert cfg.batch_tokens == made.batch_tokens


@given(text=st.text(max_size=400))
def test_normalising_twice_changes_nothing_and_ascii_is_ascii(text):
    for ascii_only in (True, False):
        once = normalise(text, ascii_only=ascii_only)
        assert normalise(once, ascii_only=ascii_only) == once
    assert normalise(text, ascii_only=True).isascii()


@given(
    before=st.text(st.characters(codec="ascii"), max_size=200),
    after=st.text(st.characters(codec="ascii"), max_size=200),
    seed=st.integers(0, 1_000),
)
def test_a_shared_stretch_is_sampled_alike_wherever_it_stands(before, after, seed):
    draws = np.random.default_rng(seed).integers(97, 123, 600).astype(np.uint8)
    shared = draws.tobytes().decode()
    assert set(passages(shared)) <= set(passages(before + shared + after))


@given(texts=st.lists(st.text(st.characters(codec="ascii"), max_size=300), max_size=8))
def test_no_document_and_no_long_paragraph_leaves_the_cleaner_twice(texts):
    cleaned, _ = without_repeats(texts + texts)
    paragraphs = [p for text in cleaned for p in text.split("\n\n") if len(p) >= 80]
    assert len(paragraphs) == len(set(paragraphs))
    assert len(set(cleaned)) == len(cleaned)
