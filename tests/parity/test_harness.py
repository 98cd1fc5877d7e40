"""Our model under lm-evaluation-harness against the harness's own backend for transformers."""

import pytest

from flows.answers import Answers
from flows.benchmarks import benchmark_named
from flows.settings import Settings, open_home
from flows.trained import find_trained
from llama_core.hf import export_hf
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


def samples(benchmark, lm):
    from flows import harness

    questions = harness.load_benchmark(benchmark)
    tasks = harness._leaves(questions)
    for task in tasks:
        harness._set_shots(task, benchmark.shots)
    tree = {"tasks": {task.task_name: task for task in tasks}, "groups": {}}
    return harness.run_harness(lm=lm, task_dict=tree, limit=4)["samples"]


@pytest.mark.parametrize(
    "name",
    ["BoolQ", "SIQA", "WinoGrande", "ARC-e", "OBQA", "RACE-high", "TriviaQA", "GSM8k"],
)
def test_every_answer_is_the_one_transformers_gives(setting, name, tmp_path, monkeypatch):
    from flows.harness import HarnessModel

    folder, net, tokenizer, theirs = setting
    monkeypatch.chdir(folder)
    benchmark = benchmark_named(name)
    with Answers(tmp_path / "answers") as answers:
        ours = HarnessModel(net, tokenizer, answers, seq_len=SEQ_LEN, batch_tokens=8192)
        found = samples(benchmark, ours)
    assert ours.cut == 0
    expected = samples(benchmark, theirs)
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
    assert compared >= 4
