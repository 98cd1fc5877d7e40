"""Evaluations as table rows and as JSON, with published scores beside them."""

from collections.abc import Sequence
from typing import Any

from flows.evaluation.benchmarks import benchmark_named
from flows.results.trained import Trained
from flows.runs.evaluations import Evaluation

HEADER = ("benchmark", "shots", "questions", "score %", "guess", "bits/byte")


def published(result: Evaluation) -> dict[str, float]:
    """Other models' scores on the same benchmark with the same shots, by model, in percent."""
    import polars as pl

    from analysis.published import results

    benchmark = benchmark_named(result.benchmark)
    shots = [str(result.shots)]
    if result.shots == benchmark.shots:
        shots.append("few")
    rows = results().filter(
        pl.col("benchmark") == (benchmark.published or benchmark.name),
        pl.col("metric") == result.metric,
        pl.col("shots").is_in(shots),
    )
    return dict(rows.select("model", "value").iter_rows())


def row_of(result: Evaluation) -> list[object]:
    """A result as a row under `HEADER`."""
    return [
        result.benchmark,
        result.shots,
        result.questions,
        _with_error(result.score, result.score_stderr, 1),
        f"{result.chance:.0f}",
        _with_error(result.answer_bpb, result.answer_bpb_stderr, 3),
    ]


def document(trained: Trained, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Results of one horizon as plain data, with other models' scores."""
    return {
        "run": trained.run.id,
        "horizon": trained.tokens,
        "results": [
            result.model_dump(mode="json")
            | {"doubts": result.doubts(), "published": published(result)}
            for result in evaluations
        ],
    }


def _with_error(value: float | None, error: float | None, digits: int) -> str:
    if value is None:
        return ""
    return f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if error is not None else "")
