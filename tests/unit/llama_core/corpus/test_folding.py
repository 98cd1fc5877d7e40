import unicodedata
from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from llama_core.corpus.folding import EQUIVALENTS, SEPARATOR, fold
from llama_core.corpus.left_out import LeftOut, _folded

TEXTS = st.text(st.sampled_from("aZ ?\n\x1fé\u0301\u0323ﬁ“…数가Å\u200d😀"), max_size=30)


@given(text=TEXTS)
@example(text="a\u0323\u0301e\u0301\u0323")
def test_folding_the_other_characters_alone_is_folding_the_whole(text):
    decomposed = unicodedata.normalize(
        "NFKD", text.replace(SEPARATOR, "?").translate(str.maketrans(EQUIVALENTS))
    )
    bare = "".join(c for c in decomposed if not unicodedata.combining(c))
    expected = bare.encode("ascii", "replace").decode() or ("?" if text else "")
    assert fold(text) == expected


@given(text=TEXTS)
def test_letters_are_counted_as_one_by_one(text):
    counts = LeftOut(source="made")
    counts.count_folding(text)
    fates = [(*_folded(character), n) for character, n in Counter(text).items()]
    assert counts.letters == sum(n for is_letter, _, n in fates if is_letter)
    assert counts.accents_lost == sum(n for _, fate, n in fates if fate == "accent")
    assert counts.letters_lost == sum(n for letter, fate, n in fates if letter and fate == "lost")
    assert counts.symbols_lost == sum(
        n for letter, fate, n in fates if not letter and fate == "lost"
    )


@given(texts=st.lists(TEXTS, max_size=4))
def test_counts_of_parts_add_up_to_those_of_the_whole(texts):
    whole, sum_of_parts = LeftOut(source="made"), LeftOut(source="made")
    for text in texts:
        part = LeftOut(source="made")
        for counts in (whole, part):
            counts.count_folding(text)
        sum_of_parts.add(part)
    assert sum_of_parts == whole
