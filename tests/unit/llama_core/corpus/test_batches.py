import numpy as np
import pytest

from llama_core.corpus.batches import MIXTURE_BLOCK, Batches, TokenSource
from llama_core.corpus.documents import CorpusError
from tests.core_tools import BATCH_TOKENS, SEQ_LEN, batches, recipe, tokens

ROWS = BATCH_TOKENS // SEQ_LEN


HELD_OUT = tokens(2_000)


def mixture(cfg, weights, counts, *, held_out=HELD_OUT, **changes):
    sources = [
        TokenSource(
            f"s{i}",
            [np.arange(count, dtype=np.uint32) + 1_000_000 * i],
            weight,
            validation=[] if i else [held_out],
        )
        for i, (weight, count) in enumerate(zip(weights, counts, strict=True))
    ]
    settings = {
        "sources": sources,
        "piece_bytes": np.ones(32, np.int64),
        "seq_len": cfg.seq_len,
        "batch_tokens": cfg.batch_tokens,
        "seed": cfg.seed,
        "eval_tokens": cfg.eval_tokens,
    }
    return Batches(**(settings | changes))


def test_one_epoch_reads_every_window_once_and_the_next_in_another_order():
    made = mixture(recipe(10), [1.0], [SEQ_LEN * 40 + 1])
    steps = 40 // ROWS
    first = [tuple(made.at(step)[:, 0]) for step in range(steps)]
    second = [tuple(made.at(step)[:, 0]) for step in range(steps, 2 * steps)]
    starts = sorted(start for batch in first for start in batch)
    assert starts == list(range(0, SEQ_LEN * 40, SEQ_LEN))
    assert sorted(s for batch in second for s in batch) == starts
    assert first != second


def test_a_row_is_a_window_with_its_next_token():
    row = mixture(recipe(10), [1.0], [10_000]).at(3)[0]
    assert row.tolist() == list(range(row[0], row[0] + SEQ_LEN + 1))


def test_order_is_a_function_of_seed_and_step_alone():
    forward = batches(recipe(10))
    backward = batches(recipe(10))
    wanted = [forward.at(step) for step in range(500)]
    for step in (499, 17, 250, 0):
        assert np.array_equal(backward.at(step), wanted[step])
    other = batches(recipe(10, seed=1))
    assert not np.array_equal(other.at(0), wanted[0])


def test_rows_depend_on_their_number_and_not_on_the_batch_size():
    small, large = batches(recipe(10)), batches(recipe(10, batch_tokens=2 * BATCH_TOKENS))
    joined = np.concatenate([small.at(4), small.at(5)])
    assert np.array_equal(large.at(2), joined)


def test_a_mixture_keeps_its_shares_exactly_over_every_block():
    made = mixture(recipe(10), [3.0, 1.0], [50_000, 5_000])
    for block in range(3):
        steps = range(block * MIXTURE_BLOCK // ROWS, (block + 1) * MIXTURE_BLOCK // ROWS)
        from_second = sum(int((made.at(step)[:, 0] >= 1_000_000).sum()) for step in steps)
        assert from_second == MIXTURE_BLOCK // 4


def test_the_order_of_a_mixtures_sources_differs_between_seeds_and_blocks():
    def source_of_rows(seed, block):
        made = mixture(recipe(10, seed=seed), [1.0, 1.0], [50_000, 50_000])
        steps = range(block * MIXTURE_BLOCK // ROWS, (block + 1) * MIXTURE_BLOCK // ROWS)
        return tuple(np.concatenate([made.at(step)[:, 0] for step in steps]) >= 1_000_000)

    assert len({source_of_rows(0, 0), source_of_rows(1, 0), source_of_rows(0, 1)}) == 3


def test_each_source_of_a_mixture_is_read_window_by_window_without_loss():
    made = mixture(recipe(10), [1.0, 1.0], [SEQ_LEN * 30 + 1, SEQ_LEN * 100 + 1])
    seen = np.concatenate([made.at(step)[:, 0] for step in range(2 * MIXTURE_BLOCK // ROWS)])
    first = seen[seen < 1_000_000]
    epochs = [sorted(first[i : i + 30]) for i in range(0, len(first) // 30 * 30, 30)]
    assert len(epochs) > 30
    assert all(epoch == list(range(0, SEQ_LEN * 30, SEQ_LEN)) for epoch in epochs)


@pytest.mark.parametrize("weights", [[1.0], [2.0, 1.0]])
def test_epochs_count_the_rows_actually_read(weights):
    counts = [SEQ_LEN * 40 + 1, SEQ_LEN * 25 + 1][: len(weights)]
    made = mixture(recipe(10), weights, counts)
    seen = np.concatenate([made.at(step)[:, 0] for step in range(300)])
    for i, count in enumerate(counts):
        rows = int(((seen >= 1_000_000 * i) & (seen < 1_000_000 * (i + 1))).sum())
        assert made.epochs(300)[f"s{i}"] == pytest.approx(rows / (count // SEQ_LEN))


def test_windows_do_not_cross_shards():
    shards = [np.arange(50, dtype=np.uint16), np.arange(100, 140, dtype=np.uint16)]
    made = mixture(
        recipe(10), [1.0], [1], sources=[TokenSource("two", shards, validation=[HELD_OUT])]
    )
    for step in range(20):
        for row in made.at(step):
            assert row.tolist() == list(range(row[0], row[0] + SEQ_LEN + 1))


def test_validation_has_eval_tokens_and_is_the_same_for_every_seed():
    first, second = batches(recipe(10)), batches(recipe(10, seed=5))
    assert np.array_equal(first.validation(), second.validation())
    assert first.validation().shape == (8, SEQ_LEN + 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": [TokenSource("short", [tokens(SEQ_LEN)])]}, "short"),
        ({"sources": [TokenSource("few", [tokens(2 * SEQ_LEN + 1)])]}, "less than one batch"),
        ({"held_out": tokens(40)}, "eval_tokens=128"),
    ],
)
def test_a_corpus_too_small_is_refused_with_numbers(changes, message):
    with pytest.raises(CorpusError, match=message):
        mixture(recipe(10), [1.0], [1_000], **changes)


def test_a_corpus_with_exactly_enough_tokens_is_accepted():
    cfg = recipe(10)
    made = mixture(
        cfg,
        [1.0],
        [ROWS * SEQ_LEN + 1],
        held_out=tokens(8 * SEQ_LEN + 1),
    )
    assert sorted(made.at(0)[:, 0]) == [SEQ_LEN * row for row in range(ROWS)]
    assert len(made.validation()) == 8


def test_sources_of_equal_length_are_read_in_different_orders():
    made = mixture(recipe(10), [1.0, 1.0], [5_000, 5_000])
    seen = np.concatenate([made.at(step)[:, 0] for step in range(MIXTURE_BLOCK // ROWS)])
    first, second = seen[seen < 1_000_000], seen[seen >= 1_000_000] - 1_000_000
    assert sorted(first[:300]) != sorted(second[:300])
    assert not np.array_equal(first, second)


def test_rows_left_over_in_a_mixture_go_to_the_largest_remainders():
    # 1,024 rows in shares of 5 to 3 to 2 are 512, 307.2 and 204.8.
    made = mixture(recipe(10), [5.0, 3.0, 2.0], [50_000] * 3)
    rows = np.concatenate([made.at(step)[:, 0] for step in range(MIXTURE_BLOCK // ROWS)])
    assert np.bincount(rows // 1_000_000).tolist() == [512, 307, 205]
