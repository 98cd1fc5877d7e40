"""Blocks by name, each with what its paper trains it with. No torch here."""

from dataclasses import dataclass
from typing import Literal

from llama_core.config import Block, llama_ffn_width

BlockName = Literal["llama", "gpt3", "palm"]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A block, and what a model of it has beside its shape.

    Attributes:
        multi_query: one key-value head for all query heads; else as many as the ladder says.
        z_loss: weight of the squared log-normaliser in the objective.
        wide_ffn: the feed-forward is 4·d_model wide; else LLaMA's 8/3.
    """

    block: Block
    multi_query: bool = False
    tie_embeddings: bool = False
    z_loss: float = 0.0
    wide_ffn: bool = False

    def d_ffn(self, d_model: int, *, multiple_of: int) -> int:
        """Hidden width of the feed-forward; `multiple_of` is for LLaMA's rule, 4·d is exact."""
        if self.wide_ffn:
            return 4 * d_model
        return llama_ffn_width(d_model, multiple_of=multiple_of)


BUNDLES: dict[BlockName, Bundle] = {
    "llama": Bundle(Block()),
    # Radford et al. 2019, section 2.3, which Brown et al. 2020 (arXiv:2005.14165) take over in
    # section 2.1, but for their alternating sparse attention: here every layer attends to all.
    "gpt3": Bundle(
        Block(norm="layer", ffn="gelu", positions="learned", biases=True),
        tie_embeddings=True,
        wide_ffn=True,
    ),
    # Chowdhery et al. 2022 (arXiv:2204.02311), section 2; z-loss in section 5. Its embedding is
    # drawn with unit variance there; here as every other matrix.
    "palm": Bundle(
        Block(norm="layer", parallel=True),
        multi_query=True,
        tie_embeddings=True,
        z_loss=1e-4,
        wide_ffn=True,
    ),
}


def bundle(choice: BlockName | Block) -> Bundle:
    """The bundle of a name; of a block's own fields, with 8/3·d if it is gated and 4·d if not.

    Two matrices of 4·d have as many parameters as three of 8/3·d.
    """
    if isinstance(choice, Block):
        return Bundle(choice, wide_ffn=not choice.gated)
    return BUNDLES[choice]
