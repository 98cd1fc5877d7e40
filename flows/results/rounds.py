"""How the runs of a sweep were chosen, in sentences and as a section of its report."""

from collections.abc import Iterator

import polars as pl

from analysis.page import Page
from analysis.words import counted, flops, short
from flows.plans.rounds import ChosenCell, Round, Rounds, Width
from sweeps.plan import Plan

_LEVEL = "90 %"


def design_sentences(design: Rounds, planned: Plan, frame: pl.DataFrame) -> Iterator[str]:
    """What was chosen, how it did against what was predicted, and why it stopped.

    Args:
        frame: the sweep's observations.
    """
    cells = [cell for each in design.rounds for cell in each.cells]
    trained = frame["val_loss"].count()
    rounds = counted(len(design.rounds), "round")
    spent = sum(run.flops_spent for run in planned.runs if run.id not in design.had)
    yield (
        f"Designed in {rounds}: {trained} of the grid's {design.cells} cells have a loss, for "
        f"{flops(spent)} FLOPs; the whole grid takes {flops(design.flops)}."
    )
    chosen = [each for each in design.rounds if each.before is not None]
    if chosen:
        target = f"At {flops(chosen[-1].target_flops)} FLOPs (6ND)"
        yield (
            f"{target} the {_LEVEL} intervals went from {_words(chosen[0].before)} to "
            f"{_words(design.reached)}; the last round was to bring them to "
            f"{_words(chosen[-1].predicted)}. {_score(cells, frame)}"
        )
    elif design.reached is not None:
        yield f"The {_LEVEL} intervals at the target are {_words(design.reached)}."
    if design.stopped:
        yield f"Stopped: {design.stopped}."


def add_design(page: Page, design: Rounds, planned: Plan, frame: pl.DataFrame) -> None:
    """Add the section of a sweep's report that shows how its runs were chosen."""
    page.heading("How the runs were chosen")
    for sentence in design_sentences(design, planned, frame):
        page.text(sentence)
    afterwards = [each.before for each in design.rounds[1:]] + [design.reached]
    page.table(
        ["round", "N on D", "FLOPs alone", "N* before", "predicted", "reached", "loss predicted",
         "loss reached", "why"],
        [
            _row(number, each, after)
            for number, (each, after) in enumerate(zip(design.rounds, afterwards, strict=True), 1)
        ],
    )  # fmt: skip
    page.text(
        "N*: upper over lower end of its interval at the target; loss: width of the interval "
        "there. Predicted: before the round was trained, from the forecast without it.",
        role="soft",
    )


def _row(number: int, each: Round, after: Width | None) -> list[str]:
    cells = ", ".join(f"{short(cell.n_params)} on {short(cell.tokens)}" for cell in each.cells)
    return [
        str(number),
        cells,
        flops(sum(cell.flops for cell in each.cells)),
        _factor(each.before),
        _factor(each.predicted),
        _factor(after),
        _percent(each.predicted),
        _percent(after),
        each.why,
    ]


def _score(cells: list[ChosenCell], frame: pl.DataFrame) -> str:
    """How the losses foretold at each choice did."""
    rows = frame.filter(pl.col("val_loss").is_not_null())
    losses = {(N, D): loss for N, D, loss in rows.select("n_params", "tokens", "val_loss").rows()}
    pairs = [
        (cell.foretold, losses[cell.n_params, cell.tokens])
        for cell in cells
        if cell.foretold is not None and (cell.n_params, cell.tokens) in losses
    ]
    inside = sum(foretold.lower <= loss <= foretold.upper for foretold, loss in pairs)
    return f"Of the losses foretold at each choice {inside} of {len(pairs)} came inside."


def _words(width: Width | None) -> str:
    if width is None:
        return "unknown"
    return f"a factor {width.n_factor:.2f} of N* and {width.loss_percent:.2g} % of loss"


def _factor(width: Width | None) -> str:
    return "–" if width is None else f"×{width.n_factor:.2f}"


def _percent(width: Width | None) -> str:
    return "–" if width is None else f"{width.loss_percent:.2f} %"
