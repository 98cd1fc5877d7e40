"""Documents that are nearly another: the same page with a new date, an edition, a mirror."""

from collections.abc import Iterator
from typing import Any

from llama_core.corpus.documents import CorpusError, Document

# Jaccard similarity of two documents' shingles from which one of them is enough
# (Lee et al. 2022, arXiv:2107.06499, section 4.2, take the same).
SIMILARITY = 0.8
# A shingle is this many words, as there.
SHINGLE_WORDS = 5
# Estimates of a similarity near 0.8 scatter by sqrt(0.8 · 0.2 / 256) = 0.025.
_PERMUTATIONS = 256


class NearDuplicates:
    """Passes on documents unlike all it has passed on before, and counts the others.

    MinHash signatures in a locality-sensitive index, both datasketch's: what it proposes is
    compared by signature before a document is dropped. Nothing depends on the process: the
    permutations come from a fixed seed.
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
        """The documents without near duplicates; the first of its kind stays."""
        from datasketch import MinHash

        for document in documents:
            words = document.text.split()
            # A text of fewer words is one shingle.
            starts = range(max(1, len(words) - SHINGLE_WORDS + 1))
            shingles = {" ".join(words[i : i + SHINGLE_WORDS]).encode() for i in starts}
            signature = MinHash(num_perm=_PERMUTATIONS)
            signature.update_batch(sorted(shingles))
            proposed = self._index.query(signature)
            if any(signature.jaccard(self._signatures[at]) >= SIMILARITY for at in proposed):
                self.dropped += 1
                continue
            self._index.insert(len(self._signatures), signature)
            self._signatures.append(signature)
            yield document
