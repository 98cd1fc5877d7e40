import pytest

from llama_core.corpus.config import CorpusConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": ({"kind": "tokens", "path": "a"}, {"kind": "files", "path": "b"})}, "Use one"),
        (
            {"sources": ({"kind": "tokens", "path": "a"},
                         {"kind": "tokens", "path": "b", "name": "b", "tokenizer": "c"})},
            "different tokenizers",
        ),
        (
            {"sources": ({"kind": "tokens", "path": "a"},), "near_duplicates": "drop"},
            "compares texts",
        ),
    ],
)  # fmt: skip
def test_a_corpus_that_mixes_text_and_tokens_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        CorpusConfig.model_validate(changes)
