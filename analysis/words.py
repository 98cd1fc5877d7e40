"""Quantities and laws in words: what N and C count, units, short numbers."""

from analysis.law import LossLaw


def si(value: float) -> str:
    """Three digits with an SI letter up to 10^15, a power of ten beyond."""
    for scale, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if 1e15 > value >= scale:
            return f"{value / scale:.3g}{letter}"
    return f"{value:.3g}"


COUNTS = {
    "n_params": "all but the input embedding",
    "n_params_total": "every parameter",
    "n_params_non_embedding": "without embeddings and head",
    "unknown": "unknown",
}
FLOPS = {"flops_6nd": "6ND", "train_flops": "counted"}


def frontier_counts(law: LossLaw) -> str:
    """Which N and which C a frontier has, in words."""
    counts = COUNTS[law.n_counts]
    return f"C = 6·N·D to train and 2·N FLOPs a token to serve; N counts {counts}."


def formula(law: LossLaw) -> str:
    """The law with its constants to five digits."""
    inner = f"{law.A:.5g}/N^{law.alpha:.4f} + {law.B:.5g}/D^{law.beta:.4f}"
    if law.gamma != 1.0:
        inner = f"({inner})^{law.gamma:.4f}"
    text = f"L = {law.E:.5g} + {inner}" if law.E > 0 else f"L = {inner}"
    if law.repetition is not None:
        text += f", R_D = {law.repetition.R_D:.4g}, R_N = {law.repetition.R_N:.4g}"
    return text


def short(value: float | None) -> str:
    """6.97e9 as 6.97B; past a thousand trillions as a power of ten."""
    if value is None:
        return "none"
    for size, letter in ((1e15, ""), (1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}" if letter else f"{value:.2e}"
    return f"{value:.3g}"


def count(value: float | None) -> str:
    assert value is not None
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
