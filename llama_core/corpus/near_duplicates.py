"""Drop documents nearly equal to another: a page with a new date, another edition, a mirror."""

from collections.abc import Iterator
from typing import Any

from llama_core.corpus.documents import CorpusError, Document

# Documents are near duplicates from this Jaccard similarity of their shingles on, as in
# Lee et al. 2022, arXiv:2107.06499, section 4.2.
SIMILARITY = 0.8
# Words of a shingle, as in Lee et al.
SHINGLE_WORDS = 5
# Estimates of a similarity near 0.8 scatter by sqrt(0.8 · 0.2 / 256) = 0.025.
_PERMUTATIONS = 256


class NearDuplicates:
    """Keeps documents that are unlike all kept before, and counts those it drops.

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
        self.dropped = 0

    def distinct(self, documents: Iterator[Document]) -> Iterator[Document]:
        """Yield documents without near duplicates; of several the first is kept."""
        from datasketch import MinHash

        for document in documents:
            words = document.text.split()
            # A text of fewer words is one shingle.
            starts = range(max(1, len(words) - SHINGLE_WORDS + 1))
            shingles = {" ".join(words[i : i + SHINGLE_WORDS]).encode() for i in starts}
            signature = MinHash(num_perm=_PERMUTATIONS)
            signature.update_batch(sorted(shingles))
            candidates = self._index.query(signature)
            if any(signature.jaccard(self._signatures[i]) >= SIMILARITY for i in candidates):
                self.dropped += 1
                continue
            self._index.insert(len(self._signatures), signature)
            self._signatures.append(signature)
            yield document
