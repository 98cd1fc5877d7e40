"""How often 90 % intervals of multipliers hold the truth, and how often a gain is made up.

Each case draws pairs of tables with a known multiplier (tests/pairs_of_tables.py) and compares
them as `isoflop compare` does. Run:

    python -m bench.speedup_coverage [--pairs 200]
"""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np

from analysis.compare.speedup import Answer, Multiplier, speedup
from tests.pairs_of_tables import pair

CASES: dict[str, dict[str, Any]] = {
    "gain 1.2, 5 sizes × 4 budgets, half of the noise shared": {"multiplier": 1.2},
    "no gain, no noise shared": {"multiplier": 1.0, "shared": 0.0},
    "gain 1.05, nearly all noise shared": {"multiplier": 1.05, "shared": 0.95},
    "no gain, 3 sizes × 3 budgets": {
        "multiplier": 1.0,
        "sizes": (2e6, 6e6, 18e6),
        "budgets": (1e15, 1e16, 1e17),
    },
    "gain 1.5, horizons of one training share half of their noise": {
        "multiplier": 1.5,
        "of_training": 0.5,
    },
    "no gain, horizons of one training share nearly all": {
        "multiplier": 1.0,
        "of_training": 0.9,
    },
}


def coverage(pairs: int, *, seed: int = 0, draws: int = 300, **case: Any) -> dict[str, float]:
    """Shares of intervals that hold the truth by quantity, and of `holds` and `shrinks`."""
    rng = np.random.default_rng(seed)
    hits: dict[str, list[bool]] = {}
    for _ in range(pairs):
        baseline, variant = pair(rng, **case)
        worth = speedup(("baseline", baseline), ("variant", variant), draws=draws)
        for answer in (worth.lead, *worth.others):
            for name, value in _shares(answer, case["multiplier"]):
                hits.setdefault(f"{answer.asymptote}: {name}", []).append(value)
    return {name: float(np.mean(values)) for name, values in hits.items()}


def _shares(answer: Answer, truth: float) -> Iterator[tuple[str, bool]]:
    yield "pooled", _holds(answer.pooled, truth)
    yield "least budget", _holds(answer.by_budget[0].compute, truth)
    yield "largest budget", _holds(answer.by_budget[-1].compute, truth)
    assert answer.projection is not None
    yield "target", _holds(answer.projection.compute, truth)
    yield "verdict holds", answer.projection.verdict == "holds"
    yield "verdict shrinks", answer.projection.verdict == "shrinks with scale"


def _holds(multiplier: Multiplier, truth: float) -> bool:
    assert multiplier.lower is not None
    return multiplier.lower <= truth and (multiplier.upper is None or truth <= multiplier.upper)


def main() -> None:
    """Print a table of shares by case and quantity."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200)
    arguments = parser.parse_args()
    for name, case in CASES.items():
        shares = coverage(arguments.pairs, **case)
        print(f"\n{name} ({arguments.pairs} pairs)")
        for quantity, share in shares.items():
            print(f"  {quantity:24} {share:.3f}")


if __name__ == "__main__":
    main()
