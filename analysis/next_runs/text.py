"""Next runs in words and a short table, for the terminal and for the page."""

from collections.abc import Iterator, Sequence

from analysis.fit.text import warning_lines
from analysis.next_runs.answer import Intervals, NextRuns
from analysis.words import flops, short

HEADER = ("", "N", "D", "D/N", "FLOPs", "sum", "foretold", "N* alone", "N* so far", "loss", "saves")


def verdict(answer: NextRuns) -> str:
    """Whether more small runs pay, in a line."""
    if answer.saves_alone is None:
        return "no verdict: the forecast shows no valley at the target, so add runs that show one."
    worth = answer.worthwhile
    if worth:
        saved = sum(run.saves or 0.0 for run in answer.runs[:worth])
        which = "the run" if len(answer.runs) == 1 else f"the {worth} runs"
        if worth < len(answer.runs):
            which = "run 1" if worth == 1 else f"runs 1 to {worth}"
        then = "; stop after them" if worth < len(answer.runs) else ""
        return (
            f"worth it: {which} saved {flops(saved)} FLOPs of the target for "
            f"{flops(answer.runs[worth - 1].spent)}{then}."
        ).replace(" saved ", f" save{'s' if worth == 1 else ''} ")
    net = answer.saves_alone - answer.candidates.flops
    best = int(net.argmax())
    N, D = answer.candidates.N[best], answer.candidates.D[best]
    return (
        f"{'worth it only as' if net[best] > 0 else 'stop: no run saves what it costs; best is'} "
        f"N {short(N)} on {short(D)}, which saves {flops(answer.saves_alone[best])} FLOPs of the "
        f"target for {flops(answer.candidates.flops[best])}."
    )


def target_line(answer: NextRuns) -> str:
    """What is asked, and how wide its intervals are today and after the runs."""
    level, after = f"{answer.forecast.level:.0%}", answer.runs[-1].together
    size = "" if answer.forecast.bars else f" = {short(answer.target.n_opt)}"
    return (
        f"At {flops(answer.target.flops)} FLOPs: N*{size} to {_width(answer.today)} "
        f"({level} intervals), to {_width(after)} after {_runs(len(answer.runs))} of "
        f"{flops(answer.runs[-1].spent)} FLOPs."
    )


def run_rows(answer: NextRuns) -> list[list[str]]:
    """Each run with its cost, the loss foretold and the intervals after it."""
    return [
        [
            f"{place}",
            short(run.n_params),
            short(run.tokens),
            f"{run.tokens / run.n_params:.3g}",
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
        f"Chosen from {len(candidates)} candidates, N {short(candidates.N.min())} to "
        f"{short(candidates.N.max())}, D {short(candidates.D.min())} to "
        f"{short(candidates.D.max())}, up to {flops(candidates.flops.max())} FLOPs."
    )
    if answer.budget is not None and left_out.any():
        # What would teach most about N*.
        best = int(min(left_out.nonzero()[0], key=lambda place: answer.n_alone[place]))
        left = answer.budget - answer.runs[-1].spent
        text += (
            f" {left_out.sum()} of them did not fit into the {flops(left)} FLOPs left of the "
            f"budget; of these N {short(candidates.N[best])} on {short(candidates.D[best])} for "
            f"{flops(candidates.flops[best])} would sharpen N* most."
        )
    return text


def answer_lines(answer: NextRuns, table: Sequence[str]) -> Iterator[str]:
    """The answer for a terminal; `table` holds the lines of `run_rows`."""
    yield from warning_lines(answer.forecast.warnings)
    yield verdict(answer)
    yield target_line(answer)
    yield from table
    yield candidates_line(answer)


def _width(intervals: Intervals) -> str:
    return f"a factor {intervals.n_factor:.2f} and the loss to {intervals.loss_percent:.2g} %"


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
