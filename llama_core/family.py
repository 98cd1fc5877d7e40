"""The LLaMA family as published, by name.

Shapes of LLaMA: Touvron et al. 2023, table 2; feed-forward rule from the released code (branch
llama_v1 of meta-llama/llama, commit 1076b9c). Llama 2 7B and 13B have LLaMA's shapes (their model
card gives the sizes; the parameter totals agree).
"""

from dataclasses import dataclass

from llama_core.config import ModelConfig, llama_ffn_width


@dataclass(frozen=True, slots=True)
class Published:
    """A released model, its exact parameter count, and the length it was trained on."""

    model: ModelConfig
    params: int
    seq_len: int
    source: str


def _llama(d_model: int, n_layers: int, n_heads: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=32_000,
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=d_model // n_heads,
        d_ffn=llama_ffn_width(d_model),
    )


def _grouped(
    d_model: int, n_layers: int, n_heads: int, vocab_size: int = 128_256, theta: float = 500_000
) -> ModelConfig:
    """Eight key-value heads; the feed-forward widened by 1.3 and rounded to 1024 or 4096."""
    multiple_of = 1024 if d_model == 4096 else 4096
    return ModelConfig(
        vocab_size=vocab_size,
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=8,
        head_dim=d_model // n_heads,
        d_ffn=llama_ffn_width(d_model, multiple_of=multiple_of, multiplier=1.3),
        rope_theta=theta,
    )


_TABLE_2 = "Touvron et al. 2023 (arXiv:2302.13971), table 2; meta-llama/llama 1076b9c"
_CARD_2 = "Llama 2 model card (sizes, GQA of 70B) with LLaMA's shapes and feed-forward rule"
_CARD_3 = "Llama 3 model card (GQA, vocabulary, context); shapes as in oumi's llama3_1 recipes"
FAMILY = {
    "llama-7b": Published(_llama(4096, 32, 32), 6_738_415_616, 2048, _TABLE_2),
    "llama-13b": Published(_llama(5120, 40, 40), 13_015_864_320, 2048, _TABLE_2),
    "llama-33b": Published(_llama(6656, 60, 52), 32_528_943_616, 2048, _TABLE_2),
    "llama-65b": Published(_llama(8192, 80, 64), 65_285_660_672, 2048, _TABLE_2),
    "llama-2-7b": Published(_llama(4096, 32, 32), 6_738_415_616, 4096, _CARD_2),
    "llama-2-13b": Published(_llama(5120, 40, 40), 13_015_864_320, 4096, _CARD_2),
    "llama-2-70b": Published(_grouped(8192, 80, 64, 32_000, 10_000), 68_976_648_192, 4096, _CARD_2),
    "llama-3-8b": Published(_grouped(4096, 32, 32), 8_030_261_248, 8192, _CARD_3),
    "llama-3-70b": Published(_grouped(8192, 80, 64), 70_553_706_496, 8192, _CARD_3),
}
