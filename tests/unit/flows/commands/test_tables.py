"""Columns that options name."""

import pytest

from flows.commands.tables import column_mapping


def test_blanks_around_the_names_of_columns_do_not_count():
    assert column_mapping([" tokens = steps*batch ", "val_loss=a=b"]) == {
        "tokens": "steps*batch",
        "val_loss": "a=b",
    }


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (["val_loss=a", "val_loss =b"], "--map names 'val_loss' twice: 'a' and 'b'."),
        ([" =a"], "--map ' =a' should read NAME=COLUMN"),
        (["val_loss"], "--map 'val_loss' should read NAME=COLUMN"),
        (["val_loss="], "--map 'val_loss=' should read NAME=COLUMN"),
    ],
)
def test_a_name_given_twice_or_not_at_all_is_refused(pairs, words, capsys):
    with pytest.raises(SystemExit):
        column_mapping(pairs)
    assert words in capsys.readouterr().err
