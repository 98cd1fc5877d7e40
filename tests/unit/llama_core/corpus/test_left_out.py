import pytest

from llama_core.corpus.left_out import LeftOut


def folded(text, **counts):
    counted = LeftOut(source="files", characters=len(text), **counts)
    counted.count_folding(text)
    return counted


@pytest.mark.parametrize(
    ("text", "letters", "lost", "accents", "symbols"),
    [
        ("Plain text, 12 ?!", 9, 0, 0, 0),
        ("‘quoted’ – … × •", 6, 0, 0, 0),
        ("café", 4, 0, 1, 0),
        ("cafe\u0301", 4, 0, 1, 0),
        ("straße æ ł", 8, 3, 0, 0),
        ("αβγ abc", 6, 3, 0, 0),
        ("数。字", 2, 2, 0, 1),
        ("yes 😀😀", 3, 0, 0, 2),
        # The vowel sign is a mark of its own, and as lost as the letter before it.
        ("कि", 2, 2, 0, 0),
        ("ﬁne", 3, 0, 0, 0),
    ],
)
def test_letters_and_what_folding_does_to_them_are_counted(text, letters, lost, accents, symbols):
    counted = folded(text)
    assert (counted.letters, counted.letters_lost) == (letters, lost)
    assert (counted.accents_lost, counted.symbols_lost) == (accents, symbols)


@pytest.mark.parametrize(
    ("text", "serious"),
    [
        ("a" * 980 + "ł" * 20, True),
        ("a" * 995 + "ł" * 5, False),
        ("a" * 940 + "é" * 60, True),
        ("a" * 980 + "é" * 20, False),
        ("a" * 980 + "→" * 20, True),
        ("a" * 995 + "→" * 5, False),
    ],
)
def test_a_small_share_is_a_remark_and_a_large_one_a_warning(text, serious):
    [note] = folded(text).notes(512)
    assert note.serious is serious
    assert note.text.endswith("--set corpus.characters=unicode keeps them.")


def test_text_that_folding_leaves_as_it_is_has_no_note():
    assert folded("A “plain” text – nothing more.").notes(512) == []


def test_a_small_vocabulary_is_told_to_grow_with_the_characters():
    [note] = folded("αβγ").notes(300)
    assert "--set corpus.characters=unicode --set corpus.vocab_size=512" in note.text


def test_every_count_has_its_sentence_and_the_letters_come_first():
    counts = folded(
        "αβγ" * 100,
        documents=10,
        bytes=5_000,
        files=("a.pdf", "b.pdf", "c.pdf", "d.pdf"),
        files_bytes=10,
        rows=50,
        rows_without_text=1,
        repeats=1,
        characters_repeated=15,
        near_duplicates=2,
    )
    assert [note.text.removeprefix("source 'files': ") for note in counts.notes(512)] == [
        "100 % of the letters become ? (α β γ …), as corpus.characters=ascii. "
        "--set corpus.characters=unicode keeps them.",
        "4 files are not read (a.pdf, b.pdf, c.pdf and 1 more). Give text as .txt, .md, .jsonl, "
        ".json or .parquet.",
        "1 of 50 rows have no text in 'text' and are skipped.",
        "5 % of the text repeats and is dropped, 1 of 10 documents hold nothing new, 2 of 10 "
        "documents nearly equal others and are dropped.",
    ]
    assert [note.serious for note in counts.notes(512)] == [True, False, True, True]
