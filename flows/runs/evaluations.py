"""Benchmark results kept beside a run."""

from pathlib import Path

from flows.files import read_or_warn
from flows.runs.directory import RunDir
from llama_core.config import Frozen

FOLDER = "evaluations"


class Evaluation(Frozen):
    """A benchmark's result.

    Attributes:
        tokens: the horizon of the weights evaluated.
        shots: solved examples before each question.
        limit: number of questions used from each task; None: all.
        questions_sha256: hash of the questions' own hashes, in order.
        score: percent of `metric`; `score_stderr` is over the questions, `chance` that of guessing.
        answer_bpb: bits per byte of the right answers given their questions; None where the model
            writes its answers.
        requests: prompts given to the model; `cut` of them lost their beginning, and `unknown`
            of them have characters that the tokenizer lacks.
        answer_tokens: the limit on written answers, where it is below the benchmark's.
        harness: version of lm-evaluation-harness, which gives prompts and scoring.
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
        """Warnings for a reader of the score."""
        warnings = []
        if self.limit is not None:
            warnings.append(f"only the first {self.limit:,} questions of each task were asked.")
        if self.cut:
            warnings.append(
                f"{self.cut:,} of {self.requests:,} prompts and their answers were longer than the "
                "sequences of the training and lost their beginning; fewer --shots are shorter."
            )
        if self.unknown:
            warnings.append(
                f"{self.unknown:,} of {self.requests:,} prompts have characters that the run's "
                "tokenizer lacks, or folds to a question mark."
            )
        if self.answer_tokens is not None:
            warnings.append(
                f"answers ended at {self.answer_tokens} tokens, half the sequences of the "
                "training; the benchmark allows more."
            )
        return warnings


def evaluations(run: RunDir) -> list[Evaluation]:
    """A run's results, in order of horizon and benchmark."""
    results = (read(path) for path in sorted((run.path / FOLDER).glob("*.json")))
    return sorted(
        (result for result in results if result is not None),
        key=lambda result: (result.tokens, result.family, result.benchmark, result.at),
    )


def read(path: Path) -> Evaluation | None:
    """The result in a file; None, and a line in the log if it is damaged."""
    return read_or_warn(path, Evaluation, "skipped")
