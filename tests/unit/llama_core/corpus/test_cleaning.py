"""What is normalised, left out and held out of a text."""

import pytest

from llama_core.corpus.cleaning import in_validation, normalise
from tests.core_tools import leaked, story, without_repeats


def test_normalising_folds_to_ascii_only_where_asked():
    text = "café “quoted” — naïve\r\n\r\n\r\n\r\nend  \n数"
    assert normalise(text, ascii_only=True) == 'cafe "quoted" - naive\n\nend\n?'
    assert normalise(text, ascii_only=False) == "café “quoted” — naïve\n\nend\n数"


def test_a_document_or_a_long_paragraph_seen_before_is_dropped():
    new, seen = story(0, 4), story(1, 4)
    kept, counts = without_repeats([seen, seen, seen + "\n\n" + new])
    assert kept == [seen, new]
    assert counts.repeats == 1
    assert counts.characters_repeated == len(seen) + len(seen) - 2 * 3


def test_a_document_of_short_paragraphs_is_kept_while_one_of_them_is_new():
    verses = [f"A line of verse, the number {number}." for number in range(6)]
    first, second = "\n\n".join(verses[:4]), "\n\n".join(verses[1:5])
    # In another order they are nothing new.
    kept, counts = without_repeats([first, second, "\n\n".join(reversed(verses[:5]))])
    assert kept == [first, second]
    assert counts.later_rule
    assert counts.repeats == 1
    # The default corpus is cleaned by the first version's rule.
    assert without_repeats([first], short_is_new=False)[0] == []


def test_a_near_duplicate_is_found_and_a_different_text_is_not():
    original = story(0, 40)
    edited = original.replace("model", "modell", 3)
    training = original + "\n\n" + story(2, 40)
    assert leaked(edited, training)
    assert not leaked(story(9, 40), training)


def test_a_fifth_of_many_documents_is_held_out():
    held = sum(in_validation(str(number), 0.2, 0) for number in range(5_000))
    # Three standard deviations of a count of 5,000 draws at 0.2 are 85.
    assert held == pytest.approx(1_000, abs=85)


def test_a_text_with_a_third_in_training_is_a_near_duplicate_and_with_a_tenth_is_not():
    whole, other = story(0, 60).split("\n\n"), story(9, 60).split("\n\n")
    for copied, is_duplicate in ((6, False), (20, True)):
        mixed = "\n\n".join([*whole[:copied], *other[copied:]])
        assert leaked(mixed, story(0, 60)) is is_duplicate
