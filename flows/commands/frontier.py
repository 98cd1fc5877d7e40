"""`isoflop frontier` and `isoflop retrodict`: choose N and D, and read others' choices."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from flows.commands.common import (
    Anyway,
    Json,
    Level,
    Report,
    fail,
    open_to_read,
    refusals,
)
from flows.commands.options import DEMAND, GOAL, SERVING, gpu_names, law_names, sweep_names

if TYPE_CHECKING:
    from flows.answers.retrodict import Retrodiction


def _help(group: Group, text: str) -> Parameter:
    return Parameter(help=text, group=group)


Tokens = str | None


def frontier(
    *,
    law: Annotated[
        str,
        Parameter(
            completer=law_names,
            help="sweep, table of runs, published name, or what fit --json wrote",
        ),
    ] = "besiroglu",
    loss: Annotated[float | None, _help(GOAL, "reach this loss")] = None,
    flops: Annotated[
        float | None, _help(GOAL, "be as good as this training budget buys, as 1e23")
    ] = None,
    like: Annotated[
        str | None, _help(GOAL, "be as good as N parameters on D tokens: N,D, as 7e9,2e12")
    ] = None,
    inference_tokens: Annotated[Tokens, _help(DEMAND, "a number, as 1e12, or LOW:HIGH")] = None,
    prompt_tokens: Annotated[Tokens, _help(DEMAND, "of prompts alone")] = None,
    generated_tokens: Annotated[Tokens, _help(DEMAND, "generated alone")] = None,
    gpu: Annotated[
        str | None,
        Parameter(
            group=SERVING, completer=gpu_names, help="price it on this GPU, such as h100 or b200"
        ),
    ] = None,
    price: Annotated[
        float | None, _help(SERVING, "dollars an hour for a GPU; else as listed")
    ] = None,
    gpus: Annotated[int | None, _help(SERVING, "most GPUs for one replica; 8")] = None,
    batch: Annotated[int | None, _help(SERVING, "sequences decoded together; 8")] = None,
    context: Annotated[
        float | None, _help(SERVING, "tokens of a prompt, and while decoding; 1024")
    ] = None,
    bits: Annotated[float | None, _help(SERVING, "bits of a stored weight; 16")] = None,
    days: Annotated[
        float | None, _help(SERVING, "rent whole replicas this long; else by the second")
    ] = None,
    unique_tokens: Annotated[
        float | None, Parameter(help="unique training tokens; else all fresh")
    ] = None,
    level: Level = 0.9,
    anyway: Anyway = False,
    json: Json = None,
    report: Report = None,
) -> None:
    """Compute-optimal and inference-optimal N and D, what they cost, and how sure that is.

    Ask for one goal: --loss, --flops or --like. Under a sweep or a table of runs the intervals are
    those of its forecast.
    """
    from flows.answers.law import check_law
    from flows.answers.question import Priced, demand_of, goal_of, serving_of

    with refusals():
        goal = goal_of(loss, flops, _pair(like))
        demand = demand_of(
            _interval("--inference-tokens", inference_tokens),
            _interval("--prompt-tokens", prompt_tokens),
            _interval("--generated-tokens", generated_tokens),
        )
        serving = serving_of(
            gpu, price, demand, gpus=gpus, batch=batch, context=context, bits=bits, days=days
        )
        priced = Priced(demand, serving, days, unique_tokens)
        check_law(law)

    from flows.answers.frontier import frontier as answer_of
    from flows.commands.frontier_text import print_advice
    from flows.commands.output import show

    with refusals():
        answer = answer_of(law, goal, priced, level=level, anyway=anyway)
    show(answer, lambda answer: print_advice(answer.advice), json, report)


def retrodict(
    *,
    level: Level = 0.9,
    experiment: Annotated[
        str | None, Parameter(completer=sweep_names, help="put a sweep of ours on the page")
    ] = None,
    json: Json = None,
    report: Report = None,
) -> None:
    """The inference bill that would make each published model the best choice; what beat GPT-3."""
    if experiment is not None:
        # Before scipy is imported, so that a misspelt name is refused at once.
        from flows.answers.source import law_and_table

        with refusals():
            law_and_table(experiment, open_to_read())

    from flows.answers.retrodict import own_sweep
    from flows.answers.retrodict import retrodict as answer_of
    from flows.commands.output import show

    with refusals():
        own = own_sweep(experiment, open_to_read()) if experiment is not None else None
        answer = answer_of(level, own)
    show(answer, _print_bills, json, report)


def _print_bills(answer: "Retrodiction") -> None:
    from flows.commands.frontier_text import print_gaps, print_retrodiction

    print_retrodiction(answer.rows)
    print_gaps(answer.gaps)


def _pair(like: str | None) -> tuple[float, float] | None:
    if like is None:
        return None
    parts = like.split(",")
    if len(parts) != 2:
        fail(f"--like {like}: give parameters and tokens, as in --like 7e9,1e12.")
    N, D = (_number("--like", part) for part in parts)
    return N, D


def _interval(option: str, text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    low, colon, high = text.partition(":")
    return _number(option, low), _number(option, high if colon else low)


def _number(option: str, text: str) -> float:
    from math import isfinite

    from analysis.forecast.points import read_number
    from analysis.table.observations import TableError

    try:
        value = float(text)
    except ValueError:
        try:
            # As --at of other commands: 7B, 2T.
            value = read_number(text, "count")
        except TableError:
            interval = "" if option == "--like" else ", or 1e11:1e13 for an interval"
            fail(f"{option} {text!r} is not a number; write 2e12 or 2T{interval}.")
    if not isfinite(value):
        fail(f"{option} {text!r} is not finite.")
    return value
