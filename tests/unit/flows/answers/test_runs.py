"""What the runs of a table say before any answer."""

from pathlib import Path

from flows.answers.runs import read_runs
from flows.answers.source import open_source
from tests.others_tables import BASE, write_table


def test_epochs_beside_no_unique_tokens_are_a_doubt_until_they_are_mapped(tmp_path: Path) -> None:
    rows = [(*row, 4.0 if k == 3 else 1.0) for k, row in enumerate(BASE)]
    source = open_source(str(write_table(tmp_path / "t.csv", ("N", "D", "loss", "epochs"), rows)))
    [doubt] = read_runs(source).table.doubts
    assert "runs read theirs up to 4 times" in doubt.sentence
    mapped = read_runs(source, {"unique_tokens": "D/epochs"}).table
    assert mapped.doubts == ()
    assert mapped.used["unique_tokens"][3] == BASE[3][1] / 4
