"""Our model under lm-evaluation-harness against the harness's own backend for transformers."""

import time

import pytest

from flows.evaluation.answers import Answers
from flows.evaluation.benchmarks import benchmark_named
from flows.results.trained import find_trained
from flows.settings import Settings, open_home
from llama_core.exchange.hf import export_hf
from tests.questions import write_questions
from tests.trained import trained_run

pytestmark = pytest.mark.slow

# So long that nothing is cut and both read the same prompts.
SEQ_LEN = 4096


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """Questions, our model, and the same weights as transformers reads them."""
    import datasets
    from lm_eval.models.huggingface import HFLM

    folder = tmp_path_factory.mktemp("harness")
    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    write_questions(folder)
    run = trained_run(folder, seq_len=128, unicode=True)
    trained = find_trained(run.id, None, open_home(Settings(home=folder)))
    net, _ = trained.load("eager")
    tokenizer = trained.corpus.tokenizer()
    exported = folder / "exported"
    export_hf(exported, net.config, net.state_dict(), seq_len=SEQ_LEN, tokenizer=tokenizer)
    theirs = HFLM(
        pretrained=str(exported), device="cpu", dtype="float32", batch_size=4, add_bos_token=True
    )
    return folder, net, tokenizer, theirs


def samples(benchmark, lm, shots=None):
    from flows.evaluation import harness, harness_tasks

    questions = harness_tasks.load_benchmark(benchmark)
    tasks = harness_tasks.leaves(questions)
    for task in tasks:
        harness_tasks.set_shots(task, benchmark.shots if shots is None else shots)
    tree = {"tasks": {task.task_name: task for task in tasks}, "groups": {}}
    return harness.run_harness(lm=lm, task_dict=tree, limit=4)["samples"]


@pytest.mark.parametrize(
    "name",
    ["BoolQ", "SIQA", "WinoGrande", "ARC-e", "OBQA", "RACE-high", "TriviaQA", "GSM8k"],
)
def test_every_answer_is_the_one_transformers_gives(setting, name, tmp_path, monkeypatch):
    from flows.evaluation.harness_model import HarnessModel

    folder, net, tokenizer, theirs = setting
    monkeypatch.chdir(folder)
    benchmark = benchmark_named(name)
    with Answers(tmp_path / "answers") as answers:
        ours = HarnessModel(net, tokenizer, answers, seq_len=SEQ_LEN, batch_tokens=8192)
        found = samples(benchmark, ours)
    assert ours.cut == 0
    expected = samples(benchmark, theirs)
    assert agreeing(found, expected) >= 4


def test_a_prompt_that_is_too_long_loses_the_same_beginning(setting, tmp_path, monkeypatch):
    from lm_eval.models.huggingface import HFLM

    from flows.evaluation.harness_model import HarnessModel

    folder, net, tokenizer, _ = setting
    monkeypatch.chdir(folder)
    benchmark = benchmark_named("ARC-e")
    with Answers(tmp_path / "answers") as answers:
        ours = HarnessModel(net, tokenizer, answers, seq_len=100, batch_tokens=512)
        found = samples(benchmark, ours, shots=3)
    assert ours.cut == ours.requests == 16
    theirs = HFLM(
        pretrained=str(folder / "exported"), device="cpu", dtype="float32", batch_size=4,
        add_bos_token=True, max_length=100,
    )  # fmt: skip
    assert agreeing(found, samples(benchmark, theirs, shots=3)) == 16


def agreeing(found, expected):
    """How many answers were compared; every one must agree."""
    assert found.keys() == expected.keys()
    compared = 0
    for task in found:
        for one, other in zip(found[task], expected[task], strict=True):
            assert one["arguments"] == other["arguments"]
            for (mine,), (its,) in zip(one["resps"], other["resps"], strict=True):
                compared += 1
                if isinstance(mine, str):
                    assert mine == its
                else:
                    # fp32 over hundreds of tokens, another order of summation.
                    assert mine[0] == pytest.approx(its[0], abs=1e-3)
                    assert mine[1] == its[1]
    return compared


def test_a_hub_that_does_not_answer_is_asked_once_and_not_for_half_a_minute(tmp_path, monkeypatch):
    import datasets
    import huggingface_hub.constants

    from flows.evaluation import harness_tasks

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:1")
    for module in (huggingface_hub.constants, datasets.config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
    harness_tasks._ask_the_hub.cache_clear()
    started = time.monotonic()
    for name in ("BoolQ", "PIQA"):
        with pytest.raises(harness_tasks.QuestionsMissing, match="Hub cannot be reached"):
            harness_tasks.load_benchmark(benchmark_named(name))
    # The library's own retries take 25 s.
    assert time.monotonic() - started < 10
