"""The exit status of a training says whether it may be tried again."""

import runpy
import sys

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


def test_the_module_trains_the_run_of_its_arguments(monkeypatch, tmp_path):
    trained = []
    monkeypatch.setattr(
        "flows.training.execute.execute", lambda run, home: trained.append((run.id, home.root))
    )
    monkeypatch.setattr("flows.processes.die_with_parent", lambda parent: None)
    monkeypatch.setattr("sys.argv", ["child", str(tmp_path), "abc", "17"])
    monkeypatch.delitem(sys.modules, "flows.training.child")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("flows.training.child", run_name="__main__")
    assert ended.value.code == 0
    assert trained == [("abc", tmp_path)]
