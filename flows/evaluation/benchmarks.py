"""The benchmarks of Touvron et al. 2023, section 3, as tasks of the evaluation harness."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

FAMILIES = ("common-sense", "closed-book-qa", "reading", "mathematics", "code", "mmlu")


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark.

    Attributes:
        name: as the LLaMA paper prints it.
        task: the harness's task or group, or one of `flows.evaluation.harness`.
        score: the harness's name for the number that the paper prints.
        folders: the harness's folders with the task, if not one named after it; reading the
            harness's whole index takes ten seconds.
        metric: the paper's name for the score.
        shots: solved examples before the question. For mathematics the paper uses Minerva's
            setting without printing the number, and so does the harness.
        most_shots: number of solved examples there are; None if they come from training data.
        chance: score of random guessing, in percent.
        published: name of its rows in `analysis.published.results`, if it differs.
        runs_code: whether scoring executes code that the model wrote.
    """

    name: str
    family: str
    task: str
    score: str
    folders: tuple[str, ...] = ()
    metric: str = "accuracy"
    shots: int = 0
    most_shots: int | None = None
    chance: float = 0.0
    published: str | None = None
    runs_code: bool = False


# Section 3.1: choices are ranked by likelihood per character (`acc_norm`), in some benchmarks by
# likelihood over that of the answer after "Answer:" alone (`acc_mutual_info`). Plain likelihood
# (`acc`) where choices differ in the question and not in the answer (WinoGrande), or are letters
# (MMLU).
BENCHMARKS = (
    Benchmark(
        "BoolQ", "common-sense", task="boolq_over_answer", folders=("super_glue/boolq",),
        score="acc_mutual_info,none", chance=50,
    ),
    Benchmark("PIQA", "common-sense", task="piqa", score="acc_norm,none", chance=50),
    Benchmark(
        "SIQA", "common-sense", task="siqa_per_character", folders=("siqa",),
        score="acc_norm,none", chance=100 / 3,
    ),
    Benchmark("HellaSwag", "common-sense", task="hellaswag", score="acc_norm,none", chance=25),
    Benchmark("WinoGrande", "common-sense", task="winogrande", score="acc,none", chance=50),
    Benchmark(
        "ARC-e", "common-sense", task="arc_easy", folders=("arc",), score="acc_norm,none", chance=25
    ),
    Benchmark(
        "ARC-c", "common-sense", task="arc_challenge", folders=("arc",),
        score="acc_norm,none", chance=25,
    ),
    Benchmark(
        "OBQA", "common-sense", task="openbookqa_over_answer", folders=("openbookqa",),
        score="acc_mutual_info,none", chance=25,
    ),
    Benchmark(
        "NaturalQuestions", "closed-book-qa", task="nq_open",
        score="exact_match,remove_whitespace", metric="exact match", shots=5,
    ),
    Benchmark(
        "TriviaQA", "closed-book-qa", task="triviaqa",
        score="exact_match,remove_whitespace", metric="exact match", shots=5,
    ),
    Benchmark(
        "RACE-middle", "reading", task="race_middle", score="acc_mutual_info,none", chance=25
    ),
    Benchmark("RACE-high", "reading", task="race_high", score="acc_mutual_info,none", chance=25),
    Benchmark(
        "MATH", "mathematics", task="minerva_math", folders=("minerva_math", "benchmarks"),
        score="exact_match,none", shots=4, most_shots=4,
    ),
    Benchmark(
        "GSM8k", "mathematics", task="gsm8k_cot", folders=("gsm8k",),
        score="exact_match,strict-match", shots=8, most_shots=8,
    ),
    Benchmark(
        "HumanEval", "code", task="humaneval",
        score="pass@1,create_test", metric="pass@1", most_shots=0, runs_code=True,
    ),
    Benchmark(
        "MBPP", "code", task="mbpp",
        score="pass_at_1,none", metric="pass@1", shots=3, most_shots=3, runs_code=True,
    ),
    Benchmark(
        "MMLU", "mmlu", task="mmlu", folders=("mmlu/default",),
        score="acc,none", shots=5, most_shots=5, chance=25, published="MMLU Average",
    ),
)  # fmt: skip


def benchmark_named(name: str) -> Benchmark:
    """The benchmark of this name, which must exist."""
    return next(benchmark for benchmark in BENCHMARKS if benchmark.name == name)


def chosen_benchmarks(
    names: Sequence[str], *, run_code: bool, shots: int | None = None
) -> tuple[Benchmark, ...]:
    """The benchmarks that are named or whose family is; without names all that run no code.

    Args:
        shots: solved examples before each question; each benchmark's own number if None.

    Raises:
        ValueError: a name is unknown, a benchmark runs code and `run_code` is false, or it has
            fewer than `shots` solved examples.
    """
    chosen = _named(names) if names else tuple(b for b in BENCHMARKS if run_code or not b.runs_code)
    unsafe = [b.name for b in chosen if b.runs_code]
    if unsafe and not run_code:
        raise ValueError(
            f"{' and '.join(unsafe)}: scoring runs the code that a model writes, with your rights "
            "and on your files. Add --run-code where that can do no harm, as in a container."
        )
    for benchmark in chosen:
        most = benchmark.most_shots
        if shots is not None and most is not None and shots > most:
            raise ValueError(
                f"{benchmark.name} has {most} solved examples, --shots asks for {shots}. "
                "Lower --shots, or name the benchmarks that it is meant for."
            )
    return chosen


def _named(names: Sequence[str]) -> tuple[Benchmark, ...]:
    known = {name.lower(): name for name in (*FAMILIES, *(b.name for b in BENCHMARKS))}
    chosen = set()
    for name in names:
        plain = name.lower().replace("_", "-")
        if plain not in known:
            near = difflib.get_close_matches(plain, known, 1)
            hint = f" Did you mean {known[near[0]]}?" if near else ""
            raise ValueError(
                f"there is no benchmark {name!r}.{hint} Families: {', '.join(FAMILIES)}. "
                f"Benchmarks: {', '.join(b.name for b in BENCHMARKS)}."
            )
        chosen.add(known[plain])
    return tuple(b for b in BENCHMARKS if b.name in chosen or b.family in chosen)
