import numpy as np
import pytest

from llama_core.corpus.documents import CorpusError
from llama_core.corpus.steps.encoder import Encoder
from llama_core.corpus.tokenizer import BOS, EOS, UNKNOWN, Tokenizer
from tests.core_tools import story


def trained(*texts, size=560, byte_fallback=True, alphabet=""):
    return Tokenizer.train(
        iter(texts), vocab_size=size, byte_fallback=byte_fallback, alphabet=alphabet
    )


SPACED = [story(seed) for seed in range(8)]
SPACELESS = [text.replace(" ", "") for text in SPACED]


@pytest.mark.parametrize("texts", [SPACED, SPACELESS], ids=["spaces", "no spaces"])
@pytest.mark.parametrize(
    "text", [" ", "a b", "a▁b", "▁ ▁", "  two\n\n", "▅<unk></s><0x41>", "数 é"]
)
def test_every_text_costs_its_bytes_and_comes_back(texts, text):
    made = trained(*texts)
    ids = made.encode(text)
    assert made.decode(ids) == text
    assert made.piece_bytes()[ids].sum() == len(text.encode())
    encoded = np.frombuffer(Encoder(made).document(text), "<u2")
    assert encoded.tolist() == [BOS, *ids, EOS]


def test_an_alphabet_gives_characters_a_piece_that_the_text_lacks():
    without = trained(*SPACED, size=300, byte_fallback=False)
    assert without.unknown("a#~\t") == "\t#~"
    assert UNKNOWN in without.encode("#~")
    made = trained(*SPACED, size=300, byte_fallback=False, alphabet="\t#~")
    assert made.unknown("a#~\t") == ""
    assert made.decode(made.encode("a#~\t")) == "a#~\t"


def test_an_alphabet_that_is_empty_leaves_the_model_as_it_was():
    assert trained(*SPACED).model == trained(*SPACED, alphabet="").model


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("0123 456", {"size": 300, "byte_fallback": False}, r"at most \d+ pieces.*at least 300"),
        ("0123 456", {}, r"at most \d+ pieces.*at least 512"),
        ("".join(map(chr, range(0x4E00, 0x5200))), {}, r"needs 1,283 .*corpus\.vocab_size=2048"),
        (story(0), {"size": 9_000}, r"corpus\.vocab_size=9,000.*--set corpus\.vocab_size=\d+$"),
        ("", {}, "no tokenizer can be trained"),
    ],
)
def test_a_vocabulary_that_cannot_be_says_what_to_set(text, settings, message):
    with pytest.raises(CorpusError, match=message) as refusal:
        trained(text, **settings)
    assert "\n" not in str(refusal.value)


def test_the_size_that_a_refusal_names_works():
    with pytest.raises(CorpusError) as refusal:
        trained(story(0), size=9_000)
    size = int(str(refusal.value).rpartition("=")[2])
    assert trained(story(0), size=size).vocab_size == size


@pytest.mark.parametrize("characters", ["ascii", "unicode"])
def test_tokens_decode_to_the_same_text(characters):
    train = [story(seed) for seed in range(30)]
    byte_fallback = characters == "unicode"
    size = 600 if byte_fallback else 350
    made = Tokenizer.train(iter(train), vocab_size=size, byte_fallback=byte_fallback)
    text = "  Loss 1234\n\n\tfalls  twice" + (" — 数字 é" if byte_fallback else "")
    ids = made.encode(text)
    known = [piece for piece in ids if piece]
    if byte_fallback:
        assert made.decode(ids) == text
        assert int(made.piece_bytes()[ids].sum()) == len(text.encode())
    else:
        # Tabs never occurred in training and there are no byte pieces to fall back on.
        assert made.decode(known).replace("\t", "") == text.replace("\t", "")


def test_digits_are_split():
    made = Tokenizer.train((story(seed) for seed in range(30)), vocab_size=300, byte_fallback=False)
    assert len(made.encode("9876")) >= 4
