import subprocess
import sys
from pathlib import Path

import pytest

from llama_core.config import Block, ModelConfig, Muon, Placement
from llama_core.counting import count_params
from llama_core.memory import rows_that_fit, step_memory
from tests.core_tools import recipe

MODEL = ModelConfig(
    vocab_size=4096, d_model=256, n_layers=4, n_heads=4, n_kv_heads=4, head_dim=64, d_ffn=704
)
# A step's peak resident set over what the process had with weights and moments in place.
MEASURE = """
import resource, sys
from pathlib import Path
import torch
from llama_core.config import AdamW, ModelConfig, Placement, TrainConfig, Wsd
from llama_core.memory import step_memory
from llama_core.model import Llama
from llama_core.blocks import bundle
from llama_core.config import Muon
from llama_core.optim import optimizer_of
from llama_core.train import losses

torch.set_num_threads(1)
dtype, mode, attention, kind = sys.argv[1:]
made = bundle(kind if kind in ("gpt3", "palm") else "llama")
model = ModelConfig(
    vocab_size=4096, d_model=256, n_layers=6, n_heads=4,
    n_kv_heads={"gpt3": 4, "palm": 1}.get(kind, 2), head_dim=64,
    d_ffn=made.d_ffn(256, multiple_of=16), qk_norm=kind == "qk_norm",
    block=made.block, tie_embeddings=made.tie_embeddings,
    max_positions=256 if made.block.positions == "learned" else None,
)
rows, seq_len = 16, 256
cfg = TrainConfig(
    seq_len=seq_len, batch_tokens=rows * seq_len, warmup_tokens=0,
    schedule=Wsd(horizons=(rows * seq_len * 10,)), dtype=dtype, eval_tokens=seq_len,
    optimizer=Muon(lr=1e-3) if kind == "muon" else AdamW(lr=1e-3), z_loss=made.z_loss,
)
placement = Placement(activation_checkpointing=mode)
net = Llama(model, attention=attention, recompute=mode)
net.init_weights(0)
optimizer = optimizer_of(net, cfg.optimizer)

def step(count):
    ids = torch.randint(0, model.vocab_size, (count, seq_len + 1))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        logits = net(ids[:, :-1])
    objective, _ = losses(logits, ids[:, 1:], cfg.z_loss, 1.0)
    objective.backward()
    optimizer.step()
    net.zero_grad()

step(1)  # libraries' own buffers
before = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
step(rows)
# Not getrusage: on Linux a process inherits its parent's peak there.
peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
estimate = step_memory(model, cfg, placement, rows=rows, eager=attention == "eager")
resident = estimate.weights + estimate.optimizer
print(resident + peak - before, estimate.peak)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("dtype", "mode", "attention", "kind"),
    [
        ("float32", "off", "eager", "plain"),
        ("float32", "off", "eager", "qk_norm"),
        ("float32", "off", "sdpa", "plain"),
        ("bfloat16", "off", "eager", "plain"),
        ("float32", "full", "eager", "plain"),
        ("float32", "selective", "eager", "plain"),
        ("float32", "off", "eager", "muon"),
        ("float32", "off", "eager", "gpt3"),
        ("bfloat16", "off", "eager", "gpt3"),
        ("float32", "selective", "eager", "gpt3"),
        ("float32", "off", "eager", "palm"),
        ("bfloat16", "off", "sdpa", "palm"),
        ("float32", "selective", "eager", "palm"),
    ],
)
def test_a_steps_peak_is_within_fifteen_percent_of_the_estimate(dtype, mode, attention, kind):
    answer = subprocess.run(
        [sys.executable, "-c", MEASURE, dtype, mode, attention, kind],
        capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[3],
        env={"OMP_NUM_THREADS": "1", "MALLOC_TRIM_THRESHOLD_": "0", "PATH": "/usr/bin"},
    )  # fmt: skip
    measured, estimated = map(int, answer.stdout.split())
    assert estimated == pytest.approx(measured, rel=0.15), f"{measured / 2**20:.0f} MiB"


# A process that uses much memory starts one that does not.
PARENT = """
import subprocess, sys
filled = b"x" * 2**30
child = "import torch; from llama_core.machine import *; print(memory_gib(torch.device('cpu')))"
subprocess.run([sys.executable, "-c", child], check=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux hands a peak on")
def test_a_process_does_not_report_its_parents_memory():
    completed = subprocess.run(
        [sys.executable, "-c", PARENT],
        capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[3],
    )  # fmt: skip
    assert 0.05 < float(completed.stdout) < 0.9


def long_rows():
    batch = 64 * 256
    return recipe(1).model_copy(update={"seq_len": 256, "batch_tokens": batch})


def test_as_many_rows_as_fit_go_through_at_once():
    model, cfg = MODEL, long_rows()

    def peak(rows):
        return step_memory(model, cfg, Placement(), rows=rows, eager=False).peak

    def fitting(budget):
        return rows_that_fit(model, cfg, Placement(), rows=64, eager=False, budget=budget)

    assert fitting(peak(64)) == 64
    assert fitting(peak(64) - 1) == 32
    assert fitting(peak(8) + 1) == 8
    assert fitting(0) == 1


def test_recomputing_more_keeps_less():
    model, cfg = MODEL, recipe(10)
    modes = ("off", "selective", "full")
    kept = [
        step_memory(
            model, cfg, Placement(activation_checkpointing=mode), rows=4, eager=True
        ).activations
        for mode in modes
    ]
    assert kept[0] > kept[1] > kept[2]


def test_weights_moments_and_the_trunks_copy_of_both_are_counted_in_fp32():
    model = MODEL
    params = count_params(model).total
    for cfg, snapshot in ((recipe(10), 0), (recipe(10, 20), 12 * params)):
        estimate = step_memory(model, cfg, Placement(), rows=1, eager=False)
        assert estimate.weights == estimate.gradients == 4 * params
        assert estimate.optimizer == 8 * params
        assert estimate.snapshot == snapshot
        # What stays for the whole step, and the larger of what is allocated and freed.
        resident = 12 * params + snapshot
        assert estimate.peak == resident + max(estimate.activations, estimate.gradients)


def test_muon_holds_one_number_where_adamw_holds_two_and_the_z_loss_four_sets_of_logits():
    cfg, tokens = recipe(10, 20), recipe(1).batch_tokens
    plain = step_memory(MODEL, cfg, Placement(), rows=4, eager=False)
    muon = cfg.model_copy(update={"optimizer": Muon(lr=0.01), "z_loss": 1e-4})
    changed = step_memory(MODEL, muon, Placement(), rows=4, eager=False)
    # Four layers of 4 · 256² in attention and 3 · 256 · 704 in the feed-forward.
    saved = 4 * 4 * (4 * 256**2 + 3 * 256 * 704)
    assert plain.optimizer - changed.optimizer == saved
    assert plain.snapshot - changed.snapshot == saved
    assert changed.activations - plain.activations == 4 * 4 * tokens * MODEL.vocab_size


def test_a_rank_holds_its_shards_and_two_whole_blocks_with_what_lies_in_none():
    cfg, params = long_rows(), count_params(MODEL).total
    alone, rank = (
        step_memory(MODEL, cfg, Placement(ranks=ranks, sharding="shard"), rows=16, eager=False)
        for ranks in (1, 4)
    )
    assert (rank.weights, rank.gradients, rank.optimizer) == (params, params, 2 * params)
    # Embedding and head, and two of four blocks with half the last norm.
    blocks = 2 * (4 * 256**2 + 3 * 256 * 704 + 2 * 256) + 128
    assert (alone.gathered, rank.gathered) == (0, 8 * (2 * 4096 * 256 + blocks))
    # Its 16 rows are all of its share, and one micro-batch of four of a process alone.
    assert alone.activations - rank.activations == 4 * params
    assert rank.peak == 3 * params + rank.gathered + rank.activations


def test_replicas_hold_all_of_the_model_and_their_gradients_through_the_step():
    cfg, params = long_rows(), count_params(MODEL).total
    rank = step_memory(MODEL, cfg, Placement(ranks=4), rows=16, eager=False)
    alone = step_memory(MODEL, cfg, Placement(), rows=64, eager=False)
    assert rank.activations == alone.activations / 4 + 4 * params
    assert (rank.weights, rank.optimizer, rank.gathered) == (4 * params, 8 * params, 0)


def test_gradients_add_to_activations_with_several_micro_batches():
    model, cfg = MODEL, long_rows()
    whole, part = (
        step_memory(model, cfg, Placement(), rows=rows, eager=False).activations
        for rows in (64, 32)
    )
    assert part - 4 * count_params(model).total == whole / 2


@pytest.mark.parametrize(
    ("changes", "seq_len", "dtype", "mode", "eager", "per_token"),
    [
        # A block keeps 64 bytes of norms, queries, keys and values (24 numbers), two heads' scores
        # of 8 keys, what they mix (12), and four times the feed-forward's 5: 64 + 4·72. Three
        # blocks, the stream twice (32), and logits with their gradient (80).
        ({}, 8, "float32", "off", True, 3 * (64 + 4 * 72) + 32 + 80),
        # SDPA keeps a number a head instead of the scores, and its result twice.
        ({}, 8, "float32", "off", False, 3 * (64 + 4 * 70) + 32 + 80),
        # bf16 has half of it, and norms in both types.
        ({}, 8, "bfloat16", "off", True, 3 * (80 + 2 * 72) + 32 + 40),
        # QK-norm keeps 42 more numbers: before the norm, and before its scale.
        ({"qk_norm": True}, 8, "float32", "off", True, 3 * (64 + 4 * 114) + 32 + 80),
        # Two blocks of 96 queries see 96 and 192 keys, 144 in the mean.
        ({}, 192, "float32", "off", True, 3 * (64 + 4 * 344) + 32 + 80),
        # Full recomputation keeps the input of each block and one block.
        ({}, 8, "float32", "full", True, 3 * 16 + (64 + 4 * 72) + 32 + 80),
        # Selective recomputation keeps 54 results of matmuls and attention as well.
        ({}, 8, "float32", "selective", True, 3 * (16 + 4 * 54) + (64 + 4 * 72) + 32 + 80),
        ({}, 8, "bfloat16", "selective", True, 3 * (16 + 2 * 54) + (80 + 2 * 72) + 32 + 40),
        # A feed-forward without a gate keeps twice its 5 instead of four times.
        ({"block": Block(ffn="gelu")}, 8, "float32", "off", True, 3 * (64 + 4 * 62) + 32 + 80),
        # A parallel block has one norm.
        ({"block": Block(parallel=True)}, 8, "float32", "off", True, 3 * (32 + 4 * 72) + 32 + 80),
    ],
)
def test_activations_are_what_each_part_keeps_for_its_backward_pass(
    changes, seq_len, dtype, mode, eager, per_token
):
    model = ModelConfig(
        vocab_size=10, d_model=4, n_layers=3, n_heads=2, n_kv_heads=1, head_dim=6, d_ffn=5,
        **changes,
    )  # fmt: skip
    cfg = recipe(10).model_copy(
        update={"seq_len": seq_len, "batch_tokens": 7 * seq_len, "dtype": dtype}
    )
    placement = Placement(activation_checkpointing=mode)
    whole = step_memory(model, cfg, placement, rows=7, eager=eager)
    assert whole.activations == 7 * seq_len * per_token
    part = step_memory(model, cfg, placement, rows=2, eager=eager)
    assert part.activations == 2 * seq_len * per_token + 4 * count_params(model).total
