"""Command evaluate: the benchmarks of the LLaMA paper on a trained model."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.common import Json, busy, failures, open_all, refusals, say
from flows.commands.options import RunName
from flows.commands.trained import Horizon

if TYPE_CHECKING:
    from flows.evaluation.benchmarks import Benchmark
    from flows.evaluation.evaluator import Evaluator
    from flows.runs.evaluations import Evaluation

_BESIDE = ("LLaMA-7B", "GPT-3", "Chinchilla", "PaLM-540B")
_ROOM = 115


def evaluate(
    run: RunName,
    /,
    *benchmarks: Annotated[
        str,
        Parameter(
            help="names of benchmarks or of families (common-sense, closed-book-qa, reading, "
            "mathematics, code, mmlu); all but code if none"
        ),
    ],
    horizon: Horizon = None,
    shots: int | None = None,
    limit: int | None = None,
    device: str = "auto",
    run_code: Annotated[
        bool, Parameter(help="allow HumanEval and MBPP to run what the model writes")
    ] = False,
    json: Json = None,
) -> None:
    """Run the benchmarks of the LLaMA paper on a trained model.

    Prompts and scoring are lm-evaluation-harness's. Answers are cached; the same
    command resumes an interrupted evaluation.

    Args:
        shots: solved examples before each question; each benchmark's own number if unset.
        limit: number of questions of each task, for a first look; all if unset.
        device: auto, cpu, cuda or cuda:0.
    """
    from flows.evaluation.benchmarks import chosen_benchmarks
    from flows.results.trained import find_trained

    with refusals():
        if shots is not None and shots < 0:
            raise ValueError(f"--shots {shots} is less than none.")
        if limit is not None and limit < 1:
            raise ValueError(f"--limit {limit} leaves no question.")
        chosen = chosen_benchmarks(benchmarks, run_code=run_code, shots=shots)
        settings, home = open_all()
        trained = find_trained(run, horizon, home)

    from flows.commands.output import emit
    from flows.evaluation.evaluator import Evaluator
    from flows.evaluation.table import document
    from flows.mirror.publish import Mirror
    from flows.runs.directory import RunBusyError

    with refusals(), busy("loading the model"):
        evaluator = Evaluator(trained, device)
    with failures(RunBusyError, ModuleNotFoundError), evaluator.alone():
        scores, missed = _evaluate_all(evaluator, chosen, shots, limit)
    Mirror(settings, home).publish(trained.run, trained.planned)
    if json is not None:
        emit(document(trained, scores), json)
    elif scores:
        _print(f"{trained.planned.name} at {trained.tokens:,} tokens", scores)
    if missed:
        for reason in dict.fromkeys(missed.values()):
            names = ", ".join(name for name, its in missed.items() if its == reason)
            say(f"isoflop: not evaluated: {names}: {reason}.")
        say(
            "Questions come from the Hugging Face Hub once and are kept in HF_HOME; a machine "
            "without network takes a copy of that folder."
        )
        raise SystemExit(1)


def _evaluate_all(
    evaluator: "Evaluator", chosen: "tuple[Benchmark, ...]", shots: int | None, limit: int | None
) -> "tuple[list[Evaluation], dict[str, str]]":
    """The scores; and why, by its name, each other benchmark has none."""
    from rich import progress as bars
    from rich.console import Console

    scores: list[Evaluation] = []
    missed: dict[str, str] = {}
    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("reading lm-evaluation-harness", total=None)
        from flows.evaluation.harness_tasks import QuestionsMissing

        for number, benchmark in enumerate(chosen, 1):
            where = f"{benchmark.name} ({number} of {len(chosen)})"
            progress.reset(bar, total=None, description=f"{where}: reading questions")

            def advance(done: int, total: int, where: str = where) -> None:
                progress.update(bar, completed=done, total=total, description=where)

            try:
                scores.append(
                    evaluator.evaluate(benchmark, shots=shots, limit=limit, advance=advance)
                )
            except QuestionsMissing as error:
                missed[benchmark.name] = str(error)
    return scores, missed


def print_doubts(scores: "list[Evaluation]") -> None:
    """Print the caveats of these scores."""
    for score in scores:
        for doubt in score.doubts():
            print(f"{score.benchmark}: {doubt}")


def _print(title: str, scores: "list[Evaluation]") -> None:
    from flows.commands.output import table, width
    from flows.evaluation.table import HEADER, published, row_of

    # Four more columns would break numbers in two on a narrow terminal.
    models = _BESIDE if width() >= _ROOM else _BESIDE[:1]
    rows = []
    for score in scores:
        published_scores = published(score)
        others = (
            f"{published_scores[model]:.1f}" if model in published_scores else ""
            for model in models
        )
        rows.append([*row_of(score), *others])
    table(title, [*HEADER, *models], rows)
    print("±: one standard error over the questions; bits/byte: of right answers given their")
    print("questions; the others' scores are as published.")
    print_doubts(scores)
