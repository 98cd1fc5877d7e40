"""Benchmark results are read in order, each with the doubts that a reader should have."""

import json

import pytest

from flows.runs.directory import RunDir
from flows.runs.evaluations import FOLDER, Evaluation, evaluations, read

RESULT = Evaluation(
    benchmark="arc", family="lm", task="arc_easy", metric="acc", tokens=1024,
    weights_sha256="0", shots=0, limit=None, questions=9, questions_sha256="0", score=50.0,
    score_stderr=1.0, chance=25.0, answer_bpb=None, answer_bpb_stderr=None, requests=2000, cut=0,
    unknown=0, answer_tokens=None, harness="1", device="cpu", dtype="float32", elapsed_s=1.0,
    at=1.0,
)  # fmt: skip


def test_results_are_in_order_of_horizon_family_benchmark_and_time(tmp_path):
    run = RunDir(tmp_path)
    (run.path / FOLDER).mkdir()
    order = [
        {"tokens": 1024, "family": "a", "benchmark": "z", "at": 9.0},
        {"tokens": 1024, "family": "b", "benchmark": "a", "at": 2.0},
        {"tokens": 1024, "family": "b", "benchmark": "a", "at": 3.0},
        {"tokens": 1024, "family": "b", "benchmark": "b", "at": 1.0},
        {"tokens": 2048, "family": "a", "benchmark": "a", "at": 0.0},
    ]
    wanted = [RESULT.model_copy(update=changes) for changes in order]
    for number, result in enumerate(reversed(wanted)):
        (run.path / FOLDER / f"{number}.json").write_text(result.model_dump_json())
    assert evaluations(run) == wanted


def test_a_damaged_result_is_skipped_and_logged(tmp_path, caplog):
    run = RunDir(tmp_path)
    (run.path / FOLDER).mkdir()
    (run.path / FOLDER / "good.json").write_text(RESULT.model_dump_json())
    (run.path / FOLDER / "bad.json").write_text(json.dumps({"benchmark": "arc"}))
    assert evaluations(run) == [RESULT]
    assert "bad.json is damaged" in caplog.text
    assert read(tmp_path / "none.json") is None


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"limit": 1500}, "only the first 1,500 questions"),
        ({"cut": 1200}, "1,200 of 2,000 prompts and their answers were longer"),
        ({"unknown": 3}, "3 of 2,000 prompts have characters"),
        ({"answer_tokens": 64}, "answers ended at 64 tokens"),
    ],
)
def test_every_limit_of_a_score_is_a_doubt_of_its_own(changes, doubt):
    [found] = RESULT.model_copy(update=changes).doubts()
    assert found.startswith(doubt)
    assert RESULT.doubts() == []
