"""Drop documents nearly equal to another: a page with a new date, another edition, a mirror."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.corpus.documents import CorpusError

# Documents are near duplicates from this Jaccard similarity of their shingles on, as in
# Lee et al. 2022, arXiv:2107.06499, section 4.2.
SIMILARITY = 0.8
# Words of a shingle, as in Lee et al.
SHINGLE_WORDS = 5
# Estimates of a similarity near 0.8 scatter by sqrt(0.8 · 0.2 / 256) = 0.025.
_PERMUTATIONS = 256
# Of the permutations; datasketch's own choice, named because signatures are stored.
_SCHEME = "affine32"


class NearDuplicates:
    """Tells documents that are unlike all before them.

    MinHash signatures in a locality-sensitive index, both from datasketch. The signatures of the
    index's candidates are compared before a document is dropped. The result is the same in every
    process: the permutations have a fixed seed.
    """

    def __init__(self) -> None:
        """Raises:
        CorpusError: datasketch is not installed.
        """
        try:
            from datasketch import MinHashLSH
        except ImportError as error:
            raise CorpusError(
                "near_duplicates='drop' needs the package datasketch. Install it with: "
                "pip install datasketch"
            ) from error
        self._index = MinHashLSH(threshold=SIMILARITY, num_perm=_PERMUTATIONS)
        self._signatures: list[Any] = []

    def is_new(self, signature: NDArray[np.uint32]) -> bool:
        """Whether a document is unlike all new ones before it; it is then one of them."""
        from datasketch import MinHash

        hashed = MinHash(num_perm=_PERMUTATIONS, hashvalues=signature, scheme=_SCHEME)
        candidates = self._index.query(hashed)
        if any(hashed.jaccard(self._signatures[i]) >= SIMILARITY for i in candidates):
            return False
        self._index.insert(len(self._signatures), hashed)
        self._signatures.append(hashed)
        return True


def signature_of(text: str) -> NDArray[np.uint32]:
    """MinHash signature of a text's shingles, 256 hashes of 32 bits."""
    from datasketch import MinHash

    words = text.split()
    # A text of fewer words is one shingle.
    starts = range(max(1, len(words) - SHINGLE_WORDS + 1))
    shingles = {" ".join(words[i : i + SHINGLE_WORDS]).encode() for i in starts}
    signature = MinHash(num_perm=_PERMUTATIONS, scheme=_SCHEME)
    signature.update_batch(sorted(shingles))
    hashes: NDArray[np.uint32] = signature.hashvalues
    return hashes
