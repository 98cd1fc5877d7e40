"""The cost of serving a decoder: a roofline over weights, key-value cache and arithmetic.

One decoding step reads all weights once and every sequence's cache; prefill is arithmetic.
The share of the peak that decoding reaches is a result, never an input: it follows from batch,
context and the number of key-value heads.

Not modelled: prefix caching, speculative decoding, communication between GPUs, queueing and
idle capacity, mixtures of experts. Divide by occupancy for idle capacity.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from analysis import published
from analysis.frontier.allocation import FrontierError
from analysis.law import Array
from analysis.words import short

# One measured point: 13B on one A100-40GB, context 512, batch 1: 63.17 ms of prefill and
# 22.0 ms a generated token (kipp.ly, as tabulated in cli99/llm-analysis). With 2·N FLOPs a
# token, two bytes a weight and the card's peaks that is:
MEASURED_MFU, MEASURED_MBU = 0.675, 0.76
# LLaMA trained at 0.44 to 0.51 of an A100's peak (from Touvron et al. 2023, Table 15).
TRAIN_MFU = 0.45
# Share of a GPU's memory left by CUDA context, activations and fragmentation.
USABLE_MEMORY = 0.9
# One node; several would need a model of their interconnect.
MOST_GPUS = 8


class DoesNotFit(FrontierError):
    """Weights and cache need more memory than the GPUs have; the message says what would fit."""


@dataclass(frozen=True)
class Device:
    """An accelerator: dense bf16 FLOP/s, bytes/s, bytes, dollars an hour."""

    name: str
    flops: float
    bandwidth: float
    memory_bytes: float
    usd_per_hour: float

    @classmethod
    def named(cls, name: str, *, usd_per_hour: float | None = None) -> "Device":
        """A device of the published table, at its listed price or another.

        Raises:
            published.UnknownName: no such device.
            FrontierError: no price is listed and none is given, or it is not above zero.
        """
        row = published.device(name)
        price = row["usd_per_hour"] if usd_per_hour is None else usd_per_hour
        if price is None:
            raise FrontierError(f"no price is listed for {row['name']}: give dollars an hour.")
        if not 0 < price < float("inf"):
            raise FrontierError(f"a price of {price:g} dollars an hour is not above zero.")
        return cls(row["name"], row["flops"], row["bandwidth"], row["memory_bytes"], float(price))


@cache
def _model(name: str) -> dict[str, Any]:
    """A published model; looked up once, for a search of sizes asks a thousand times."""
    table = published.models()
    published.known("model", name, tuple(table["model"]))
    return table.row(by_predicate=pl.col("model") == name, named=True)


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder that decide its serving cost. Fields may be arrays of one shape.

    Attributes:
        n_params: every parameter that is read to decode one token.
        width_layers: n_layers·d_model, to which attention's arithmetic is proportional.
        kv_values: keys and values cached for a token: 2·n_layers·n_kv_heads·head_dim.
    """

    name: str
    n_params: Array
    width_layers: Array
    kv_values: Array

    @classmethod
    def published(cls, model: str) -> "Shape":
        """The shape of a published model.

        Raises:
            published.UnknownName: no such model.
        """
        row = _model(model)
        width_layers = row["n_layers"] * row["d_model"]
        kv_values = 2 * row["n_layers"] * row["n_kv_heads"] * row["head_dim"]
        values = (row["n_params"], width_layers, kv_values)
        return cls(model, *(np.asarray(value, float) for value in values))

    @classmethod
    def llama_like(cls, N: ArrayLike, *, kv_share: float = 1.0) -> "Shape":
        """Shapes for sizes between and beyond LLaMA's four.

        n_layers·d_model follows N by a power law through LLaMA 7B and 65B.

        Args:
            kv_share: key-value heads over query heads; 1/8 for Llama 2 70B's grouped queries.
        """
        N = np.asarray(N, float)
        small, large = (cls.published(name) for name in ("LLaMA-7B", "LLaMA-65B"))
        exponent = np.log(large.width_layers / small.width_layers) / np.log(
            large.n_params / small.n_params
        )
        width_layers = small.width_layers * (N / small.n_params) ** exponent
        return cls("LLaMA-like", N, width_layers, 2 * width_layers * kv_share)


@dataclass(frozen=True)
class Serving:
    """How a model is served.

    Attributes:
        batch: sequences decoded together.
        context: mean tokens of context while decoding.
        prompt: tokens prefilled together with each request, for attention's share of prefill.
        weight_bits: stored width of a weight; arithmetic stays at the device's bf16 peak.
    """

    device: Device
    batch: int = 8
    context: float = 1024
    prompt: float = 1024
    weight_bits: float = 16
    kv_bits: float = 16
    mfu: float = MEASURED_MFU
    mbu: float = MEASURED_MBU
    gpus: int = MOST_GPUS

    def __post_init__(self) -> None:
        for name in ("batch", "context", "weight_bits", "kv_bits", "gpus"):
            if not getattr(self, name) > 0:
                raise FrontierError(f"{name} is {getattr(self, name):g}; it must be above zero.")
        for name in ("mfu", "mbu"):
            if not 0 < getattr(self, name) <= 1:
                raise FrontierError(f"{name} is {getattr(self, name):g}; a share lies in (0, 1].")

    @property
    def usable_bytes(self) -> float:
        """Of one GPU."""
        return self.device.memory_bytes * USABLE_MEMORY

    def memory_bytes(self, shape: Shape) -> Array:
        """Weights, and the cache of a full batch at this context."""
        return np.asarray(
            shape.n_params * self.weight_bits / 8 + self.batch * self._cache_bytes(shape)
        )

    def gpus_needed(self, shape: Shape) -> Array:
        """Whole GPUs that hold one replica."""
        return np.ceil(self.memory_bytes(shape) / self.usable_bytes)

    def largest_batch(self, shape: Shape, *, gpus: int = 1) -> int:
        """Sequences of this context that fit beside the weights; zero when the weights do not."""
        room = gpus * self.usable_bytes - float(shape.n_params) * self.weight_bits / 8
        return max(0, int(room // float(self._cache_bytes(shape))))

    def step_gpu_seconds(self, shape: Shape) -> Array:
        """GPU-seconds of one decoding step of the batch."""
        memory = self.memory_bytes(shape) / (self.device.bandwidth * self.mbu)
        return np.asarray(np.maximum(memory, self._step_flops(shape) / self._speed))

    def prefill_gpu_seconds(self, shape: Shape) -> Array:
        """GPU-seconds to read one prompt."""
        flops = 2 * shape.n_params * self.prompt + 2 * shape.width_layers * self.prompt**2
        return np.asarray(flops / self._speed)

    def decode_mfu(self, shape: Shape) -> Array:
        """Share of the peak that decoding's 2·N FLOPs a token reach."""
        useful = 2 * shape.n_params * self.batch
        return np.asarray(useful / (self.step_gpu_seconds(shape) * self.device.flops))

    def usd_per_generated_token(self, shape: Shape) -> Array:
        """Dollars for one generated token."""
        return np.asarray(self._usd_per_s * self.step_gpu_seconds(shape) / self.batch)

    def usd_per_prompt_token(self, shape: Shape) -> Array:
        """Dollars for one prompt token."""
        return np.asarray(self._usd_per_s * self.prefill_gpu_seconds(shape) / self.prompt)

    def bill(self, shape: Shape, prompt_tokens: float, generated_tokens: float) -> Array:
        """Dollars over the model's life, GPU time bought by the second."""
        return np.asarray(
            prompt_tokens * self.usd_per_prompt_token(shape)
            + generated_tokens * self.usd_per_generated_token(shape)
        )

    def require_fit(self, shape: Shape) -> int:
        """GPUs of one replica.

        Raises:
            DoesNotFit: more GPUs than there are.
        """
        needed = int(np.max(self.gpus_needed(shape)))
        if needed > self.gpus:
            fits = self.largest_batch(shape, gpus=self.gpus)
            advice = (
                f"A batch of {fits} fits."
                if fits
                else f"The weights alone need {float(shape.n_params) * self.weight_bits / 8e9:.3g} "
                "GB: use fewer bits per weight, or a smaller model."
            )
            raise DoesNotFit(
                f"{shape.name} of {short(float(shape.n_params))} parameters at "
                f"{self.weight_bits:g} bits, batch {self.batch}, context {self.context:g} needs "
                f"{float(self.memory_bytes(shape)) / 1e9:.3g} GB, {needed} × {self.device.name}; "
                f"there are {self.gpus}. {advice}"
            )
        return needed

    @property
    def _usd_per_s(self) -> float:
        return self.device.usd_per_hour / 3600

    @property
    def _speed(self) -> float:
        return self.device.flops * self.mfu

    def _cache_bytes(self, shape: Shape) -> Array:
        return np.asarray(self.context * shape.kv_values * self.kv_bits / 8)

    def _step_flops(self, shape: Shape) -> Array:
        attention = 4 * shape.width_layers * self.context
        return np.asarray((2 * shape.n_params + attention) * self.batch)
