"""Our models under EleutherAI's lm-evaluation-harness. The only module that imports it."""

import importlib.util
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flows.answers import Answers
from flows.benchmarks import Benchmark
from llama_core.generate import generate_rows
from llama_core.model import Llama
from llama_core.score import Score, score_continuations
from llama_core.tokenizer import BOS, EOS, UNKNOWN, Tokenizer

# Our progress bar stands in for those of the harness and of what it loads.
os.environ.setdefault("TQDM_DISABLE", "1")
if importlib.util.find_spec("lm_eval") is None:
    raise ModuleNotFoundError(
        "benchmarks are scored with lm-evaluation-harness, which is not installed. "
        "Install it: pip install 'isoflop[eval]'"
    )

import datasets
import huggingface_hub.constants
import lm_eval.api.task
from lm_eval.api.group import Group
from lm_eval.api.model import TemplateLM
from lm_eval.api.task import ConfigurableTask, Task
from lm_eval.evaluator import evaluate as run_harness
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

# It asks its bars to show whatever that variable says.
lm_eval.api.task.tqdm = lambda rows, **_: rows

_TASKS = Path(lm_eval.__file__).parent / "tasks"
# A task that does not say how long an answer may be gets the harness's usual length.
_ANSWER_TOKENS = 256
_SEED = 1234
_SETTINGS = {"do_sample", "until", "max_gen_toks", "temperature", "top_p"}
_LETTERS = "['A', 'B', 'C', 'D']"
_RACE = {
    "dataset_path": "ehovy/race",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "Article:\n{{article}}\n\nQ: {{question}}\n\nA:",
    "doc_to_choice": "options",
    "doc_to_target": f"{{{{{_LETTERS}.index(answer)}}}}",
    "metadata": {"version": 1.0},
}


class HarnessModel(TemplateLM):  # type: ignore[misc]
    """One of our models as the harness asks it: texts in, likelihoods and texts out.

    Attributes:
        requests: texts it was asked about.
        cut: those that lost the beginning of their prompt, being longer than what the model was
            trained on.
        unknown: those with characters that the tokenizer has no piece for.
        shortened: the most tokens an answer may have, where that is less than the task asks for.
    """

    def __init__(
        self,
        net: Llama,
        tokenizer: Tokenizer,
        answers: Answers,
        *,
        seq_len: int,
        batch_tokens: int,
        half: bool = False,
        advance: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Args:
        answers: where answers are kept as they come, and looked for first.
        seq_len: the longest text the model was trained on.
        batch_tokens: tokens that go through the model at once.
        half: multiply in bf16.
        advance: told how many requests are answered, and of how many.
        """
        super().__init__()
        self._net, self._tokenizer, self._answers = net, tokenizer, answers
        self._seq_len, self._batch_tokens, self._half = seq_len, batch_tokens, half
        self._advance = advance
        self._done = 0
        self.requests = self.cut = self.unknown = 0
        self.shortened: int | None = None
        self._device = net.lm_head.weight.device

    @property
    def eot_token_id(self) -> int:
        """The token that ends a document."""
        return EOS

    @property
    def prefix_token_id(self) -> int:
        """The token that a text without context follows."""
        return BOS

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: object
    ) -> list[int]:
        """Ids of a text; it begins a document unless told otherwise."""
        ids = self._tokenizer.encode(string)
        return ids if add_special_tokens is False else [BOS, *ids]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[Any]:
        """Log-probability of each continuation of its context, and whether it is the greedy one."""
        return list(super().loglikelihood(requests, disable_tqdm=disable_tqdm))

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **kwargs: object
    ) -> list[tuple[float, bool]]:
        pairs = []
        for _, context, continuation in requests:
            room = self._seq_len + 1 - len(continuation)
            if room < 1:
                raise ValueError(
                    f"an answer of {len(continuation)} tokens does not fit into the "
                    f"{self._seq_len} that the model was trained on. Evaluate one that was "
                    "trained on longer texts."
                )
            self._count(context, continuation, room)
            pairs.append((context[-room:], continuation))
        keys = self._ask("loglikelihood", [texts for texts, _, _ in requests])
        missing = [place for place, key in enumerate(keys) if key not in self._answers]
        for at, score in self._scored([pairs[place] for place in missing]):
            self._answer(keys[missing[at]], (score.log_probability, score.greedy))
        return [(self._answers[key][0], self._answers[key][1]) for key in keys]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Log-probability of whole texts, each token given up to `seq_len` before it."""
        keys = self._ask("loglikelihood_rolling", [request.args for request in requests])
        for key, request in zip(keys, requests, strict=True):
            ids = self.tok_encode(request.args[0], add_special_tokens=False)
            self._count(ids, [], len(ids))
            if key not in self._answers:
                windows = get_rolling_token_windows(
                    ids, prefix_token=BOS, max_seq_len=self._seq_len, context_len=1
                )
                scores = self._scored([make_disjoint_window(window) for window in windows])
                self._answer(key, sum(score.log_probability for _, score in scores))
        return [self._answers[key] for key in keys]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Continue each prompt until one of its stop texts, the document's end, or the limit."""
        keys = self._ask("generate_until", [request.args for request in requests])
        alike: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            alike.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(place)
        for places in alike.values():
            asked = normalize_gen_kwargs(requests[places[0]].args[1], _ANSWER_TOKENS)
            if unheard := sorted(set(asked) - _SETTINGS):
                raise ValueError(
                    f"the task sets {', '.join(unheard)}, which generation lacks here."
                )
            # A prompt keeps at least half of what the model can see.
            limit = min(asked["max_gen_toks"], self._seq_len // 2)
            if limit < asked["max_gen_toks"]:
                self.shortened = min(limit, self.shortened or limit)
            room = self._seq_len - limit
            missing = []
            for place in places:
                prompt = self.tok_encode(requests[place].args[0])
                self._count(prompt, [], room)
                if keys[place] not in self._answers:
                    missing.append((prompt[-room:], keys[place]))
            self._write(missing, asked, limit)
        return [self._answers[key] for key in keys]

    def _write(self, missing: list[tuple[list[int], str]], asked: Any, limit: int) -> None:
        """Answer prompts in batches of like length, longest first."""
        missing.sort(key=lambda one: len(one[0]), reverse=True)
        batch = 0
        while missing:
            rows = max(1, self._batch_tokens // (len(missing[0][0]) + limit))
            now, missing = missing[:rows], missing[rows:]
            # Repeats of a prompt must differ from batch to batch, and an evaluation from none.
            texts = self._continued([prompt for prompt, _ in now], asked, limit, seed=batch)
            for (_, key), text in zip(now, texts, strict=True):
                self._answer(key, text)
            batch += 1

    def _continued(
        self, prompts: Sequence[Sequence[int]], asked: Any, limit: int, seed: int
    ) -> list[str]:
        stops = [stop for stop in asked["until"] if stop]
        ids: list[list[int]] = [[] for _ in prompts]
        texts: list[str | None] = [None] * len(prompts)
        sampled = bool(asked["do_sample"])
        steps = generate_rows(
            self._net, prompts, max_new_tokens=limit, seed=seed,
            temperature=float(asked.get("temperature", 1.0)) if sampled else 0.0,
            top_p=float(asked.get("top_p", 1.0)) if sampled else 1.0,
        )  # fmt: skip
        with self._precision():
            for chosen in steps:
                for row, one in enumerate(chosen):
                    if texts[row] is None:
                        texts[row] = self._ended(ids[row], one, stops)
                if all(text is not None for text in texts):
                    break
        return [
            text if text is not None else self._tokenizer.decode(row)
            for text, row in zip(texts, ids, strict=True)
        ]

    def _ended(self, ids: list[int], chosen: int, stops: Sequence[str]) -> str | None:
        """The answer, if it ends with this token; else None, and the token is added."""
        if chosen == EOS:
            return self._tokenizer.decode(ids)
        ids.append(chosen)
        text = self._tokenizer.decode(ids)
        ends = [at for stop in stops if (at := text.find(stop)) >= 0]
        return text[: min(ends)] if ends else None

    def _scored(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Iterator[tuple[int, Score]]:
        with self._precision():
            yield from score_continuations(self._net, pairs, batch_tokens=self._batch_tokens)

    def _ask(self, kind: str, asked: Sequence[Any]) -> list[str]:
        keys = self._answers.keys(kind, asked)
        self.requests += len(keys)
        self._done += sum(key in self._answers for key in keys)
        self._advance(self._done, self.requests)
        return keys

    def _answer(self, key: str, answer: object) -> None:
        self._answers.add(key, answer)
        self._done += 1
        self._advance(self._done, self.requests)

    def _count(self, context: Sequence[int], continuation: Sequence[int], room: int) -> None:
        self.cut += len(context) > room
        self.unknown += UNKNOWN in context or UNKNOWN in continuation

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self._device.type, torch.bfloat16) if self._half else nullcontext()


class OverAnswer(ConfigurableTask):  # type: ignore[misc]
    """A task whose `acc_mutual_info` divides by the likelihood of a choice after a few words.

    The harness divides by its likelihood after nothing. Brown et al. 2020 (section 2.4) and, for
    BoolQ and OpenBookQA, Touvron et al. 2023 (section 3.1) divide by that after "Answer:".
    """

    def __init__(self, config: dict[str, Any], words: str) -> None:
        self._words = words
        super().__init__(config={**config, "metric_list": _metrics("acc", "acc_mutual_info")})

    def construct_requests(self, doc: Any, ctx: Any, **kwargs: Any) -> Any:
        """The harness's requests, those without context after the few words."""
        requests = super().construct_requests(doc, ctx, **kwargs)
        for request in requests:
            context, choice = request.arguments
            request.arguments = (context or self._words, choice)
        return requests


@dataclass(frozen=True, slots=True)
class Marks:
    """What the harness made of a benchmark.

    Attributes:
        score: in percent, with its standard error over the questions.
        answer_bpb: bits per byte of the right answers given their questions, with its standard
            error; None where answers are written and not chosen. Falls smoothly long before
            accuracy leaves chance.
        rows: one for each question: its number, the right answer, what the model made of it.
    """

    score: float
    score_stderr: float | None
    answer_bpb: float | None
    answer_bpb_stderr: float | None
    rows: tuple[dict[str, Any], ...]


class QuestionsMissing(RuntimeError):
    """A benchmark's questions, or what scores them, could not be read."""


def harness_version() -> str:
    """Version of the harness: prompts and scores are its own."""
    return version("lm_eval")


def load_benchmark(benchmark: Benchmark) -> Task | Group:
    """A benchmark with its questions, from the Hub, its cache, or a folder of that name here.

    Raises:
        QuestionsMissing: none of them has it.
    """
    try:
        return _load(benchmark)
    except (OSError, ValueError, ImportError) as error:
        if isinstance(error, ConnectionError):
            # It took half a minute of retries to learn that; the next benchmark need not.
            huggingface_hub.constants.HF_HUB_OFFLINE = True
            datasets.config.HF_HUB_OFFLINE = True
        reason = str(error).partition("\n")[0].rstrip(".")
        raise QuestionsMissing(
            f"{benchmark.name} cannot be asked: {reason}. Questions come from the Hugging Face Hub "
            "once and are kept in HF_HOME; a machine without network takes a copy of that folder."
        ) from error


def ask(
    benchmark: Benchmark,
    questions: Task | Group,
    model: HarnessModel,
    *,
    shots: int,
    limit: int | None,
) -> Marks:
    """Put a benchmark's questions to a model.

    Args:
        shots: solved examples before each question.
        limit: only so many questions of each of its tasks.
    """
    tasks = _leaves(questions)
    for task in tasks:
        _set_shots(task, shots)
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
                bits.append(_answer_bits_per_byte(task, sample))
            rows.append(_row(task.task_name, sample, points[-1]))
    return Marks(
        score=float(np.mean(points)),
        score_stderr=_stderr(points),
        answer_bpb=float(np.mean(bits)) if bits else None,
        answer_bpb_stderr=_stderr(bits) if bits else None,
        rows=tuple(rows),
    )


def _load(benchmark: Benchmark) -> Task | Group:
    match benchmark.task:
        case "race_middle" | "race_high" as name:
            level = name.removeprefix("race_")
            return OverAnswer({**_RACE, "task": name, "dataset_name": level}, words="A:")
        case "boolq_over_answer" | "openbookqa_over_answer" as name:
            config = _config(benchmark, name.removesuffix("_over_answer"))
            return OverAnswer({**config, "task": name}, words="Answer:")
        case "siqa_per_character" as name:
            config = _config(benchmark, "social_iqa")
            return ConfigurableTask(
                config={**config, "task": name, "metric_list": _metrics("acc", "acc_norm")}
            )
        case name:
            loaded = _manager(benchmark).load([name])
            found: Task | Group = loaded["groups"].get(name) or loaded["tasks"][name]
            return found


def _manager(benchmark: Benchmark) -> TaskManager:
    folders = [_TASKS / folder for folder in benchmark.folders]
    return TaskManager(include_path=folders, include_defaults=False)


def _config(benchmark: Benchmark, task: str) -> dict[str, Any]:
    """The harness's own settings of a task; its tags are for its index."""
    config = dict(_manager(benchmark).task_index[task].cfg)
    config.pop("tag", None)
    return config


def _metrics(*names: str) -> list[dict[str, Any]]:
    return [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in names]


def _leaves(questions: Task | Group) -> list[Task]:
    return questions.get_all_tasks() if isinstance(questions, Group) else [questions]


def _set_shots(task: Task, shots: int) -> None:
    """Solved examples before each question, drawn as the harness draws them."""
    if shots and task.get_config("num_fewshot") == 0:
        raise ValueError(f"{task.task_name} is asked without solved examples: leave --shots out.")
    task.set_config(key="num_fewshot", value=shots)
    task.set_fewshot_seed(seed=_SEED)


def _answer_bits_per_byte(task: Task, sample: dict[str, Any]) -> float:
    """Bits per byte of the right choice, its leading space included."""
    # Where choices differ in the question, that is where the task keeps the right one.
    right = task.doc_to_text(sample["doc"]) if task.multiple_input else sample["target"]
    if not isinstance(right, int):
        right = task.doc_to_choice(sample["doc"]).index(right)
    log_probability = sample["filtered_resps"][right][0]
    written = len(sample["arguments"][right][1].encode())
    return float(-log_probability / math.log(2) / written)


def _row(task: str, sample: dict[str, Any], points: float) -> dict[str, Any]:
    return {
        "task": task,
        "question": sample["doc_id"],
        "question_sha256": sample["doc_hash"],
        "right": sample["target"],
        "answers": sample["resps"],
        "points": points,
    }


def _stderr(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
