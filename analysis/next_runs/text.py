"""Next runs in words and a short table, for the terminal and for the page."""

from collections.abc import Iterator

from analysis.fit.text import warning_lines
from analysis.forecast.text import first_lines
from analysis.layout import READABLE, table_lines, wrapped
from analysis.next_runs.answer import Intervals, NextRuns
from analysis.words import counted, flops, sentence, short

HEADER = ("", "N", "D", "D/N", "FLOPs", "sum", "foretold", "N* alone", "N* so far", "loss", "saves")


def verdict(answer: NextRuns) -> str:
    """Whether more small runs pay, in a line."""
    candidates, saves = answer.candidates, answer.saves_alone
    if saves is None:
        return "no verdict: the forecast shows no valley at the target, so nothing can be priced."
    if worth := answer.worthwhile:
        saved = sum(run.saves or 0.0 for run in answer.runs[:worth])
        every = worth == len(answer.runs)
        which = "all runs save" if every else f"runs 1 to {worth} save"
        if worth == 1:
            which = "the run saves" if every else "run 1 saves"
        return (
            f"worth it: {which} {flops(saved)} FLOPs of the target for "
            f"{flops(answer.runs[worth - 1].spent)}{'' if every else ', the others cost more'}."
        )
    best = int((saves - candidates.flops).argmax())
    run = f"N {short(candidates.N[best])} on {short(candidates.D[best])}"
    gain = f"saves {flops(saves[best])} FLOPs of the target for {flops(candidates.flops[best])}."
    if saves[best] > candidates.flops[best]:
        return f"these runs cost more than they save, but {run} {gain}"
    return f"stop: no run saves what it costs. The best, {run}, {gain}"


def target_line(answer: NextRuns) -> str:
    """What is asked, and how wide its intervals are today and after the runs."""
    level, after = f"{answer.forecast.level:.0%}", answer.runs[-1].together
    size = "" if answer.forecast.bars else f" = {short(answer.target.n_opt)}"
    runs = counted(len(answer.runs), "run")
    return (
        f"At {flops(answer.target.flops)} FLOPs (6ND) N*{size} is known to {_width(answer.today)} "
        f"({level} intervals); after {runs} for {flops(answer.runs[-1].spent)} FLOPs to "
        f"{_width(after)}."
    )


def run_rows(answer: NextRuns) -> list[list[str]]:
    """Each run with its cost, the loss foretold and the intervals after it."""
    return [
        [
            f"{place}",
            short(run.n_params),
            short(run.tokens),
            short(run.tokens / run.n_params),
            flops(run.flops),
            flops(run.spent),
            f"{run.loss:.4f}",
            f"×{run.alone.n_factor:.2f}",
            f"×{run.together.n_factor:.2f}",
            f"{run.together.loss_percent:.2f} %",
            "–" if run.saves is None else flops(run.saves),
        ]
        for place, run in enumerate(answer.runs, 1)
    ]


def candidates_line(answer: NextRuns) -> str:
    """Of which runs they were chosen, and what did not fit into the budget."""
    candidates, left_out = answer.candidates, answer.unaffordable
    text = (
        f"Chosen from {counted(len(candidates), 'candidate')}, N {short(candidates.N.min())} to "
        f"{short(candidates.N.max())}, D {short(candidates.D.min())} to "
        f"{short(candidates.D.max())}, up to {flops(candidates.flops.max())} FLOPs."
    )
    if left_out.any():
        # What would teach most about N*.
        best = int(min(left_out.nonzero()[0], key=lambda place: answer.n_alone[place]))
        left = answer.budget - answer.runs[-1].spent
        text += (
            f" {left_out.sum()} of them did not fit into the {flops(left)} FLOPs left of the "
            f"budget; of these N {short(candidates.N[best])} on {short(candidates.D[best])} for "
            f"{flops(candidates.flops[best])} would sharpen N* most."
        )
    return text


def explanation(answer: NextRuns) -> str:
    """What the columns of the table mean."""
    return (
        "N*: width of its interval, upper over lower end, after the run alone and after it and "
        "those above; loss: width of the interval at the target then; saves: FLOPs of the target "
        "that a training at N* is expected to waste less."
    )


def answer_lines(answer: NextRuns, width: int = READABLE) -> Iterator[str]:
    """The answer for a terminal, with what must be read before it."""
    yield from warning_lines(first_lines(answer.forecast), width)
    yield from wrapped(sentence(verdict(answer)), width)
    yield from wrapped(target_line(answer), width)
    yield from table_lines(
        HEADER, run_rows(answer), width=width, spare=("N* alone", "D/N", "foretold")
    )
    yield from wrapped(explanation(answer), width)
    yield from wrapped(candidates_line(answer), width)


def _width(intervals: Intervals) -> str:
    return f"a factor {intervals.n_factor:.2f} and the loss to {intervals.loss_percent:.2g} %"
