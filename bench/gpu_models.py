"""What bench/gpu_check.py measures: shapes, our loop and transformers' on them, and their speed."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from llama_core.config import AdamW, ModelConfig, Placement, TrainConfig, Wsd
from llama_core.corpus.batches import Batches, TokenSource
from llama_core.optim import adamw
from llama_core.train import train


@dataclass(frozen=True)
class Shape:
    """A model and its batch.

    Attributes:
        rows: sequences a step.
        peer_rows: those that go through transformers at once, which keeps more than our loop.
    """

    width: int
    layers: int
    heads: int
    vocab: int
    seq_len: int
    rows: int
    peer_rows: int

    @property
    def model(self) -> ModelConfig:
        return ModelConfig(
            vocab_size=self.vocab, d_model=self.width, n_layers=self.layers, n_heads=self.heads,
            n_kv_heads=self.heads, head_dim=self.width // self.heads,
            d_ffn=round(8 * self.width / 3 / 64) * 64,
        )  # fmt: skip

    @property
    def batch_tokens(self) -> int:
        return self.seq_len * self.rows

    def recipe(self, *steps: int, lr: float = 1e-3) -> TrainConfig:
        """A bf16 training; `steps` are its horizons."""
        horizons = tuple(self.batch_tokens * each for each in steps)
        return TrainConfig(
            seq_len=self.seq_len, batch_tokens=self.batch_tokens, warmup_tokens=0,
            schedule=Wsd(horizons=horizons), optimizer=AdamW(lr=lr), dtype="bfloat16",
            eval_tokens=8 * self.seq_len,
        )  # fmt: skip

    def batches(self) -> Batches:
        """Made-up tokens, of which each mostly follows from the one before."""
        noise = np.random.default_rng(0).integers(0, self.vocab, 2_000_000)
        tokens = np.where(noise % 3 == 0, noise, np.arange(len(noise)) % self.vocab)
        data = tokens.astype(np.uint16)
        return Batches(
            sources=[TokenSource("made up", [data], validation=[data])],
            piece_bytes=np.ones(self.vocab, np.int64), seq_len=self.seq_len,
            batch_tokens=self.batch_tokens, seed=0, eval_tokens=8 * self.seq_len,
        )  # fmt: skip


LARGE = {
    "124M": Shape(768, 12, 12, 32_000, 2048, 32, 16),
    "1B": Shape(2048, 18, 16, 32_000, 2048, 16, 8),
}
# Without embedding and head 0.8 and 9.5 M; the models together, and the processes.
SMALL = {
    "1M": (Shape(128, 4, 4, 4096, 512, 8, 8), 64, 8),
    "10M": (Shape(384, 6, 6, 4096, 512, 16, 16), 16, 4),
}
TINY = Shape(64, 2, 2, 512, 64, 4, 4)
ENDLESS = 1_000_000


@dataclass(frozen=True)
class Here:
    """Where and how much to measure."""

    device: str
    tiny: bool
    rounds: int

    @property
    def cuda(self) -> bool:
        return self.device != "cpu"

    def placement(self, **changes: Any) -> Placement:
        """No checkpoint comes between the steps."""
        return Placement(device=self.device, checkpoint_every_s=1e9, **changes)

    def wait(self) -> None:
        """Wait for the device."""
        if self.cuda:
            torch.cuda.synchronize()

    def forget(self) -> None:
        """Free what the last contender held."""
        gc.collect()
        if self.cuda:
            torch.compiler.reset()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def ours(shape: Shape, here: Here, how: str) -> Callable[[], object]:
    """Our whole loop, one record a step."""
    placement = here.placement(compile=how)
    records = train(shape.model, shape.recipe(ENDLESS), shape.batches(), placement=placement)
    return lambda: next(records)


def huggingface(shape: Shape, here: Here, how: str) -> Callable[[], object]:
    """transformers' Llama with PyTorch's flash attention in a plain loop, loss compiled too."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from llama_core.exchange.hf import hf_config

    config = LlamaConfig.from_dict(hf_config(shape.model, shape.seq_len))
    config._attn_implementation = "sdpa"
    config.use_cache = False
    net = LlamaForCausalLM(config).to(here.device)
    optimizer, weights = adamw(net, AdamW(lr=1e-3)), list(net.parameters())

    def objective(ids: torch.Tensor) -> torch.Tensor:
        logits = net(ids[:, :-1]).logits
        return F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")

    compiled = torch.compile(objective, dynamic=False) if how == "on" else objective

    def step() -> None:
        size = (shape.rows, shape.seq_len + 1)
        for ids in torch.randint(0, shape.vocab, size, device=here.device).split(shape.peer_rows):
            with torch.autocast(torch.device(here.device).type, torch.bfloat16):
                loss = compiled(ids)
            (loss / shape.batch_tokens).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def rate(step: Callable[[], object], tokens: int, here: Here) -> list[float]:
    """Tokens per second of each round of a second or five steps, after a warm-up."""
    for _ in range(3):
        step()
    here.wait()
    started = time.perf_counter()
    step()
    here.wait()
    steps = 1 if here.tiny else max(5, round(1 / (time.perf_counter() - started)))
    speeds = []
    for _ in range(here.rounds):
        started = time.perf_counter()
        for _ in range(steps):
            step()
        here.wait()
        speeds.append(steps * tokens / (time.perf_counter() - started))
    return speeds
