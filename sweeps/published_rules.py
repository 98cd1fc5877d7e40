"""Published rules of learning rate and batch as power laws, and where each was measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from llama_core.config import ModelConfig
from llama_core.counting import count_params, non_embedding_flops_per_token

# Rules that count their batch in sequences had sequences of this many tokens.
_SEQUENCE = 2048
# N of OLMo's ladder at which it takes over Porian's tuned values.
_OLMO_N = 108e6

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Power:
    """coef · N^N · D^D · C^C."""

    coef: float
    N: float = 0.0
    D: float = 0.0
    C: float = 0.0

    def at(self, scale: Mapping[str, float]) -> float:
        """The value at N, D and C of a run."""
        return float(self.coef * scale["N"] ** self.N * scale["D"] ** self.D * scale["C"] ** self.C)

    def __str__(self) -> str:
        factors = [f"{name}^{power:.3g}" for name in "NDC" if (power := getattr(self, name))]
        return " ".join([f"{self.coef:.3g}", *factors])


@dataclass(frozen=True, slots=True)
class Rule:
    """A published rule.

    Attributes:
        lr, batch: peak learning rate, and tokens per step.
        n_counts: which N the rule means; `non_embedding` is without the head too.
        source: paper, and equation, figure or file.
        measured: intervals of N, D, D/N or C in which it was fitted or used.
    """

    lr: Power
    batch: Power
    n_counts: Literal["n_params", "non_embedding"]
    source: str
    measured: Mapping[str, Interval]

    @property
    def has_budget(self) -> bool:
        """Whether rate or batch depend on the tokens of a run, at a given size."""
        return any(power.D or power.C for power in (self.lr, self.batch))

    def scale(self, model: ModelConfig, *, tokens: float, seq_len: int) -> dict[str, float]:
        """N, D, D/N and C of a run, each as the rule counts it."""
        N = float(getattr(count_params(model), self.n_counts))
        C = non_embedding_flops_per_token(model, seq_len) * tokens
        return {"N": N, "D": float(tokens), "D/N": tokens / N, "C": C}


RULES: Mapping[str, Rule] = {
    # The grid of the authors' published dense runs: 17 pairs of N and D.
    "steplaw": Rule(
        lr=Power(1.79, N=-0.713, D=0.307),
        batch=Power(0.58, D=0.571),
        n_counts="non_embedding",
        source="Step Law, Li et al. 2025 (arXiv:2503.04715)",
        measured={"N": (214_663_680, 1_073_741_824), "D": (4e9, 1e11)},
    ),
    "deepseek": Rule(
        lr=Power(0.3118, C=-0.1250),
        batch=Power(0.2920, C=0.3271),
        n_counts="non_embedding",
        source="DeepSeek-AI 2024 (arXiv:2401.02954), eq. 1",
        measured={"C": (1e17, 1e20)},
    ),
    # min_params_for_fit and max_params_for_fit of the authors' hparams_fit_figure.
    "porian": Rule(
        lr=Power(3.7, N=-0.36),
        batch=Power(0.00037 * _SEQUENCE, N=0.703),
        n_counts="n_params",
        source="Porian et al. 2024 (arXiv:2406.19146), fig. 3",
        measured={"N": (2.5e7, 1.1e8), "D/N": (20.0, 20.0)},
    ),
    "olmo": Rule(
        lr=Power(0.0047 * _OLMO_N ** (1 / 3), N=-1 / 3),
        batch=Power(160 * _SEQUENCE * _OLMO_N ** (-2 / 3), N=2 / 3),
        n_counts="n_params",
        source="OLMo's ladder, Bhagia et al. 2024 (arXiv:2412.04403), scripts/ladder.py",
        measured={"N": (190_354_176, 1_279_395_840), "D/N": (20.0, 200.0)},
    ),
}
