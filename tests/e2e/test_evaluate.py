"""evaluate: the harness's tasks on our own questions, with a model trained here."""

import json
import os
import signal
import subprocess
import time

import pytest
import torch

from flows.evaluation.benchmarks import benchmark_named
from flows.settings import Settings, open_home
from tests.conftest import COMMAND, bare_environment
from tests.fakes import ReadableTracker
from tests.questions import solved, write_mmlu, write_questions
from tests.trained import trained_run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A home with a trained run, and a folder with questions and a cache of its own."""
    home = tmp_path_factory.mktemp("home")
    run = trained_run(home, seq_len=256)
    folder = tmp_path_factory.mktemp("questions")
    write_questions(folder)
    return home, folder, run


@pytest.fixture
def evaluate(isoflop, place):
    """Calls evaluate on the run where the questions are; the JSON document it wrote."""
    home, folder, run = place

    def call(*arguments, status=0):
        done = isoflop(
            *("evaluate", run.id, *arguments, "--json", "-"),
            home=home, folder=folder, HF_HOME=str(folder / "cache"), HF_HUB_OFFLINE="1",
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout) if done.stdout else {}, done.stderr

    return call


@pytest.mark.slow
def test_scores_are_kept_shown_mirrored_and_not_computed_again(evaluate, isoflop, place):
    home, _, run = place
    found, _ = evaluate("BoolQ", "hellaswag", "TriviaQA", "--shots", "0")
    boolq, hellaswag, triviaqa = found["results"]
    assert found["horizon"] == 80 * 256
    assert boolq["questions"] == 12
    # A choice given the question, and given "Answer:" alone.
    assert boolq["requests"] == 12 * 2 * 2
    assert boolq["published"]["LLaMA-65B"] == 85.3
    assert hellaswag["answer_bpb"] > 0
    assert triviaqa["answer_bpb"] is None
    assert triviaqa["answer_tokens"] == 128
    rows = [
        json.loads(line)
        for path in (run.path / "evaluations").glob("*HellaSwag*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert sum(row["points"] for row in rows) / len(rows) == pytest.approx(hellaswag["score"])

    again, _ = evaluate("boolq")
    assert again["results"] == [boolq]
    shown = json.loads(isoflop("show", run.id, "--json", "-", home=home).stdout)
    assert [one["benchmark"] for one in shown["evaluations"]] == ["TriviaQA", "BoolQ", "HellaSwag"]
    assert "TriviaQA: answers ended at 128 tokens" in isoflop("show", run.id, home=home).stdout
    tracker = ReadableTracker(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts")
    (point,) = tracker.curve("test", run.id, "tasks/HellaSwag_0shot_bpb")
    assert point.value == pytest.approx(hellaswag["answer_bpb"], rel=1e-12)
    assert point.step == 20


def test_a_killed_evaluation_resumes_without_repeating_a_question(evaluate, place):
    home, folder, run = place
    environment = {
        **bare_environment(), "ISOFLOP_HOME": str(home), "HF_HOME": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [COMMAND, "evaluate", run.id, "GSM8k", "--shots", "1", "--horizon", str(40 * 256)]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    kept_at = None
    while kept_at is None or not kept_at.read_bytes().count(b"\n"):
        assert process.poll() is None, "the evaluation ended before it could be killed"
        kept_at = next((run.path / "evaluations").glob("*GSM8k*.answers"), None)
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = [
        json.loads(line) for line in kept_at.read_bytes().splitlines(True) if line[-1:] == b"\n"
    ]
    # Marked, so that an answer given a second time would show.
    kept = [[key, "MARK The answer is 7."] for key, _ in kept]
    torn = json.dumps(["f" * 64, "torn"])[:-4]
    kept_at.write_text("".join(json.dumps(one) + "\n" for one in kept) + torn)

    found, _ = evaluate("GSM8k", "--shots", "1", "--horizon", str(40 * 256))
    (path,) = (run.path / "evaluations").glob("*GSM8k*.jsonl")
    answers = [json.loads(line)["answers"] for line in path.read_text().splitlines()]
    assert len(answers) == found["results"][0]["questions"] == 12
    marked = [one for one in answers if one == [["MARK The answer is 7."]]]
    assert len(marked) == len(kept) > 0


@pytest.mark.slow
def test_a_larger_limit_evaluates_only_the_new_questions(evaluate, place):
    first, _ = evaluate("WinoGrande", "--limit", "5")
    (kept,) = (place[2].path / "evaluations").glob("*WinoGrande*.answers")
    before = kept.read_bytes()
    whole, _ = evaluate("WinoGrande")
    assert kept.read_bytes().startswith(before)
    assert kept.read_bytes().count(b"\n") == whole["results"][0]["requests"] == 24
    assert before.count(b"\n") == first["results"][0]["requests"] == 10
    assert first["results"][0]["doubts"] == ["only the first 5 questions of each task were asked."]


@pytest.mark.parametrize(
    "name", ["NaturalQuestions", "TriviaQA", "MATH", "GSM8k", "HumanEval", "MBPP"]
)
def test_right_written_answers_score_100_and_wrong_ones_0(name, place, tmp_path, monkeypatch):
    from lm_eval.api.model import LM

    from flows.evaluation import harness, harness_tasks

    class Writer(LM):
        """Answers every question rightly, or none."""

        def __init__(self, right):
            super().__init__()
            self.right = right

        def generate_until(self, requests):
            return [self.answer(request.doc) if self.right else " nothing" for request in requests]

        def answer(self, doc):
            match name:
                case "NaturalQuestions":
                    return f" {doc['answer'][0]}"
                case "TriviaQA":
                    return f" {doc['answer']['value']}"
                case "MATH":
                    answer = f"The final answer is ${doc['answer']}$. I hope it is correct."
                    return f" Final Answer: {answer}"
                case "GSM8k":
                    return f" The answer is {doc['answer'].split('####')[-1].strip()}."
                case "HumanEval":
                    return doc["canonical_solution"]
                case _:
                    return doc["code"]

        loglikelihood = loglikelihood_rolling = None

    monkeypatch.chdir(place[1])
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    benchmark = benchmark_named(name)
    for right in (True, False):
        questions = harness_tasks.load_benchmark(benchmark)
        marks = harness.run(benchmark, questions, Writer(right), shots=benchmark.shots, limit=3)
        assert marks.score == 100 * right
        assert len(marks.rows) == (21 if name == "MATH" else 3)


def test_an_answer_longer_than_the_model_can_see_is_scored_in_parts(place, tmp_path):
    from flows.evaluation.answers import Answers
    from flows.evaluation.harness_model import HarnessModel
    from flows.results.trained import find_trained

    home, _, run = place
    net, _ = (trained := find_trained(run.id, None, open_home(Settings(home=home)))).load()
    context, continuation = list(range(3, 20)), list(range(30, 75))
    with Answers(tmp_path / "answers") as answers:
        model = HarnessModel(net, trained.corpus.tokenizer(), answers, seq_len=20, batch_tokens=64)
        ((found, _),) = model._loglikelihood_tokens([(("a", "b"), context, continuation)])
    assert model.cut == 1
    whole = [*context, *continuation]
    expected = 0.0
    for start in range(17, 62, 10):
        end = min(start + 10, 62)
        seen = whole[max(0, end - 21) : end]
        with torch.no_grad():
            logs = net(torch.tensor([seen[:-1]]))[0].double().log_softmax(-1)
        for at in range(start, end):
            row = len(seen) - 1 - (end - at)
            expected += float(logs[row, whole[at]])
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_code_is_run_only_with_run_code(evaluate):
    _, said = evaluate("MBPP", status=2)
    assert "--run-code" in said
    found, _ = evaluate("code", "--run-code", "--limit", "2")
    humaneval, mbpp = found["results"]
    assert (humaneval["metric"], humaneval["questions"], humaneval["score"]) == ("pass@1", 2, 0)
    assert (mbpp["shots"], mbpp["limit"], mbpp["cut"]) == (3, 2, 2)


@pytest.mark.slow
def test_all_questions_of_the_57_subjects_of_mmlu_weigh_the_same(evaluate, place):
    from flows.evaluation.harness_tasks import _manager

    index = _manager(benchmark_named("MMLU")).task_index.values()
    settings = [entry.cfg for entry in index if entry.cfg is not None]
    subjects = {one["dataset_name"] for one in settings if "dataset_name" in one}
    assert len(subjects) == 57
    write_mmlu(place[1], subjects)
    found, _ = evaluate("MMLU", "--limit", "2")
    (mmlu,) = found["results"]
    assert mmlu["questions"] == 114
    assert mmlu["requests"] == 114 * 4
    assert mmlu["published"]["Chinchilla"] == 67.5


@pytest.mark.slow
def test_a_model_that_has_learnt_the_answers_chooses_them(isoflop, place, tmp_path):
    run = trained_run(
        tmp_path, seq_len=64, text=solved, steps=700, d_model=64, n_heads=4, head_dim=16, d_ffn=128
    )
    found = isoflop(
        *("evaluate", run.id, "ARC-e", "ARC-c", "OBQA", "--json", "-"),
        home=tmp_path, folder=place[1], HF_HOME=str(place[1] / "cache"), HF_HUB_OFFLINE="1",
    )  # fmt: skip
    easy, challenge, without_its_words = json.loads(found.stdout)["results"]
    # Names are new to it, so it answers from the question; guesses are right 12 times of 12 once
    # in 17 million.
    assert easy["score"] == challenge["score"] == 100
    assert easy["answer_bpb"] < 0.1
    # It knows them after "Question:" alone, which OBQA's prompt leaves out.
    assert without_its_words["answer_bpb"] > 10 * easy["answer_bpb"]


@pytest.mark.slow
def test_missing_questions_are_named_and_the_others_evaluated(evaluate, isoflop, place):
    home, _, run = place
    done = isoflop(
        *("evaluate", run.id, "PIQA", "--limit", "3", "--json", "-"),
        home=home, folder=home, HF_HOME=str(home / "no cache"), HF_HUB_OFFLINE="1",
    )  # fmt: skip
    assert done.returncode == 1
    assert json.loads(done.stdout)["results"] == []
    assert "not evaluated: PIQA: the Hugging Face Hub cannot be reached" in done.stderr
    assert "HF_HOME" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Helaswag"], "Did you mean HellaSwag"),
        (["PIQA", "--limit", "0"], "--limit 0"),
        (["PIQA", "--shots", "-1"], "--shots -1"),
        (["--shots", "5"], "MATH has 4 solved examples, --shots asks for 5"),
        (["PIQA", "--horizon", "5"], "no horizon of 5 tokens"),
        (["PIQA", "--device", "tpu7"], "tpu7"),
    ],
)
def test_what_cannot_be_used_is_refused(evaluate, arguments, said):
    _, told = evaluate(*arguments, status=2)
    assert said in told


def test_weights_that_changed_are_refused(evaluate, place):
    path = place[2].path / f"final_{40 * 256}.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        _, said = evaluate("PIQA", "--horizon", str(40 * 256), status=2)
    finally:
        path.write_bytes(whole)
    assert "was changed" in said
