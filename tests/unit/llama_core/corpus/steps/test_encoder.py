import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llama_core.corpus.steps.encoder import Encoder
from llama_core.corpus.tokenizer import BOS, EOS, Tokenizer
from tests.core_tools import story

PROSE = [story(seed) for seed in range(8)]
# Marks with newlines, letters beside marks and other letters: pieces that join them are learned.
CODE = [f'  if (é{n % 7}) {{\n    “naïve”(x);\n}}\n\n# "é".\n\t数字，数\n' * 8 for n in range(40)]


def ids(encoder, text):
    return np.frombuffer(encoder.document(text), "<u2").tolist()


@pytest.fixture(scope="module", params=["ascii", "unicode"])
def made(request):
    byte_fallback = request.param == "unicode"
    texts = PROSE + (CODE if byte_fallback else [])
    size = 640 if byte_fallback else 330
    return Tokenizer.train(iter(texts), vocab_size=size, byte_fallback=byte_fallback)


@pytest.fixture(scope="module")
def encoder(made):
    return Encoder(made)


@given(
    parts=st.lists(
        st.one_of(
            st.sampled_from([" ", "  ", "\n", "\n\n", ").", '"', "é", "“", "数", "▁", "the", "a1"]),
            st.text(max_size=12),
        )
    )
)
@example(parts=["of the", "   ", "old\n", "book", ".\n\n", "É", "x" * 200, " "])
def test_a_document_cut_into_words_has_the_ids_of_the_whole(made, encoder, parts):
    text = "".join(parts)
    # Without byte pieces text has no other characters than those of the vocabulary.
    text = "".join(c for c in text if made.in_bytes or not made.unknown(c))
    assert ids(encoder, text) == [BOS, *made.encode(text), EOS]


def test_where_a_piece_joins_letters_and_marks_words_are_cut_at_spaces():
    joined = Tokenizer.train(iter(["x" * 3 + "é." + "y" * 3] * 40 + PROSE), vocab_size=600,
                             byte_fallback=True)  # fmt: skip
    text = "xxxé.yyy é. of old  books.\n"
    assert ids(Encoder(joined), text) == [BOS, *joined.encode(text), EOS]


def test_the_memory_of_words_is_bounded(made, monkeypatch):
    monkeypatch.setattr("llama_core.corpus.steps.encoder._MOST_WORDS", 3)
    encoder = Encoder(made)
    text = "of the old book again"
    assert encoder.document(text) == encoder.document(text)
    # Five words and the end of the text.
    assert len(encoder) == 6
