"""The exit status of a training says whether it may be tried again."""

import pytest

from flows.processes import INTERRUPTED, MAY_PASS
from flows.training import child
from flows.training.signals import Interrupted


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, 0),
        (Interrupted("SIGTERM"), INTERRUPTED),
        (OSError("the disk is gone"), MAY_PASS),
        (KeyError("matmul"), 1),
    ],
)
def test_a_training_ends_with_the_status_of_its_error(monkeypatch, tmp_path, capfd, error, status):
    trained, parents = [], []

    def execute(run, home):
        trained.append((run.path, home.root))
        if error is not None:
            raise error

    monkeypatch.setattr("flows.training.execute.execute", execute)
    monkeypatch.setattr(child, "die_with_parent", parents.append)
    assert child.main([str(tmp_path), "abc", "17"]) == status
    assert trained == [(tmp_path / "runs" / "abc", tmp_path)]
    assert parents == [17]
    assert ("Traceback" in capfd.readouterr().err) is (status in (1, MAY_PASS))
