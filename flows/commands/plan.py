"""Command plan, and how a spec is loaded from the command line."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.common import Json, busy, failures, open_all, refusals
from flows.commands.limits import UNLIMITED, Limits, cap_of, speed_of

if TYPE_CHECKING:
    from sweeps.spec import SweepSpec


Overrides = Annotated[
    tuple[str, ...],
    Parameter(name="--set", help="override of a setting, as in grid.budgets=[1e12]"),
]
Corpus = Annotated[str | None, Parameter(help="file or folder of text, JSONL or Parquet")]
Slots = Annotated[int | None, Parameter(help="trainings at once")]


def plan(
    spec: str,
    *,
    set: Overrides = (),
    corpus: Corpus = None,
    slots: Slots = None,
    limits: Limits = UNLIMITED,
    json: Json = None,
) -> None:
    """Show every run of a sweep with N, D, C, learning rate, time and cost; nothing is trained.

    SPEC is a preset's name or a YAML file. The first plan on a corpus prepares it.
    """
    from flows.commands.output import check_destination, emit
    from flows.commands.plan_text import plan_json, print_plan
    from flows.cost.calibrate import CalibrationError
    from flows.cost.quote import quote
    from flows.plans.plan import make_plan

    with refusals():
        _, home = open_all()
        parsed = load(spec, set, corpus, limits)
        environments = chosen_slots(parsed, slots, limits)
        if json is not None:
            check_destination(json)
        with busy("looking for the corpus") as tell:
            planned, prepared = make_plan(parsed, home, tell)
        doing = "timing every shape on this machine" if limits.gpu is None else "adding up"
        with busy(doing), failures(CalibrationError):
            cost = quote(
                planned, home, environments, speed=speed_of(limits), usd_per_hour=limits.price
            )
    if json is not None:
        emit(plan_json(planned, prepared, cost, home), json)
    else:
        print_plan(planned, prepared, home, cost=cost)


def load(spec: str, overrides: tuple[str, ...], corpus: str | None, limits: Limits) -> "SweepSpec":
    import json as encoder

    from sweeps.load import load_spec

    if corpus is not None:
        source = {"kind": "files", "path": corpus}
        overrides = (f"corpus.sources={encoder.dumps([source])}", *overrides)
    parsed = load_spec(spec, overrides)
    cap = cap_of(limits)
    return parsed if cap is None else parsed.model_copy(update={"cap": cap})


def chosen_slots(spec: "SweepSpec", asked: int | None, limits: Limits) -> list[dict[str, str]]:
    """The environment of each slot; one, unless asked for more, of a GPU that is not here."""
    from flows.training.slots import slot_environments

    if asked is not None and asked < 1:
        raise ValueError(f"--slots {asked} is less than one.")
    if limits.gpu is not None:
        return [{}] * (asked or spec.slots or 1)
    return slot_environments(spec, asked)
