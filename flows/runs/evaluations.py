"""Benchmark results kept beside a run."""

import logging
from pathlib import Path

from pydantic import ValidationError

from flows.runs.directory import RunDir
from llama_core.config import Frozen

log = logging.getLogger(__name__)

FOLDER = "evaluations"


class Evaluation(Frozen):
    """A benchmark's result.

    Attributes:
        tokens: the horizon whose weights were asked.
        shots: solved examples before each question.
        limit: only so many questions of each of its tasks were asked; all if None.
        questions_sha256: hash of the questions' own hashes, in order.
        score: percent of `metric`; `score_stderr` is over the questions, `chance` what guesses get.
        answer_bpb: bits per byte of the right answers given their questions; None where answers
            are written.
        requests: texts put to the model, of which `cut` lost the beginning of their prompt and
            `unknown` held characters its tokenizer does not know.
        answer_tokens: the most tokens a written answer could have, where less than asked.
        harness: version of lm-evaluation-harness, whose prompts and scoring these are.
    """

    benchmark: str
    family: str
    task: str
    metric: str
    tokens: int
    weights_sha256: str
    shots: int
    limit: int | None
    questions: int
    questions_sha256: str
    score: float
    score_stderr: float | None
    chance: float
    answer_bpb: float | None
    answer_bpb_stderr: float | None
    requests: int
    cut: int
    unknown: int
    answer_tokens: int | None
    harness: str
    device: str
    dtype: str
    elapsed_s: float
    at: float

    def doubts(self) -> list[str]:
        """What a reader of the score must know."""
        told = []
        if self.limit is not None:
            told.append(f"only the first {self.limit:,} questions of each task were asked.")
        if self.cut:
            told.append(
                f"{self.cut:,} of {self.requests:,} prompts did not fit into what the model was "
                "trained on, with the room for an answer, and lost their beginning; fewer --shots "
                "are shorter."
            )
        if self.unknown:
            told.append(
                f"{self.unknown:,} of {self.requests:,} texts hold characters that the run's "
                "tokenizer does not know, or folds to a question mark."
            )
        if self.answer_tokens is not None:
            told.append(
                f"answers ended at {self.answer_tokens} tokens, half of what the model was "
                "trained on; the benchmark allows more."
            )
        return told


def evaluations(run: RunDir) -> list[Evaluation]:
    """A run's results, in order of horizon and benchmark."""
    found = (read(path) for path in sorted((run.path / FOLDER).glob("*.json")))
    return sorted(
        (result for result in found if result is not None),
        key=lambda result: (result.tokens, result.family, result.benchmark, result.at),
    )


def read(path: Path) -> Evaluation | None:
    try:
        return Evaluation.model_validate_json(path.read_text())
    except FileNotFoundError:
        return None
    except ValidationError:
        log.warning("%s is damaged or of another version: it is passed over", path)
        return None
