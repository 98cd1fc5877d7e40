"""A rank that fails leaves the result that rank 0 cannot write any more."""

import pytest
import torch

from flows.runs.curve import CurveWriter
from flows.runs.directory import RunDir
from flows.settings import Home
from flows.training import ranks
from tests.fakes import evaluation, planned_run


def test_memory_that_ends_on_another_rank_keeps_the_losses_on_the_curve(tmp_path, monkeypatch):
    class Corpus:
        def open(self, train):
            return None

    def train(*_, **__):
        raise torch.OutOfMemoryError("no room\nfor more")

    monkeypatch.setattr("llama_core.corpus.prepared.find_corpus", lambda root, digest: Corpus())
    monkeypatch.setattr("llama_core.train.train", train)
    monkeypatch.setenv("RANK", "1")
    planned = planned_run()
    run = RunDir(tmp_path / "runs" / planned.id)
    run.create(planned)
    curve = CurveWriter(run.curve_path)
    curve.append(evaluation(20))
    curve.close()
    with pytest.raises(torch.OutOfMemoryError):
        ranks._follow(run, Home(tmp_path))
    result = run.result()
    assert (result.status, result.reason) == ("out_of_memory", "rank 1: no room")
    assert [observation.tokens for observation in result.observations] == [20 * 1024]
