"""A benchmark run by EleutherAI's lm-evaluation-harness."""

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import datasets
import lm_eval.api.task
import numpy as np
from lm_eval.api.group import Group
from lm_eval.api.task import Task
from lm_eval.evaluator import evaluate as run_harness

from flows.evaluation.benchmarks import Benchmark
from flows.evaluation.harness_model import HarnessModel
from flows.evaluation.harness_tasks import leaves, set_shots

datasets.disable_progress_bars()
# The harness shows this bar whatever TQDM_DISABLE says.
lm_eval.api.task.tqdm = lambda rows, **_: rows
# No warnings about retries; `QuestionsMissing` reports a failure.
logging.getLogger("huggingface_hub").setLevel(logging.ERROR)

# Version of our part in prompts and scoring; after a change nothing cached is used.
ADAPTER_VERSION = 1


@dataclass(frozen=True, slots=True)
class BenchmarkScore:
    """A model's score on a benchmark, by the harness.

    Attributes:
        score: in percent, with its standard error over the questions.
        answer_bpb: bits per byte of the right answers given their questions, with its standard
            error; None if answers are generated, not chosen. Falls smoothly long before accuracy
            leaves chance.
        questions_sha256: hash of the questions' hashes, in order.
        rows: for each question its number, the right answer, the model's answers and points.
    """

    score: float
    score_stderr: float | None
    answer_bpb: float | None
    answer_bpb_stderr: float | None
    questions_sha256: str
    rows: tuple[dict[str, Any], ...]


def harness_version() -> str:
    """Version of the harness; prompts and scores depend on it."""
    return version("lm_eval")


def run(
    benchmark: Benchmark,
    questions: Task | Group,
    model: HarnessModel,
    *,
    shots: int,
    limit: int | None,
) -> BenchmarkScore:
    """Run a benchmark on a model.

    Args:
        shots: solved examples before each question.
        limit: most questions of each of its tasks; None for all.
    """
    tasks = leaves(questions)
    for task in tasks:
        set_shots(task, shots)
    results = run_harness(
        lm=model, task_dict={"tasks": {task.task_name: task for task in tasks}, "groups": {}},
        limit=limit, confirm_run_unsafe_code=benchmark.runs_code,
    )  # fmt: skip
    metric, _, chosen = benchmark.score.partition(",")
    points: list[float] = []
    bits: list[float] = []
    rows: list[dict[str, Any]] = []
    for task in tasks:
        for sample in results["samples"][task.task_name]:
            if sample["filter"] != chosen:
                continue
            points.append(100 * float(sample[metric]))
            if task.OUTPUT_TYPE == "multiple_choice":
                bits.append(_answer_bits_per_byte(task, sample, model))
            rows.append(
                {
                    "task": task.task_name,
                    "question": sample["doc_id"],
                    "question_sha256": sample["doc_hash"],
                    "right": sample["target"],
                    "answers": sample["resps"],
                    "points": points[-1],
                }
            )
    return BenchmarkScore(
        score=float(np.mean(points)),
        score_stderr=_stderr(points),
        answer_bpb=float(np.mean(bits)) if bits else None,
        answer_bpb_stderr=_stderr(bits) if bits else None,
        questions_sha256=hashlib.sha256(
            "".join(row["question_sha256"] for row in rows).encode()
        ).hexdigest(),
        rows=tuple(rows),
    )


def _answer_bits_per_byte(task: Task, sample: dict[str, Any], model: HarnessModel) -> float:
    """Bits per byte of the right choice as the tokenizer encodes it, with its leading space."""
    # If choices differ in the question, `doc_to_text` gives the index of the right one.
    right = task.doc_to_text(sample["doc"]) if task.multiple_input else sample["target"]
    if not isinstance(right, int):
        right = task.doc_to_choice(sample["doc"]).index(right)
    log_probability = sample["filtered_resps"][right][0]
    read = model.as_read(sample["arguments"][right][1])
    return float(-log_probability / math.log(2) / len(read.encode()))


def _stderr(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
