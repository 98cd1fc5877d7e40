"""What was read, in words and as data."""

import shlex

from analysis.table.sources import Source, quoted, read_json, read_words


def test_a_sentence_names_columns_units_and_odd_numbers_in_a_readers_order() -> None:
    sources = (
        Source("val_loss", "ln(ppl)", arithmetic=True),
        Source("tokens", "Tokens", written="300B"),
        Source("n_params", "N"),
        Source("weight", "w"),
    )
    assert read_words(sources) == (
        "N from 'N' (parameters), D from 'Tokens' (tokens, written as 300B), "
        "loss from ln(ppl), weight from 'w'"
    )
    assert read_json(sources)["tokens"] == {"from": "Tokens", "unit": "tokens", "written": "300B"}


def test_columns_under_our_own_names_are_listed_only() -> None:
    own = [Source(name, name) for name in ("n_params", "n_params_total", "tokens", "val_loss")]
    assert read_words(own) == "isoflop's own columns n_params, tokens, val_loss"
    assert read_words(()) == "isoflop's own columns"


def test_other_counts_of_n_are_named_apart_from_the_fits() -> None:
    words = read_words((Source("n_params", "params"), Source("n_params_non_embedding", "body")))
    assert words == "N from 'params' (parameters); other counts of N: 'body'"


def test_a_factor_is_put_on_columns_and_on_arithmetic() -> None:
    assert Source("tokens", "D (B)").times("1e9") == """--map 'tokens="D (B)"*1e9'"""
    command = Source("tokens", "people's").times("1e9")
    assert shlex.split(command) == ["--map", """tokens="people's"*1e9"""]
    assert Source("tokens", "a+b", True).times("1e9") == "--map 'tokens=(a+b)*1e9'"
    assert quoted('a "b"') == '"a ""b"""'
