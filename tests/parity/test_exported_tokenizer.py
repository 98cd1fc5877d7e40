import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.corpus.tokenizer import Tokenizer
from llama_core.exchange.hf_tokenizer import tokenizer_files
from tests.core_tools import story

tokenizers = pytest.importorskip("tokenizers")


def exported_from(made):
    return tokenizers.Tokenizer.from_str(json.dumps(tokenizer_files(made, 64)["tokenizer.json"]))


@pytest.fixture(scope="module")
def folding_pair():
    """A tokenizer that folds to ASCII, and its export."""
    texts = (story(seed) for seed in range(30))
    trained = Tokenizer.train(texts, vocab_size=350, byte_fallback=False, alphabet="?*()/^~,")
    made = Tokenizer(trained.model, ascii_only=True)
    return made, exported_from(made)


def test_the_exported_tokenizer_folds_every_character_as_training_did(folding_pair):
    made, exported = folding_pair
    # Block by block: a million calls of one character each take twelve times as long.
    different = [
        hex(block)
        for block in range(0, 0x110000, 256)
        if not 0xD800 <= block < 0xE000
        and exported.normalizer.normalize_str(text := "".join(map(chr, range(block, block + 256))))
        != made.as_read(text).replace(" ", "▁")
    ]
    assert different == []


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=200, deadline=None)
def test_the_exported_tokenizer_gives_the_ids_of_folded_text(folding_pair, text):
    made, exported = folding_pair
    assert exported.encode(text).ids == [1, *made.encode(text)]


def test_an_export_without_a_space_in_its_vocabulary_gives_our_ids():
    made = Tokenizer.train(iter([story(0).replace(" ", "")]), vocab_size=512, byte_fallback=True)
    exported = exported_from(made)
    for text in ("model falls", "a ▁ b", "  数 "):
        assert exported.encode(text).ids == [1, *made.encode(text)]
        assert exported.decode(made.encode(text)) == made.decode(made.encode(text)) == text
