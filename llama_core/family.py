"""Published models by name: LLaMA's family, and those its paper compares itself with.

Shapes of LLaMA: Touvron et al. 2023, table 2; feed-forward rule from the released code (branch
llama_v1 of meta-llama/llama, commit 1076b9c). Llama 2 7B and 13B have LLaMA's shapes (their model
card gives the sizes; the parameter totals agree).

GPT-3, Gopher, Chinchilla and PaLM were never released, so their papers' rounded counts are what
the exact counts of these shapes can be held against. Not built: GPT-3's alternating dense and
banded sparse attention, which has no weights of its own (every layer here attends to all); the
relative positions of Gopher and Chinchilla, whose weights are `missing_params` (rotary positions
stand in); and PaLM's scale of the tied logits and unit variance of the embedding.
"""

from dataclasses import dataclass

from llama_core.blocks import BUNDLES
from llama_core.config import Block, ModelConfig, llama_ffn_width


@dataclass(frozen=True, slots=True)
class Published:
    """A published model, its exact parameter count, and the length it was trained on.

    Attributes:
        params: of `model`; a released model has exactly as many.
        printed: count in the paper of a model that was not released, which is
            `params + missing_params` within `unit`, one of its last printed digit.
        missing_params: weights of the published model that `model` has no part for.
    """

    model: ModelConfig
    params: int
    seq_len: int
    source: str
    printed: int | None = None
    unit: int = 0
    missing_params: int = 0


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


def _gpt3(d_model: int, n_layers: int, head_dim: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=50_257,
        d_model=d_model,
        n_layers=n_layers,
        n_heads=d_model // head_dim,
        n_kv_heads=d_model // head_dim,
        head_dim=head_dim,
        d_ffn=4 * d_model,
        tie_embeddings=True,
        block=BUNDLES["gpt3"].block,
        max_positions=2048,
    )


def _palm(d_model: int, n_layers: int, n_heads: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=256_000,
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=1,
        head_dim=256,
        d_ffn=4 * d_model,
        tie_embeddings=True,
        block=BUNDLES["palm"].block,
    )


def _gopher(d_model: int, n_heads: int) -> ModelConfig:
    """RMSNorm and a vocabulary of 32,000 are stated; GELU, biases and the tied head are GPT-2's.

    The printed counts have two digits, too few to tell.
    """
    return ModelConfig(
        vocab_size=32_000,
        d_model=d_model,
        n_layers=80,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=128,
        d_ffn=4 * d_model,
        tie_embeddings=True,
        block=Block(ffn="gelu", biases=True),
    )


_TABLE_2 = "Touvron et al. 2023 (arXiv:2302.13971), table 2; meta-llama/llama 1076b9c"
_CARD_2 = "Llama 2 model card (sizes, GQA of 70B) with LLaMA's shapes and feed-forward rule"
_CARD_3 = "Llama 3 model card (GQA, vocabulary, context); shapes as in oumi's llama3_1 recipes"
# Table 2.1 is quoted with 24 heads of 128 for XL and a width of 5,140 for 13B. The counts of table
# D.1 are met to the last digit by 16 heads and by 5,120 alone.
_BROWN = "Brown et al. 2020 (arXiv:2005.14165), tables 2.1 (shapes) and D.1 (counts)"
_PALM = "Chowdhery et al. 2022 (arXiv:2204.02311), table 1; vocabulary in section 2"
_HOFFMANN = "Hoffmann et al. 2022 (arXiv:2203.15556), table 4; Rae et al. 2021 (arXiv:2112.11446)"
_M, _B = 10**6, 10**9
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
    "gpt3-125m": Published(_gpt3(768, 12, 64), 125_226_240, 2048, _BROWN, 125 * _M, _M),
    "gpt3-350m": Published(_gpt3(1024, 24, 64), 355_871_744, 2048, _BROWN, 356 * _M, _M),
    "gpt3-760m": Published(_gpt3(1536, 24, 96), 760_300_032, 2048, _BROWN, 760 * _M, _M),
    "gpt3-1.3b": Published(_gpt3(2048, 24, 128), 1_315_723_264, 2048, _BROWN, 1_320 * _M, 10 * _M),
    "gpt3-2.7b": Published(_gpt3(2560, 32, 80), 2_651_553_280, 2048, _BROWN, 2_650 * _M, 10 * _M),
    "gpt3-6.7b": Published(_gpt3(4096, 32, 128), 6_658_404_352, 2048, _BROWN, 6_660 * _M, 10 * _M),
    "gpt3-13b": Published(_gpt3(5120, 40, 128), 12_853_386_240, 2048, _BROWN, 12_850 * _M, 10 * _M),
    "gpt3-175b": Published(
        _gpt3(12288, 96, 128), 174_604_259_328, 2048, _BROWN, 174_600 * _M, 100 * _M
    ),
    "palm-8b": Published(_palm(4096, 32, 16), 8_632_012_800, 2048, _PALM, 8_630 * _M, 10 * _M),
    "palm-62b": Published(_palm(8192, 64, 32), 62_495_662_080, 2048, _PALM, 62_500 * _M, 10 * _M),
    "palm-540b": Published(
        _palm(18432, 118, 48), 540_356_474_880, 2048, _PALM, 540_350 * _M, 10 * _M
    ),
    "gopher-280b": Published(
        _gopher(16384, 128), 258_236_760_064, 2048, _HOFFMANN, 280 * _B, _B, 80 * 16384**2
    ),
    "chinchilla-70b": Published(
        _gopher(8192, 64), 64_693_870_592, 2048, _HOFFMANN, 70 * _B, _B, 80 * 8192**2
    ),
}
