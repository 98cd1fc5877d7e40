"""Commands plan and prepare, and how a spec is loaded from the command line."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import Parameter

from flows.commands.common import (
    Json,
    busy,
    failures,
    open_all,
    open_all_to_read,
    open_to_read,
    progress_shown,
    refusals,
)
from flows.commands.limits import UNLIMITED, Limits, cap_of, speed_of
from flows.commands.options import COST, AnySpec, Corpus, Overrides, Slots

if TYPE_CHECKING:
    from flows.cost.quote import Cost
    from flows.settings import Home
    from llama_core.corpus.prepared import PreparedCorpus
    from sweeps.spec import SweepSpec
    from sweeps.tune_plan import AnyPlan
    from sweeps.tune_spec import TuneSpec

_Spec = TypeVar("_Spec", "SweepSpec", "TuneSpec")

# Where a spec asks for CUDA, this machine has none and no GPU is named.
_USUAL_GPU = "h100"


def plan(
    spec: AnySpec,
    /,
    *,
    set: Overrides = (),
    corpus: Corpus = None,
    slots: Slots = None,
    devices: Annotated[
        int | None, Parameter(group=COST, help="GPUs that the sweep is planned for")
    ] = None,
    retime: Annotated[
        bool, Parameter(group=COST, help="time this machine again; timings are kept six hours")
    ] = False,
    limits: Limits = UNLIMITED,
    json: Json = None,
) -> None:
    """Show every run of a sweep with N, D, C, learning rate, time and cost; nothing is trained.

    Of a study, such as lr-batch, it shows widths, ranges, trials and cost.
    A corpus that is not prepared stays so: the plan is then
    of the vocabulary asked for, and says what `isoflop prepare` will take.
    """
    with refusals():
        # Before torch and scipy are imported, so that a misspelt name is refused at once.
        parsed = load_any(spec, set, corpus, limits)

    from flows.cost.calibrate import CalibrationError
    from flows.cost.quote import quote
    from flows.plans.plan import plan_ahead
    from sweeps.tune_spec import TuneSpec

    with refusals():
        settings, home = open_all_to_read()
        parsed, limits = _placed(parsed, limits)
        if retime and limits.gpu is not None:
            raise ValueError(
                f"--retime times this machine, and the plan is for --gpu {limits.gpu}."
            )
        environments = planned_slots(parsed, slots, devices, limits)
        planned: AnyPlan
        if isinstance(parsed, TuneSpec):
            # Optuna and scipy's statistics, half a second that a sweep does not need.
            from flows.tuning.plan import plan_study

            planned, prepared = plan_study(parsed, home, settings.optuna_uri)
        else:
            planned, prepared = plan_ahead(parsed, home)
        speed, cost = speed_of(limits), None
        # Timing a shape on this machine reads the corpus.
        if prepared is not None or speed is not None:
            doing = "timing every shape on this machine" if speed is None else "adding up"
            with busy(doing), failures(CalibrationError):
                cost = quote(
                    planned,
                    home,
                    environments,
                    speed=speed,
                    usd_per_hour=limits.price,
                    retime=retime,
                )
    given = as_given(spec, set, corpus)
    _show(planned, prepared, home, cost, given, json)
    if prepared is None and json is None:
        sooner = " before you pay for a GPU" if speed is not None else ""
        print(f"prepare the corpus{sooner}: isoflop prepare {given}")


def _show(
    planned: "AnyPlan",
    prepared: "PreparedCorpus | None",
    home: "Home",
    cost: "Cost | None",
    given: str,
    json: str | None,
) -> None:
    from flows.commands.output import emit
    from flows.commands.planned.document import plan_json
    from flows.commands.planned.study import print_study, study_json
    from flows.commands.planned.text import print_plan
    from sweeps.plan import Plan

    if json is not None:
        emit(
            plan_json(planned, prepared, cost, home, given)
            if isinstance(planned, Plan)
            else study_json(planned, prepared, home, cost),
            json,
        )
    elif isinstance(planned, Plan):
        print_plan(planned, prepared, home, cost=cost, given=given)
    else:
        print_study(planned, prepared, home, cost=cost)


def _placed(spec: "SweepSpec | TuneSpec", limits: Limits) -> "tuple[SweepSpec | TuneSpec, Limits]":
    """The spec and limits with a GPU where the spec asks for one, and that GPU's precision."""
    if limits.gpu is None and needs_a_gpu(spec):
        limits = replace(limits, gpu=_USUAL_GPU)
    if limits.gpu is not None and spec.dtype == "auto":
        spec = spec.model_copy(update={"dtype": "bfloat16"})
    return spec, limits


def prepare(
    spec: AnySpec, /, *, set: Overrides = (), corpus: Corpus = None, json: Json = None
) -> None:
    """Fetch the text of a sweep or study and turn it into tokens; nothing is trained.

    A corpus that is prepared already is only checked, so
    that `isoflop sweep` starts training at once.
    """
    with refusals():
        parsed = load_any(spec, set, corpus, UNLIMITED)
        _, home = open_all()

    from rich.console import Console

    from flows.commands.output import emit
    from flows.commands.planned.document import corpus_json
    from flows.commands.planned.text import print_notes
    from flows.plans.plan import make_plan
    from flows.tuning.plan import prepare_tune
    from sweeps.tune_spec import TuneSpec

    with refusals(), progress_shown("looking for the corpus") as report_progress:
        if isinstance(parsed, TuneSpec):
            prepared = prepare_tune(parsed, home, report_progress)
        else:
            _, prepared = make_plan(parsed, home, report_progress)
    if json is not None:
        emit(corpus_json(parsed.corpus, prepared), json)
        return
    print(
        f"corpus   {prepared.train_tokens:,} tokens to train on and {prepared.val_tokens:,} to "
        f"validate, {prepared.vocab_size:,} pieces"
    )
    print(f"folder   {prepared.path}")
    print_notes(prepared, Console(highlight=False))


def as_given(spec: str, overrides: tuple[str, ...], corpus: str | None) -> str:
    """The words of the command line that name a spec, quoted for a shell."""
    words = [spec, *(word for override in overrides for word in ("--set", override))]
    return shlex.join([*words, *(("--corpus", corpus) if corpus is not None else ())])


def load(spec: str, overrides: tuple[str, ...], corpus: str | None, limits: Limits) -> "SweepSpec":
    """The spec of a sweep with what the options change of it."""
    from sweeps.load import load_spec

    return _loaded(load_spec, spec, overrides, corpus, limits)


def load_study(
    spec: str, overrides: tuple[str, ...], corpus: str | None, limits: Limits
) -> "TuneSpec":
    """The spec of a study with what the options change of it."""
    from sweeps.load import load_tune_spec

    return _loaded(load_tune_spec, spec, overrides, corpus, limits)


def _loaded(
    read: "Callable[[str, tuple[str, ...]], _Spec]",
    spec: str,
    overrides: tuple[str, ...],
    corpus: str | None,
    limits: Limits,
) -> "_Spec":
    from sweeps.load import NoSpecError

    try:
        parsed = read(spec, (*corpus_override(corpus), *overrides))
    except NoSpecError as error:
        from flows.plans.find import other_kind

        raise ValueError(f"{error} {other_kind(spec, open_to_read())}".strip()) from error
    cap = cap_of(limits)
    return parsed if cap is None else parsed.model_copy(update={"cap": cap})


def load_any(
    spec: str, overrides: tuple[str, ...], corpus: str | None, limits: Limits
) -> "SweepSpec | TuneSpec":
    """The spec of a sweep or of a study with what the options change of it."""
    from sweeps.load import spec_kind

    return (load_study if spec_kind(spec) == "study" else load)(spec, overrides, corpus, limits)


def corpus_override(corpus: str | None) -> tuple[str, ...]:
    """The override that `--corpus` means."""
    import json as encoder

    if corpus is None:
        return ()
    return (f"corpus.sources={encoder.dumps([{'kind': 'files', 'path': corpus}])}",)


def chosen_slots(spec: "SweepSpec | TuneSpec", slots: int | None) -> list[dict[str, str]]:
    """The environment of each slot of this machine.

    Raises:
        ValueError: fewer than one slot, or a training needs more GPUs than there are.
    """
    from flows.training.slots import slot_environments

    if slots is not None and slots < 1:
        raise ValueError(f"--slots {slots} is less than one.")
    return slot_environments(spec, slots)


def planned_slots(
    spec: "SweepSpec | TuneSpec", slots: int | None, devices: int | None, limits: Limits
) -> list[dict[str, str]]:
    """The slots a plan is made for: this machine's, or empty ones for a GPU by its name.

    Raises:
        ValueError: fewer than one slot, fewer devices than one training needs, or devices and
            slots together.
    """
    if devices is not None:
        ranks = spec.placement.ranks
        if slots is not None:
            raise ValueError("--devices and --slots were given: choose one.")
        if limits.gpu is None:
            raise ValueError(f"--devices {devices} are GPUs: name them, as --gpu h100.")
        if devices < ranks:
            raise ValueError(
                f"--devices {devices} is less than the {ranks} that one training takes "
                "(placement.ranks)."
                if ranks > 1
                else f"--devices {devices} is less than one."
            )
        return [{}] * (devices // ranks)
    if limits.gpu is None or (slots is not None and slots < 1):
        return chosen_slots(spec, slots)
    return [{}] * (slots or spec.slots or 1)


def needs_a_gpu(spec: "SweepSpec | TuneSpec") -> bool:
    """Whether a sweep trains on CUDA and this machine has none."""
    if not spec.placement.device.startswith("cuda"):
        return False
    import torch

    return not torch.cuda.is_available()
