"""Our models under EleutherAI's lm-evaluation-harness. The only module that imports it."""

import hashlib
import importlib.util
import json
import logging
import math
import os
from collections import Counter
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
        "Install it: make setup in the clone, or pip install 'isoflop[eval]'"
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

datasets.disable_progress_bars()
# Of its retries; what comes of them is told.
logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
# It asks its bars to show whatever that variable says.
lm_eval.api.task.tqdm = lambda rows, **_: rows

_TASKS = Path(lm_eval.__file__).parent / "tasks"
# A task that does not say how long an answer may be gets the harness's usual length.
_ANSWER_TOKENS = 256
_SEED = 1234
# Of what is ours in a question and its scoring; a change makes old results another thing.
ADAPTER_VERSION = 1
_SETTINGS = {"do_sample", "until", "max_gen_toks", "temperature"}
_LETTERS = "['A', 'B', 'C', 'D']"
_RACE = {
    "dataset_path": "ehovy/race",
    "training_split": "train",
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
        cut: those that lost the beginning of their prompt, not fitting into what the model was
            trained on together with the room for an answer.
        unknown: those with characters that the tokenizer has no piece for, or that were folded to
            a question mark.
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
        keys = self._ask("loglikelihood", [texts for texts, _, _ in requests])
        pieces: list[tuple[list[int], list[int]]] = []
        owners: list[int] = []
        for place, (texts, context, continuation) in enumerate(requests):
            self._count(texts, [*context, *continuation], cut=self._seq_len + 1)
            if keys[place] not in self._answers:
                for piece in self._pieces(context, continuation):
                    pieces.append(piece)
                    owners.append(place)
        logs: dict[int, list[Score]] = {}
        left = Counter(owners)
        for at, score in self._scored(pieces):
            place = owners[at]
            logs.setdefault(place, []).append(score)
            if len(logs[place]) == left[place]:
                total = sum(score.log_probability for score in logs[place])
                self._answer(keys[place], (total, all(score.greedy for score in logs[place])))
        return [(self._answers[key][0], self._answers[key][1]) for key in keys]

    def _pieces(
        self, context: list[int], continuation: list[int]
    ) -> Iterator[tuple[list[int], list[int]]]:
        """A continuation with as much before it as the model can see; a long one in parts."""
        size = len(continuation) if len(continuation) <= self._seq_len else self._seq_len // 2
        whole = [*context, *continuation]
        for start in range(len(context), len(whole), size):
            part = whole[start : start + size]
            yield whole[max(0, start + len(part) - self._seq_len - 1) : start], part

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Asked by no benchmark of ours: training tells the loss on held-out text."""
        raise NotImplementedError("perplexity of whole texts")

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
                self._count(requests[place].args[:1], prompt, cut=room)
                if keys[place] not in self._answers:
                    missing.append((prompt[-room:], keys[place]))
            self._write(missing, asked["until"], limit)
        return [self._answers[key] for key in keys]

    def _write(
        self, missing: list[tuple[list[int], str]], until: Sequence[str], limit: int
    ) -> None:
        """Answer prompts in batches of like length, longest first."""
        missing.sort(key=lambda one: len(one[0]), reverse=True)
        while missing:
            rows = max(1, self._batch_tokens // (len(missing[0][0]) + limit))
            now, missing = missing[:rows], missing[rows:]
            texts = self._continued([prompt for prompt, _ in now], until, limit)
            for (_, key), text in zip(now, texts, strict=True):
                self._answer(key, text)

    def _continued(
        self, prompts: Sequence[Sequence[int]], until: Sequence[str], limit: int
    ) -> list[str]:
        stops = [stop for stop in until if stop]
        ids: list[list[int]] = [[] for _ in prompts]
        texts: list[str | None] = [None] * len(prompts)
        with self._precision():
            for chosen in generate_rows(self._net, prompts, max_new_tokens=limit):
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

    def _count(self, texts: Sequence[str], ids: Sequence[int], *, cut: int) -> None:
        self.cut += len(ids) > cut
        lost = any(self.as_read(text).count("?") > text.count("?") for text in texts)
        self.unknown += lost or UNKNOWN in ids

    def as_read(self, text: str) -> str:
        """The characters of a text that the model is given."""
        return self._tokenizer.as_read(text)

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
        questions_sha256: hash of the questions' own hashes, in order.
        rows: one for each question: its number, the right answer, what the model made of it.
    """

    score: float
    score_stderr: float | None
    answer_bpb: float | None
    answer_bpb_stderr: float | None
    questions_sha256: str
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
    if benchmark.runs_code:
        # Asked for by the metric as soon as it is loaded; the leave is `--run-code`.
        os.environ["HF_ALLOW_CODE_EVAL"] = "1"
    try:
        return _load(benchmark)
    except (OSError, ValueError, KeyError, ImportError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        if isinstance(error, KeyError):
            reason = f"its data set has no {reason}"
        if isinstance(error, ConnectionError):
            # It took half a minute of retries to learn that; the next benchmark need not.
            huggingface_hub.constants.HF_HUB_OFFLINE = True
            datasets.config.HF_HUB_OFFLINE = True
            reason = "the Hugging Face Hub cannot be reached, and its cache does not have it"
        raise QuestionsMissing(f"{benchmark.name} cannot be asked: {reason}.") from error


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
                bits.append(_answer_bits_per_byte(task, sample, model))
            rows.append(_row(task.task_name, sample, points[-1]))
    return Marks(
        score=float(np.mean(points)),
        score_stderr=_stderr(points),
        answer_bpb=float(np.mean(bits)) if bits else None,
        answer_bpb_stderr=_stderr(bits) if bits else None,
        questions_sha256=hashlib.sha256(
            "".join(row["question_sha256"] for row in rows).encode()
        ).hexdigest(),
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
    task.set_config(key="num_fewshot", value=shots)
    task.set_fewshot_seed(seed=_SEED)


def _answer_bits_per_byte(task: Task, sample: dict[str, Any], model: HarnessModel) -> float:
    """Bits per byte of the right choice as the model read it, its leading space included."""
    # Where choices differ in the question, that is where the task keeps the right one.
    right = task.doc_to_text(sample["doc"]) if task.multiple_input else sample["target"]
    if not isinstance(right, int):
        right = task.doc_to_choice(sample["doc"]).index(right)
    log_probability = sample["filtered_resps"][right][0]
    read = model.as_read(sample["arguments"][right][1])
    return float(-log_probability / math.log(2) / len(read.encode()))


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
