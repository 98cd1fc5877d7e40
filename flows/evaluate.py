"""Benchmarks put to a trained model; every answer paid for is kept beside the run."""

import fcntl
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from flows.answers import Answers
from flows.benchmarks import Benchmark, benchmark_named
from flows.rundir import RunBusyError, RunDir, now, write_whole
from llama_core.config import Frozen, Placement

if TYPE_CHECKING:
    from flows.trained import Trained

log = logging.getLogger(__name__)

# Tokens through the model at once: a GPU is busy from here on; more only takes memory.
_BATCH_TOKENS = {"cuda": 32_768, "cpu": 4_096}
_FOLDER = "evaluations"

HEADER = ("benchmark", "shots", "questions", "score %", "guess", "bits/byte")


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


class Evaluator:
    """One horizon of a run, its weights loaded, ready to be asked.

    Use as a context: a run is evaluated by one process at a time.
    """

    def __init__(self, trained: "Trained", device: str = "auto") -> None:
        """Args:
        device: as in a placement.

        Raises:
            ValueError: damaged weights, or no such device.
        """
        from llama_core.machine import attention_backend, resolve_device

        self._run, self._tokens = trained.run, trained.tokens
        self._train = trained.planned.run.train
        self._placement = Placement(device=device)
        self._device = resolve_device(device)
        backend = attention_backend(self._placement, self._device, self._train.seq_len)
        self._net, self._sha256 = trained.load(backend)
        self._net.to(self._device).eval()
        self._tokenizer = trained.corpus.tokenizer()
        self._folder = trained.run.path / _FOLDER

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the run's evaluations.

        Raises:
            RunBusyError: another process holds them.
        """
        self._folder.mkdir(exist_ok=True)
        with (self._folder / "lock").open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunBusyError(
                    f"run {self._run.id} is being evaluated by another process"
                ) from error
            yield

    def evaluate(
        self,
        benchmark: Benchmark,
        *,
        shots: int | None = None,
        limit: int | None = None,
        advance: Callable[[int, int], None] = lambda done, total: None,
    ) -> Evaluation:
        """A benchmark's result: the one that is there, or asked now.

        A kill loses none of the answers given before it, and more questions of a benchmark cost
        only those that were not asked yet.

        Args:
            shots: solved examples before each question; the benchmark's own number if None.
            limit: ask only so many questions of each of its tasks.
            advance: told how many requests are answered, and of how many.

        Raises:
            flows.harness.QuestionsMissing: the questions cannot be read.
        """
        from flows.harness import HarnessModel, ask, harness_version, load_benchmark
        from llama_core.machine import machine_settings

        shots = benchmark.shots if shots is None else shots
        kept = self._answers_path(benchmark, shots)
        first = "" if limit is None else f"-first{limit}"
        path = kept.with_name(f"{kept.stem}{first}.json")
        found = _read(path)
        if found is not None:
            return found
        questions = load_benchmark(benchmark)
        started = now()
        with (
            Answers(kept) as answers,
            machine_settings(self._placement, self._device, "float32"),
        ):
            model = HarnessModel(
                self._net, self._tokenizer, answers, seq_len=self._train.seq_len,
                batch_tokens=_BATCH_TOKENS[self._device.type], half=self._half, advance=advance,
            )  # fmt: skip
            marks = ask(benchmark, questions, model, shots=shots, limit=limit)
        result = Evaluation(
            benchmark=benchmark.name,
            family=benchmark.family,
            task=benchmark.task,
            metric=benchmark.metric,
            tokens=self._tokens,
            weights_sha256=self._sha256,
            shots=shots,
            limit=limit,
            questions=len(marks.rows),
            questions_sha256=marks.questions_sha256,
            score=marks.score,
            score_stderr=marks.score_stderr,
            chance=benchmark.chance,
            answer_bpb=marks.answer_bpb,
            answer_bpb_stderr=marks.answer_bpb_stderr,
            requests=model.requests,
            cut=model.cut,
            unknown=model.unknown,
            answer_tokens=model.shortened,
            harness=harness_version(),
            device=self._device.type,
            dtype=self._dtype,
            elapsed_s=now() - started,
            at=now(),
        )
        lines = (json.dumps(row, default=str) + "\n" for row in marks.rows)
        write_whole(path.with_suffix(".jsonl"), "".join(lines))
        write_whole(path, result.model_dump_json(indent=1))
        return result

    @property
    def _half(self) -> bool:
        return self._device.type == "cuda" and self._train.dtype == "bfloat16"

    @property
    def _dtype(self) -> str:
        return "bfloat16" if self._half else "float32"

    def _answers_path(self, benchmark: Benchmark, shots: int) -> Path:
        """Where answers are kept that may stand for one another, however many were asked."""
        from flows.harness import ADAPTER_VERSION, harness_version

        asked = [benchmark.task, benchmark.score, shots, self._sha256, self._dtype]
        asked += [harness_version(), ADAPTER_VERSION]
        key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]
        return self._folder / f"{self._tokens}-{benchmark.name}-{key}.answers"


def evaluations(run: RunDir) -> list[Evaluation]:
    """A run's results, in order of horizon and benchmark."""
    found = (_read(path) for path in sorted((run.path / _FOLDER).glob("*.json")))
    return sorted(
        (result for result in found if result is not None),
        key=lambda result: (result.tokens, result.family, result.benchmark, result.at),
    )


def published(result: Evaluation) -> dict[str, float]:
    """Scores of other models on the same benchmark with as many shots, by model, in percent."""
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


def document(trained: "Trained", found: Sequence[Evaluation]) -> dict[str, Any]:
    """Results of one horizon as plain data, others' beside them."""
    return {
        "run": trained.run.id,
        "horizon": trained.tokens,
        "results": [
            one.model_dump(mode="json") | {"doubts": one.doubts(), "published": published(one)}
            for one in found
        ],
    }


def _with_error(value: float | None, error: float | None, digits: int) -> str:
    if value is None:
        return ""
    return f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if error is not None else "")


def _read(path: Path) -> Evaluation | None:
    try:
        return Evaluation.model_validate_json(path.read_text())
    except FileNotFoundError:
        return None
    except ValidationError:
        log.warning("%s is damaged or of another version: it is passed over", path)
        return None
