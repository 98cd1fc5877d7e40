"""Benchmarks as tasks of lm-evaluation-harness."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import httpx
import huggingface_hub.constants
import lm_eval.api.task
from lm_eval.api.group import Group
from lm_eval.api.task import ConfigurableTask, Task
from lm_eval.tasks import TaskManager

from flows.evaluation.benchmarks import Benchmark

# In which a Hub that is there has answered.
_ANSWERS_WITHIN_S = 5.0
_TASKS = Path(lm_eval.__file__).parent / "tasks"
_SEED = 1234
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


class OverAnswer(ConfigurableTask):  # type: ignore[misc]
    """A task whose `acc_mutual_info` divides by the likelihood of a choice after `words` alone.

    The harness divides by the likelihood after an empty context. Brown et al. 2020 (section 2.4)
    and, for BoolQ and OpenBookQA, Touvron et al. 2023 (section 3.1) use "Answer:".
    """

    def __init__(self, config: dict[str, Any], words: str) -> None:
        self._words = words
        super().__init__(config={**config, "metric_list": _metrics("acc", "acc_mutual_info")})

    def construct_requests(self, doc: Any, ctx: Any, **kwargs: Any) -> Any:
        """The harness's requests, with `words` for an empty context."""
        requests = super().construct_requests(doc, ctx, **kwargs)
        for request in requests:
            context, choice = request.arguments
            request.arguments = (context or self._words, choice)
        return requests


class QuestionsMissing(RuntimeError):
    """A benchmark's questions, or the code that scores them, could not be read: the message."""


def load_benchmark(benchmark: Benchmark) -> Task | Group:
    """A benchmark with its questions, from the Hub, its cache, or a local folder of that name.

    Raises:
        QuestionsMissing: no source has it.
    """
    _ask_the_hub()
    if benchmark.runs_code:
        # The metric checks this when it is loaded; the user agrees by `--run-code`.
        os.environ["HF_ALLOW_CODE_EVAL"] = "1"
    try:
        return _load(benchmark)
    except (OSError, ValueError, KeyError, ImportError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        if isinstance(error, KeyError):
            reason = f"its data set has no {reason}"
        if isinstance(error, ConnectionError):
            _read_the_cache_alone()
            reason = "the Hugging Face Hub cannot be reached, and its cache does not have it"
        raise QuestionsMissing(reason) from error


@cache
def _ask_the_hub() -> None:
    """Read the cache alone from now on if the Hub does not answer.

    Its libraries would ask it for half a minute, for each benchmark.
    """
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return
    try:
        httpx.head(huggingface_hub.constants.ENDPOINT, timeout=_ANSWERS_WITHIN_S)
    except httpx.TransportError:
        _read_the_cache_alone()


def _read_the_cache_alone() -> None:
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    datasets.config.HF_HUB_OFFLINE = True


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
            task: Task | Group = loaded["groups"].get(name) or loaded["tasks"][name]
            return task


def _manager(benchmark: Benchmark) -> TaskManager:
    folders = [_TASKS / folder for folder in benchmark.folders or (benchmark.task,)]
    return TaskManager(include_path=folders, include_defaults=False)


def _config(benchmark: Benchmark, task: str) -> dict[str, Any]:
    """The harness's settings of a task, without the tags of its index."""
    config = dict(_manager(benchmark).task_index[task].cfg)
    config.pop("tag", None)
    return config


def _metrics(*names: str) -> list[dict[str, Any]]:
    return [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in names]


def leaves(questions: Task | Group) -> list[Task]:
    """The tasks of a benchmark."""
    return questions.get_all_tasks() if isinstance(questions, Group) else [questions]


def set_shots(task: Task, shots: int) -> None:
    """Set the number of solved examples before each question, drawn with the harness's seed."""
    task.set_config(key="num_fewshot", value=shots)
    task.set_fewshot_seed(seed=_SEED)
