"""Benchmarks run on a trained model; every answer is cached beside the run."""

import hashlib
import importlib.util
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.evaluation.answers import Answers
from flows.evaluation.benchmarks import Benchmark
from flows.files import now, try_lock, write_whole
from flows.results.trained import Trained
from flows.runs.directory import RunBusyError
from flows.runs.evaluations import FOLDER, Evaluation, read
from llama_core.config import Placement

# Tokens through the model at once. More does not keep a GPU busier and takes memory.
_BATCH_TOKENS = {"cuda": 32_768, "cpu": 4_096}


def require_harness() -> None:
    """Check that lm-evaluation-harness is installed, and silence the bars of what it imports.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to install it.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise ModuleNotFoundError(
            "benchmarks are scored with lm-evaluation-harness, which is not installed. "
            "Install it: make setup in the clone, or pip install 'isoflop[eval]'"
        )
    # Our progress bar replaces theirs; tqdm reads this when it is imported.
    os.environ.setdefault("TQDM_DISABLE", "1")


class Evaluator:
    """Runs benchmarks on one horizon of a run, its weights loaded."""

    def __init__(self, trained: Trained, device: str = "auto") -> None:
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
        self._half = self._device.type == "cuda" and self._train.dtype == "bfloat16"
        self._dtype = "bfloat16" if self._half else "float32"
        self._tokenizer = trained.corpus.tokenizer()
        self._folder = trained.run.path / FOLDER

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the run's evaluations: one process evaluates a run at a time.

        Raises:
            RunBusyError: another process has the lock.
        """
        self._folder.mkdir(exist_ok=True)
        with (self._folder / "lock").open("a") as handle:
            if not try_lock(handle):
                raise RunBusyError(f"run {self._run.id} is being evaluated by another process")
            yield

    def evaluate(
        self,
        benchmark: Benchmark,
        *,
        shots: int | None = None,
        limit: int | None = None,
        advance: Callable[[int, int], None] = lambda done, total: None,
    ) -> Evaluation:
        """A benchmark's result: read if there is one, otherwise computed.

        Answers given before a kill are kept, and a higher limit costs only the questions that are
        new.

        Args:
            shots: solved examples before each question; the benchmark's own number if None.
            limit: most questions of each of its tasks.
            advance: called with the number of requests answered and their total.

        Raises:
            flows.evaluation.harness_tasks.QuestionsMissing: the questions cannot be read.
        """
        require_harness()
        from flows.evaluation.harness import harness_version, run
        from flows.evaluation.harness_model import HarnessModel
        from flows.evaluation.harness_tasks import load_benchmark
        from llama_core.machine import machine_settings

        shots = benchmark.shots if shots is None else shots
        cache = self._answers_path(benchmark, shots)
        first = "" if limit is None else f"-first{limit}"
        path = cache.with_name(f"{cache.stem}{first}.json")
        known = read(path)
        if known is not None:
            return known
        questions = load_benchmark(benchmark)
        started = time.monotonic()
        with (
            Answers(cache) as answers,
            machine_settings(self._placement, self._device, "float32"),
        ):
            model = HarnessModel(
                self._net, self._tokenizer, answers, seq_len=self._train.seq_len,
                batch_tokens=_BATCH_TOKENS[self._device.type], half=self._half, advance=advance,
            )  # fmt: skip
            score = run(benchmark, questions, model, shots=shots, limit=limit)
        result = Evaluation(
            benchmark=benchmark.name,
            family=benchmark.family,
            task=benchmark.task,
            metric=benchmark.metric,
            tokens=self._tokens,
            weights_sha256=self._sha256,
            shots=shots,
            limit=limit,
            questions=len(score.rows),
            questions_sha256=score.questions_sha256,
            score=score.score,
            score_stderr=score.score_stderr,
            chance=benchmark.chance,
            answer_bpb=score.answer_bpb,
            answer_bpb_stderr=score.answer_bpb_stderr,
            requests=model.requests,
            cut=model.cut,
            unknown=model.unknown,
            answer_tokens=model.shortened,
            harness=harness_version(),
            device=self._device.type,
            dtype=self._dtype,
            elapsed_s=time.monotonic() - started,
            at=now(),
        )
        lines = (json.dumps(row, default=str) + "\n" for row in score.rows)
        write_whole(path.with_suffix(".jsonl"), "".join(lines))
        write_whole(path, result.model_dump_json(indent=1))
        return result

    def _answers_path(self, benchmark: Benchmark, shots: int) -> Path:
        """Where the answers are cached that every limit of this benchmark shares."""
        from flows.evaluation.harness import ADAPTER_VERSION, harness_version

        identity = [benchmark.task, benchmark.score, shots, self._sha256, self._dtype]
        identity += [harness_version(), ADAPTER_VERSION]
        key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
        return self._folder / f"{self._tokens}-{benchmark.name}-{key}.answers"
