"""`isoflop frontier` and `isoflop retrodict`: choose N and D, and read others' choices."""

import json as jsonlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from flows.commands.common import (
    Anyway,
    Json,
    Level,
    Report,
    check_destinations,
    fail,
    open_to_read,
    refusals,
    write_report,
)
from flows.commands.options import DEMAND, GOAL, SERVING, gpu_names, law_names, sweep_names
from flows.commands.tables import read_runs

if TYPE_CHECKING:
    from analysis.frontier.answer import Demand
    from analysis.frontier.decision import Goal
    from analysis.frontier.serving import Serving
    from analysis.law import LossLaw
    from analysis.retrodict.own_sweep import OwnSweep


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
    from analysis.frontier.answer import advise
    from analysis.frontier.document import advice_json
    from flows.commands.frontier_text import print_advice
    from flows.commands.output import emit

    with refusals():
        check_destinations(json, report)
        goal = _goal(loss, flops, like)
        demand = _demand(inference_tokens, prompt_tokens, generated_tokens)
        chosen, foretold = _law_for(law, goal, demand)
        if chosen.trust.bars and not anyway:
            bars = " ".join(f"{bar.rstrip('.')}." for bar in chosen.trust.bars)
            fail(f"{law}: {bars} --anyway answers under this law.")
        advice = advise(
            chosen,
            goal,
            demand,
            serving=_serving(
                gpu, price, demand, gpus=gpus, batch=batch, context=context, bits=bits, days=days
            ),
            days=days,
            unique_tokens=unique_tokens,
            level=level,
        )
        advice = replace(advice, foretold=foretold)
    if report is not None:
        from analysis.frontier.page import frontier_page

        write_report(frontier_page(advice), report)
    if json is not None:
        emit(advice_json(advice), json)
    if json != "-":
        print_advice(advice)


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
    from analysis.published import six_laws
    from analysis.retrodict.answer import retrodict as rows_for
    from analysis.retrodict.gap import gaps
    from analysis.retrodict.gap_text import gap_json
    from flows.commands.frontier_text import print_gaps, print_retrodiction
    from flows.commands.output import emit

    with refusals():
        check_destinations(json, report)
        own = _experiment(experiment) if experiment is not None else None
        rows = rows_for(six_laws(), level=level)
        found = gaps(six_laws(), level=level)
    if report is not None:
        from analysis.retrodict.page import retrodict_page

        write_report(retrodict_page(rows, level=level, own=own), report)
    if json is not None:
        by_model = {(gap.pair.model, gap.law): gap_json(gap) for gap in found}
        document = [
            _nested(row) | {"beat": by_model.get((row["model"], row["law"]))}
            for row in rows.to_dicts()
        ]
        emit(document, json)
    if json != "-":
        print_retrodiction(rows)
        print_gaps(found)


def _law_for(name: str, goal: "Goal", demand: "Demand") -> "tuple[LossLaw, bool]":
    """The law to answer under, and whether its draws are a forecast's.

    A sweep whose runs give no forecast answers under its fitted law, and says why.
    """
    from analysis.forecast.frontier_law import frontier_law
    from analysis.law import Trust
    from analysis.table.observations import TableError
    from analysis.table.selection import one_law

    if not _holds_runs(name):
        return read_law(name), False
    by_fit = not Path(name).is_file() and (open_to_read().sweeps / name / "law.json").is_file()
    fitted = read_law(name) if by_fit else None
    try:
        if fitted is not None and fitted.form == "data_constrained":
            raise TableError("a forecast takes every token for a fresh one, and this law does not.")
        table = one_law(read_runs(name, None, None), best_of=(), pool=False, named=True)
        return frontier_law(table, goal, demand, Path(name).stem), True
    except TableError as error:
        if fitted is None:
            if "--" not in str(error):
                raise
            raise TableError(
                f"{error} These are options of isoflop fit: --law takes what its --json wrote."
            ) from error
        why = f"No forecast: {error} The intervals are those of the fitted law."
        trust = Trust(bars=fitted.trust.bars, warnings=(*fitted.trust.warnings, why))
        return fitted.model_copy(update={"trust": trust}), False


def _holds_runs(name: str) -> bool:
    """Whether --law names a sweep with observations or a table, not constants."""
    from analysis.published import law_names
    from flows.tables.source import is_service

    path = Path(name)
    if path.is_file():
        return path.suffix != ".json" and not _is_object(path)
    if is_service(name) or (open_to_read().sweeps / name / "observations.parquet").is_file():
        return True
    return path.is_dir() and name not in law_names()


def _is_object(path: Path) -> bool:
    try:
        return isinstance(jsonlib.loads(path.read_bytes()), dict)
    except ValueError:
        return False


def read_law(name: str) -> "LossLaw":
    """A law of one of our sweeps or a published one, by name, or a law from a file.

    A file holds what `LossLaw.save` wrote, or what `isoflop fit --json` wrote for one group.
    """
    from pydantic import ValidationError

    from analysis.law import LossLaw
    from analysis.published import law

    path = Path(name)
    if not path.is_file():
        path = open_to_read().sweeps / name / "law.json"
        if not path.is_file():
            if Path(name).suffix:
                fail(f"there is no file {name}.")
            return law(name)
    try:
        content = jsonlib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        fail(f"{name} is not JSON: {error}")
    if not isinstance(content, dict):
        fail(f"{name} holds no law: expected an object with a law's constants.")
    groups = content.get("groups")
    if groups is not None and len(groups) != 1:
        fail(f"{name} holds {len(groups)} laws; a frontier needs one: fit one group at a time.")
    try:
        return LossLaw.model_validate(content if groups is None else _fitted(groups[0], path.stem))
    except ValidationError as error:
        first = error.errors()[0]
        fail(f"{name} is not a law: {'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}")


def _fitted(group: dict[str, Any], name: str) -> dict[str, Any]:
    """The whole law of a fit's group; around bare constants, what the group says of them."""
    if isinstance(group.get("loss_law"), dict):
        return dict(group["loss_law"])
    unknown = {
        "name": name,
        "form": group.get("form", "chinchilla"),
        "n_counts": group.get("n_counts", "unknown"),
        "c_counts": group.get("c_counts", "flops_6nd"),
        "loss_unit": group.get("loss_unit", "unknown"),
        "source": "isoflop fit",
    }
    return unknown | dict(group.get("law") or {})


def _goal(loss: float | None, flops: float | None, like: str | None) -> "Goal":
    from analysis.frontier.decision import AtBudget, AtLoss, Like

    goals = {"--loss": loss, "--flops": flops, "--like": like}
    given = [option for option, value in goals.items() if value is not None]
    if len(given) != 1:
        fail(
            "say what quality you want with one of --loss L, --flops C or --like N,D"
            + (f"; got {' and '.join(given)}." if given else ".")
        )
    if loss is not None:
        return AtLoss(loss)
    if flops is not None:
        return AtBudget(flops)
    parts = str(like).split(",")
    if len(parts) != 2:
        fail(f"--like {like}: give parameters and tokens, as in --like 7e9,1e12.")
    return Like(*(_number("--like", part) for part in parts))


def _demand(total: str | None, prompt: str | None, generated: str | None) -> "Demand":
    from analysis.frontier.answer import Demand

    if total is not None and (prompt is not None or generated is not None):
        fail("give --inference-tokens, or --prompt-tokens and --generated-tokens, not both.")
    if total is not None:
        # Without a split every token counts as generated, the more expensive kind.
        return Demand(generated=_interval("--inference-tokens", total))
    return Demand(
        prompt=_interval("--prompt-tokens", prompt or "0"),
        generated=_interval("--generated-tokens", generated or "0"),
    )


def _serving(
    gpu: str | None, price: float | None, demand: "Demand", **options: float | None
) -> "Serving | None":
    """The serving described by the options that were given; the others keep their defaults."""
    from analysis.frontier.serving import Device, Serving

    given = {name: value for name, value in options.items() if value is not None}
    for name, value in {**given, "price": price}.items():
        if value is not None and not value > 0:
            fail(f"--{name} {value:g} must be above zero.")
    if gpu is None:
        if price is not None or given:
            fail("--price, --gpus, --batch, --context, --bits and --days need --gpu: of which GPU?")
        return None
    if demand.bounds[1] == 0:
        fail("--gpu prices serving: give --prompt-tokens and --generated-tokens.")
    given.pop("days", None)
    if "context" in given:
        given["prompt"] = given["context"]
    if "bits" in given:
        given["weight_bits"] = given.pop("bits")
    return Serving(Device.named(gpu, usd_per_hour=price), **given)  # type: ignore[arg-type]


def _interval(option: str, text: str) -> tuple[float, float]:
    low, colon, high = text.partition(":")
    return _number(option, low), _number(option, high if colon else low)


def _number(option: str, text: str) -> float:
    from math import isfinite

    try:
        value = float(text)
    except ValueError:
        fail(f"{option} {text!r} is not a number; write 2e12, or 1e11:1e13 for an interval.")
    if not isfinite(value):
        fail(f"{option} {text!r} is not finite.")
    return value


def _experiment(name: str) -> "OwnSweep":
    """The law and the observations of one of our sweeps."""
    import polars as pl

    from analysis.law import LossLaw
    from analysis.retrodict.own_sweep import OwnSweep

    sweeps = open_to_read().sweeps
    law, table = sweeps / name / "law.json", sweeps / name / "observations.parquet"
    if not (law.is_file() and table.is_file()):
        fitted = sorted(path.parent.name for path in sweeps.glob("*/law.json"))
        fail(
            f"sweep {name} has no law in {sweeps}. "
            + (f"Sweeps with one: {', '.join(fitted)}." if fitted else "No sweep has one yet.")
        )
    return OwnSweep(name, LossLaw.load(law), pl.read_parquet(table, glob=False))


def _nested(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its intervals as pairs; null where the law has no bootstrap."""
    from analysis.retrodict.answer import QUANTITIES

    pairs = {name: [row.pop(f"{name}_low"), row.pop(f"{name}_high")] for name in QUANTITIES}
    return row | {"intervals": pairs if row["draws"] else None}
