"""What a plan costs and rests on, in lines under its tables."""

from collections.abc import Sequence
from math import inf

from analysis.words import COUNTS, counted, dollars, flops, short
from flows.commands.planned.mixtures import mixture_lines
from flows.commands.planned.variants import scan_lines
from flows.cost.quote import Cost
from flows.plans.preparing import known_tokens, preparing
from llama_core.corpus.config import CorpusConfig
from llama_core.corpus.prepared import PreparedCorpus
from llama_core.counting import count_params
from sweeps.cap import amount, in_words
from sweeps.coverage import asked, name_of
from sweeps.plan import Plan
from sweeps.spec import PlannedRun
from sweeps.trunk_cost import BASIS, left_by_run


def summary(plan: Plan, corpus: PreparedCorpus | None, cost: Cost | None) -> list[str]:
    """Trainings, FLOPs, learning rates, time and money, and what is still open."""
    batches = sorted({planned.run.train.batch_tokens for planned in plan.runs})
    losses = counted(plan.observations, "loss", "losses")
    lines = [
        f"{counted(len(plan.runs), 'training')} for {losses}: {flops(plan.flops_spent)} counted "
        f"FLOPs, {span([f'{count:,}' for count in batches])} tokens a step"
        + (f"; the corpus has {short(corpus.train_tokens)} tokens" if corpus else ""),
        *scan_lines(plan),
        *mixture_lines(plan, corpus),
        *_asked(plan),
        *_rates(plan),
    ]
    if shared_trunks(plan):
        lines.append(
            "trunk%: share of the loss that one rate and batch for all horizons of a run leave on "
            f"the table, at its worst horizon; {BASIS}"
        )
    if corpus is None:
        lines += unprepared(plan.spec.corpus, timed=cost is not None)
    if cost is not None:
        lines += time_lines(cost) + _stack_lines(plan, cost) + _compile_lines(plan, cost)
    if plan.spec.cap is not None:
        cap = plan.spec.cap
        refusal = cost.refusal if cost is not None else None
        lines.append(refusal or f"cap: {in_words(cap, amount(cap))}")
    return lines


def unprepared(config: CorpusConfig, *, timed: bool) -> list[str]:
    """What a plan without its corpus leaves open, and what preparing it will take."""
    repeats = "whether its text repeats is not checked"
    if (published := known_tokens(config)) is not None:
        repeats = (
            f"whether its text repeats is checked against about {short(sum(published.values()))} "
            "tokens, which are reckoned from published figures and not counted"
        )
    lines = [
        f"the corpus is not prepared: planned for the vocabulary asked for, "
        f"{config.vocab_size:,} pieces, without run ids; {repeats}"
    ]
    if not timed:
        lines.append(
            "times are measured on the prepared corpus; --gpu h100 gives those of a GPU now"
        )
    for work in preparing(config):
        time = "in a time not known here"
        if work.seconds is not None:
            least = "at least" if work.at_least else "about"
            time = f"{least} {duration(work.seconds)} of one core's work, shared by all cores"
        tokens = "" if work.tokens is None else f", about {short(work.tokens)} tokens"
        share = f", {work.share:.3g} of the training tokens" if work.share < 1 else ""
        lines.append(f"to prepare {work.name}{share}: {work.read}{tokens}; {work.network}; {time}")
    return lines


def _asked(plan: Plan) -> list[str]:
    """A line on the shapes chosen for the sizes that a ladder asks for."""
    chosen = [
        f"{short(size.asked)} {name_of(plan.spec, size.model)} "
        f"({short(count_params(size.model).n_params)})"
        for size in asked(plan.spec)
    ]
    if not chosen:
        return []
    return [f"nearest shape to each N asked for, {COUNTS['n_params']}: {', '.join(chosen)}"]


def shown(plan: Plan) -> Sequence[PlannedRun]:
    """The runs in the table: none of a scan, and of mixtures those of the first."""
    first = next(iter(plan.spec.shares), "")
    own = [run for run in plan.runs if run.rate_factor is None and run.mixture == first]
    return own or plan.runs


def shared_trunks(plan: Plan) -> list[float]:
    """What sharing a trunk costs the worst horizon of each run; empty where nothing is shared."""
    left = [left_by_run(plan.spec, planned) for planned in shown(plan)]
    if not any(len(shares or ()) > 1 for shares in left):
        return []
    return [max(shares or [0.0]) for shares in left]


def _rates(plan: Plan) -> list[str]:
    """A line for each source of a learning rate, with the runs that use it."""
    names: dict[str, list[str]] = {}
    for planned in plan.runs if plan.spec.mixtures is None else shown(plan):
        names.setdefault(planned.lr_source, []).append(planned.name)
    if len(names) == 1:
        return [f"peak learning rate: {next(iter(names))}"]
    return [f"peak learning rate of {', '.join(runs)}: {source}" for source, runs in names.items()]


def time_lines(cost: Cost) -> list[str]:
    """Time and money for what is left."""
    estimate = cost.estimate
    if not estimate.device_s:
        return ["nothing is left to train"]
    low, high = estimate.elapsed_range_s
    spread = f" ({duration(low)} to {duration(high)})" if low < high else ""
    about = f"about {duration(estimate.elapsed_s)}{spread}"
    if estimate.elapsed_s < 1:
        about = "less than a second of training"
    lines = [f"{about} for what is left, {estimate.slots} at once: {estimate.basis}"]
    usd = cost.usd(estimate.device_s)
    if usd is not None:
        lines.append(
            f"about {dollars(usd)}: {estimate.device_s / 3600:.3g} device-hours at "
            f"{dollars(cost.usd_per_hour)} an hour ({cost.price_source}){_idle(cost)}"
        )
    return lines


def _stack_lines(plan: Plan, cost: Cost) -> list[str]:
    """Which of the runs left train as one program, and what that saves; nothing without groups.

    Without any, the group that comes nearest to it says why not.
    """
    names, times = {planned.id: planned.name for planned in plan.runs}, cost.estimate.runs

    def group_name(group: Sequence[str]) -> str:
        return f"{names[group[0]]} and {len(group) - 1} of its shape"

    yes = [(group, how) for group, how in cost.estimate.stacked if how.stacked]
    if yes:
        groups = "; ".join(
            f"{group_name(group)} ({how.gain:.2f} times as fast)" if how.gain else group_name(group)
            for group, how in yes
        )
        saved_s = sum(
            ((how.gain or 1.0) - 1) * sum(times[run].left_s for run in group) for group, how in yes
        )
        return [
            f"as one program: {groups}, to save about {duration(saved_s)} of work; workers of a "
            "pool train each alone"
        ]
    if not cost.estimate.stacked:
        return []
    group, how = max(cost.estimate.stacked, key=lambda pair: pair[1].gain or 0.0)
    return [f"as one program: none; {group_name(group)}: {how.reason}"]


def _compile_lines(plan: Plan, cost: Cost) -> list[str]:
    """Which of the runs left will be compiled, and what that saves; nothing where it is not chosen.

    Without any, the run that comes nearest to gaining says why not.
    """
    estimate = cost.estimate
    together = {run for group, how in estimate.stacked if how.stacked for run in group}
    left = [
        (planned, estimate.compiled[planned.id])
        for planned in plan.runs
        if planned.id in estimate.compiled and estimate.runs[planned.id].left_s
        if planned.id not in together
    ]
    compiled = [(planned, choice) for planned, choice in left if choice.compiled]
    if compiled:
        names = ", ".join(planned.name for planned, _ in compiled)
        gain_s = sum(choice.gain_s or 0.0 for _, choice in compiled)
        return [f"compiled: {names}, to save about {duration(gain_s)} together"]
    if not left:
        return []
    nearest, choice = max(left, key=lambda pair: pair[1].gain_s or -inf)
    if choice.gain_s is None:
        return [f"compiled: none; {choice.reason}"]
    return [f"compiled: none; {nearest.name} {choice.reason}"]


def _idle(cost: Cost) -> str:
    """What devices cost that wait until the last training ends; empty where few do."""
    share = cost.estimate.idle_share
    usd = cost.usd(cost.estimate.device_s * share / (1 - share))
    if share < 0.01 or usd is None:
        return ""
    return f"; {share:.0%} idle until the last training ends, ${usd:,.2f} more where rented"


def duration(seconds: float) -> str:
    """A duration in one unit: < 1 s, 42 s, 5.1 min, 3.2 h, 12 days."""
    if 0 < seconds < 1:
        return "< 1 s"
    for limit, unit, name in ((100, 1, "s"), (6000, 60, "min"), (360_000, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} s" if unit == 1 else f"{seconds / unit:.3g} {name}"
    return f"{seconds / 86400:.3g} days"


def brief(value: float) -> str:
    """A number with two digits, for a span of them."""
    return short(float(f"{value:.2g}"))


def span(values: Sequence[str]) -> str:
    """The first and the last of sorted values; one of equal ones."""
    return "–".join(dict.fromkeys((values[0], values[-1]))) if values else "–"
