"""The part of each source in a run's training tokens. No torch here."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, PositiveInt

from llama_core.config import Frozen

# A mixture is exact over every block of this many rows, and shuffled within it.
MIXTURE_BLOCK = 1_024


class Mixture(Frozen):
    """How a run reads the sources of a corpus, where not by the corpus's own weights.

    Attributes:
        shares: of the training tokens, one for each source of the corpus; they sum to 1.
        unique_tokens: of the sources of which only a part is read, over and over. A smaller part
            lies within a larger one, and is the same for all seeds.
    """

    shares: Annotated[dict[str, Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)]
    unique_tokens: dict[str, PositiveInt] = Field(default={})


def in_whole_rows(shares: Mapping[str, float]) -> dict[str, float]:
    """Shares as the nearest that a block of rows can have, by largest remainders."""
    total = sum(shares.values())
    exact = {name: share / total * MIXTURE_BLOCK for name, share in shares.items()}
    rows = {name: int(count) for name, count in exact.items()}
    short = sorted(exact, key=lambda name: rows[name] - exact[name])
    for name in short[: MIXTURE_BLOCK - sum(rows.values())]:
        rows[name] += 1
    return {name: count / MIXTURE_BLOCK for name, count in rows.items()}
