"""Questions of our own in the columns of the public benchmarks, laid out as the Hub names them.

`datasets` takes a folder of a data set's name in the working directory for the data set itself, so
the harness's own tasks, prompts and scoring run on them without a network.
"""

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]

_COLOURS = ("red", "green", "blue", "white")
_THINGS = ("lamp", "book", "water", "page", "number", "model", "token", "loss")
_SYLLABLES = [c + v for c in "bdfgklmnprst" for v in "aeiou"]
_MATHS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)


def write_questions(folder: Path, *, count: int = 12) -> None:
    """Write data sets of `count` questions a split."""
    _dataset(folder / "aps/super_glue", {"boolq": _boolq}, ("train", "validation"), count)
    _dataset(folder / "baber/piqa", {"default": _piqa}, ("train", "validation"), count)
    _dataset(folder / "lighteval/siqa", {"default": _siqa}, ("train", "validation"), count)
    _dataset(folder / "Rowan/hellaswag", {"default": _hellaswag}, ("train", "validation"), count)
    winogrande = {"winogrande_xl": _winogrande}
    _dataset(folder / "allenai/winogrande", winogrande, ("train", "validation"), count)
    arc = {"ARC-Easy": _arc, "ARC-Challenge": _arc}
    _dataset(folder / "allenai/ai2_arc", arc, ("train", "validation", "test"), count)
    obqa = {"main": _openbookqa}
    _dataset(folder / "allenai/openbookqa", obqa, ("train", "validation", "test"), count)
    nq = folder / "google-research-datasets/nq_open"
    _dataset(nq, {"nq_open": _nq_open}, ("train", "validation"), count)
    trivia = {"rc.nocontext": _triviaqa}
    _dataset(folder / "mandarjoshi/trivia_qa", trivia, ("train", "validation"), count)
    _dataset(folder / "ehovy/race", {"middle": _race, "high": _race}, ("train", "test"), count)
    maths = dict.fromkeys(_MATHS, _math)
    _dataset(folder / "EleutherAI/hendrycks_math", maths, ("train", "test"), count)
    _dataset(folder / "openai/gsm8k", {"main": _gsm8k}, ("train", "test"), count)
    _dataset(folder / "openai/openai_humaneval", {"default": _humaneval}, ("test",), count)
    _dataset(folder / "google-research-datasets/mbpp", {"full": _mbpp}, ("test",), count)
    (folder / "code_eval").mkdir()
    (folder / "code_eval" / "code_eval.py").write_text(_CODE_EVAL)


def write_mmlu(folder: Path, subjects: Iterable[str]) -> None:
    """Write five questions and five solved ones a subject."""
    _dataset(folder / "cais/mmlu", dict.fromkeys(subjects, _mmlu), ("dev", "test"), 5)


def solved(seed: int) -> str:
    """A document of ARC's questions with their answers, as the harness asks them."""
    draw = random.Random(seed)
    rows = [_arc(draw) for _ in range(60)]
    return "\n\n".join(
        f"Question: {row['question']}\nAnswer: {_COLOURS['ABCD'.index(row['answerKey'])]}"
        for row in rows
    )


def _dataset(
    folder: Path, kinds: dict[str, Callable[[random.Random], Row]], splits: tuple[str, ...], n: int
) -> None:
    lines = ["---", "configs:"]
    for name, make in kinds.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split in splits:
            lines += [f"  - split: {split}", f"    path: {name}/{split}.jsonl"]
            draw = random.Random(f"{folder.name} {name} {split}")
            path = folder / name / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(make(draw)) + "\n" for _ in range(n)))
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))


def _scene(draw: random.Random) -> tuple[str, str]:
    thing, colour = draw.choice(_THINGS), draw.choice(_COLOURS)
    return thing, colour


def _boolq(draw: random.Random) -> Row:
    thing, colour = _scene(draw)
    asked = draw.choice((colour, draw.choice(_COLOURS)))
    passage = f"Under seven lamps the {thing} is {colour}. Nobody counts it."
    return {
        "passage": passage,
        "question": f"is the {thing} {asked}",
        "label": int(asked == colour),
    }


def _piqa(draw: random.Random) -> Row:
    thing, colour = _scene(draw)
    right, wrong = f"Paint the {thing} {colour}.", f"Read the {thing} under water for a while."
    label = draw.randrange(2)
    return {
        "goal": f"make the {thing} {colour}",
        "sol1": wrong if label else right,
        "sol2": right if label else wrong,
        "label": label,
    }


def _siqa(draw: random.Random) -> Row:
    thing, colour = _scene(draw)
    label = draw.randrange(3)
    answers = [f"wants a {other} {thing}" for other in draw.sample(_COLOURS, 3)]
    answers[label] = f"likes the {thing} {colour}"
    return {
        "context": f"Ada painted the {thing} {colour}.",
        "question": "How would you describe Ada?",
        **dict(zip(("answerA", "answerB", "answerC"), answers, strict=True)),
        "label": str(label + 1),
    }


def _hellaswag(draw: random.Random) -> Row:
    thing, colour = _scene(draw)
    return {
        "activity_label": "Painting",
        "ctx_a": f"Ada holds a {colour} brush.",
        "ctx_b": "she",
        "endings": [f"paints the {thing} {other}." for other in _COLOURS],
        "label": str(_COLOURS.index(colour)),
    }


def _winogrande(draw: random.Random) -> Row:
    first, second = draw.sample(_THINGS, 2)
    label = draw.randrange(2)
    what = "larger" if label == 0 else "smaller"
    return {
        "sentence": f"The {first} does not fit into the {second} because the _ is too {what}.",
        "option1": first,
        "option2": second,
        "answer": str(label + 1),
    }


def _choices(draw: random.Random) -> Row:
    thing, colour = _scene(draw)
    # Many names, so that hardly two texts of solved questions share a passage.
    name = "".join(draw.choices(_SYLLABLES, k=3)).capitalize()
    return {
        "question": f"{name} painted the {thing} {colour}. Which colour has the {thing}?",
        "choices": {"text": list(_COLOURS), "label": ["A", "B", "C", "D"]},
        "answerKey": "ABCD"[_COLOURS.index(colour)],
    }


def _arc(draw: random.Random) -> Row:
    return {"id": str(draw.random()), **_choices(draw)}


def _openbookqa(draw: random.Random) -> Row:
    row = _choices(draw)
    return {"id": str(draw.random()), "question_stem": row.pop("question"), **row}


def _nq_open(draw: random.Random) -> Row:
    thing, colour = _scene(draw)
    return {"question": f"what is the colour of the {thing} of day {colour}", "answer": [colour]}


def _triviaqa(draw: random.Random) -> Row:
    thing, colour = _scene(draw)
    aliases = [colour, f"{colour} colour"]
    return {
        "question": f"Which colour has the {thing} of day {colour}?",
        "answer": {"value": colour, "aliases": aliases, "normalized_aliases": aliases},
    }


def _race(draw: random.Random) -> Row:
    thing, colour = _scene(draw)
    return {
        "example_id": str(draw.random()),
        "article": f"Under seven lamps the {thing} is {colour}. " * 4,
        "question": f"The colour of the {thing} is _ .",
        "options": list(_COLOURS),
        "answer": "ABCD"[_COLOURS.index(colour)],
    }


def _math(draw: random.Random) -> Row:
    first, second = draw.randrange(20), draw.randrange(20)
    return {
        "problem": f"Compute ${first}+{second}$.",
        "level": "Level 1",
        "type": "Algebra",
        "solution": f"We add: $\\boxed{{{first + second}}}$.",
    }


# The Hub's metric of this name is a program; this one of ours answers the same call.
_CODE_EVAL = """
import os
import subprocess
import sys
import datasets
import evaluate

class CodeEval(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="",
            features=datasets.Features(
                {"predictions": datasets.Sequence(text), "references": text}
            ),
        )

    def _compute(self, predictions, references, k):
        if os.environ.get("HF_ALLOW_CODE_EVAL") != "1":
            raise ValueError("\\nas the Hub's does without leave")
        passed = []
        for (one, *_), test in zip(predictions, references):
            done = subprocess.run([sys.executable, "-c", one + "\\n" + test], capture_output=True)
            passed.append(done.returncode == 0)
        return {"pass@1": sum(passed) / len(passed)}, {}
"""


def _humaneval(draw: random.Random) -> Row:
    first = draw.randrange(20)
    return {
        "task_id": f"Ours/{draw.random()}",
        "prompt": f'def add(number):\n    """Add {first} to a number."""\n',
        "canonical_solution": f"    return number + {first}\n",
        "test": f"def check(candidate):\n    assert candidate(1) == {first + 1}\n",
        "entry_point": "add",
    }


def _mbpp(draw: random.Random) -> Row:
    first = draw.randrange(20)
    return {
        "task_id": draw.randrange(1000),
        "text": f"Write a function that adds {first} to a number.",
        "code": f"def add(number):\n    return number + {first}",
        "test_list": [f"assert add({one}) == {one + first}" for one in range(3)],
    }


def _mmlu(draw: random.Random) -> Row:
    row = _choices(draw)
    return {
        "question": row["question"],
        "subject": "colours",
        "choices": row["choices"]["text"],
        "answer": "ABCD".index(row["answerKey"]),
    }


def _gsm8k(draw: random.Random) -> Row:
    first, second = draw.randrange(20), draw.randrange(20)
    return {
        "question": f"Ada has {first} lamps and buys {second}. How many has she?",
        "answer": f"{first}+{second}={first + second}\n#### {first + second}",
    }
