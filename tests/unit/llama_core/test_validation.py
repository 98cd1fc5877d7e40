"""The loss of each source is that of its own rows, and they add up to the pooled loss."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from llama_core.config import Placement
from llama_core.corpus.batches import Batches, TokenSource
from llama_core.parallel import Ranks
from llama_core.train import build
from llama_core.validation import evaluate
from tests.core_tools import SEQ_LEN, batches, recipe, tiny, tokens

CPU = torch.device("cpu")
PLACEMENT = Placement(device="cpu", threads=1)
CFG = recipe(4, eval_tokens=24 * SEQ_LEN)
# Sums of float32 in another order.
ROUNDING = 1e-6


def of_sources(held_out=(900, 300, 0), *, piece_bytes=1, bytes_per_token=(None, None, None)):
    """Batches of prose, code and a source too short for a window; code has the even ids."""
    names, weights = ("prose", "code", "short"), (3.0, 1.0, 1.0)
    streams = [tokens(2_000, seed=n) for n in range(3)]
    streams[1] = streams[1] // 2 * 2
    return Batches(
        [
            TokenSource(
                name, [ids], weight, validation=[ids[:count]] * bool(count), bytes_per_token=mean
            )
            for name, ids, weight, count, mean in zip(
                names, streams, weights, held_out, bytes_per_token, strict=True
            )
        ],
        np.arange(32) % 2 * 2 * piece_bytes + piece_bytes,
        *(CFG.seq_len, CFG.batch_tokens, CFG.seed, CFG.eval_tokens),
        bytes_per_token=None if piece_bytes else 2.0,
    )


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return build(tiny(), CFG, PLACEMENT, CPU)


def nats(net, rows):
    rows = torch.from_numpy(rows)
    with torch.no_grad():
        return float(F.cross_entropy(net(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()))


def test_a_source_has_the_loss_of_its_own_rows_and_the_pooled_one_is_their_weighted_mean(net):
    made = of_sources()
    evaluated = evaluate(net, made, CFG, Ranks(PLACEMENT, CPU))
    prose, code, short = evaluated.sources
    rows = made.validation()
    even = (rows % 2 == 0).all(axis=1)
    assert (prose.share, code.share, short.share) == pytest.approx((0.6, 0.2, 0.2))
    assert (prose.val_tokens, code.val_tokens) == ((~even).sum() * SEQ_LEN, even.sum() * SEQ_LEN)
    assert prose.loss == pytest.approx(nats(net, rows[~even]), rel=ROUNDING)
    assert code.loss == pytest.approx(nats(net, rows[even]), rel=ROUNDING)
    # A source without a window in the validation set is measured nowhere, and named.
    assert (short.name, short.val_tokens, short.loss, short.bpb) == ("short", 0, None, None)
    weights, losses = (prose.val_tokens, code.val_tokens), (prose.loss, code.loss)
    assert np.average(losses, weights=weights) == pytest.approx(evaluated.val_loss, rel=ROUNDING)
    swapped = np.average(losses, weights=weights[::-1])
    assert swapped != pytest.approx(evaluated.val_loss, rel=100 * ROUNDING)
    # Bits per byte by the sources' bytes: the even ids have one, the odd ones three.
    sizes = [made.piece_bytes[rows[own, 1:]].sum() for own in (~even, even)]
    assert code.bpb == pytest.approx(code.loss / math.log(2), rel=ROUNDING)
    bits = np.average((prose.bpb, code.bpb), weights=sizes)
    assert bits == pytest.approx(evaluated.val_bpb, rel=ROUNDING)


def test_bytes_that_no_piece_tells_are_the_means_of_each_sources_text(net):
    made = of_sources(piece_bytes=0, bytes_per_token=(2.0, 4.0, None))
    prose, code, _ = evaluate(net, made, CFG, Ranks(PLACEMENT, CPU)).sources
    assert prose.bpb == pytest.approx(prose.loss / math.log(2) / 2)
    assert code.bpb == pytest.approx(code.loss / math.log(2) / 4)
    unknown = evaluate(net, of_sources(piece_bytes=0), CFG, Ranks(PLACEMENT, CPU)).sources
    assert [each.bpb for each in unknown] == [None] * 3
    assert [each.loss for each in unknown[:2]] == [prose.loss, code.loss]


def test_the_loss_of_a_single_source_is_the_pooled_one_alone(net):
    cfg = recipe(4)
    made = batches(cfg)
    evaluated = evaluate(net, made, cfg, Ranks(PLACEMENT, CPU))
    assert evaluated.sources == ()
    assert evaluated.val_loss == pytest.approx(nats(net, made.validation()), rel=ROUNDING)


def test_ranks_that_each_read_some_rows_find_the_losses_of_one_that_reads_all(net):
    made = of_sources()
    alone = evaluate(net, made, CFG, Ranks(PLACEMENT, CPU))
    of_rank = {}

    class Rank(Ranks):
        """One of five ranks: what it would add is kept, and the last has the sums."""

        def __init__(self, number):
            super().__init__(PLACEMENT, CPU)
            self.count, self.rank, self.calls = 5, number, 0

        def summed(self, value):
            self.calls += 1
            of_rank[self.calls] = of_rank.get(self.calls, 0) + value.clone()
            return of_rank[self.calls]

    together = [evaluate(net, made, CFG, Rank(number)) for number in range(5)][-1]
    assert together.val_loss == pytest.approx(alone.val_loss, rel=ROUNDING)
    for many, one in zip(together.sources[:2], alone.sources[:2], strict=True):
        assert many.loss == pytest.approx(one.loss, rel=ROUNDING)
        assert many.val_tokens == one.val_tokens
