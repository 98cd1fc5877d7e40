"""A mixture's answer in words and short tables, for the terminal and for the page."""

from collections.abc import Iterator

import numpy as np

from analysis.layout import READABLE, hanging, table_lines, wrapped
from analysis.mixtures.answer import Answer
from analysis.mixtures.measured import Choice, Measured
from analysis.mixtures.question import ROUNDING
from analysis.words import counted, short, with_unit

BEST = ("source", "best share", "interval", "tried", "limit")
LAWS = ("law", "rank", "R²", "rank of target", "R² of target")
_MOST_EFFECTS, _MOST_POINTS = 8, 12


def first_lines(answer: Answer) -> list[str]:
    """What must be read before the answer."""
    return [
        *(f"NOT RELIABLE: {bar}" for bar in answer.bars),
        *(f"WEAK: {warning}" for warning in answer.warnings),
    ]


def verdict(answer: Answer) -> str:
    """The best mixture, and what it gains over the best one tried."""
    pooled, gain, tried = answer.best.pooled, answer.gain, answer.best_tried
    measured = float(answer.table.losses[tried] @ answer.weights)
    way, low, high = "lower", gain.lower, gain.upper
    if gain.value < 0:
        way, low, high = "higher", -gain.upper, -gain.lower
    limited = (answer.limits < 1).any()
    over = (answer.table.shares[tried] > answer.limits + ROUNDING).any()
    within = " within the limits" if limited and not over else ""
    return (
        f"Least {target_words(answer)}: {pooled.value:.4g} [{pooled.lower:.4g}, "
        f"{pooled.upper:.4g}] with the shares below. The best mixture tried{within} measured "
        f"{measured:.4g}{' and exceeds a limit' if over else ''}; by the law the best shares have "
        f"a loss {way} by {abs(gain.value):.3g} [{low:.3g}, {high:.3g}]."
    )


def factor_words(factor: float) -> str:
    """How a share grew, before the name of its source."""
    return "doubling" if factor == 2 else f"{factor:g} times"


def target_words(answer: Answer) -> str:
    """The target in words."""
    names, weights = answer.table.targets, answer.weights
    used = [(name, w) for name, w in zip(names, weights, strict=True) if w > 0]
    if len(used) == 1:
        return f"loss of {used[0][0]}"
    if np.allclose([w for _, w in used], used[0][1]):
        which = "all" if len(used) == len(names) else ", ".join(name for name, _ in used)
        return f"mean loss of {which}" if which != "all" else f"mean of the {len(used)} losses"
    return "loss " + " + ".join(f"{w:.2g}·{name}" for name, w in used)


def law_line(answer: Answer) -> str:
    """The law chosen, and how well it foretells mixtures held out."""
    score = answer.score
    return (
        f"{score.law.formula}. Five-fold, mixtures held out: rank correlation "
        f"{score.mean_rank:.4f} and R² {score.mean_r2:.3f} in the mean over "
        f"{counted(score.varying, 'loss', 'losses')}, {score.pooled_rank:.4f} and "
        f"{score.pooled_r2:.3f} of the target."
    )


def size_line(answer: Answer) -> str:
    """For which N and D, what a stock means, and what reading did."""
    size = answer.size
    # A law of runs of one N or D foretells losses there, whatever the training to mix for has.
    at = {**size, **answer.table.constant}
    parts = [
        f"{symbol} {short(at[name])}"
        for symbol, name in (("N", "n_params"), ("D", "tokens"))
        if name in at
    ]
    unit = answer.table.loss_unit.replace("_", " ")
    words = f" in {unit}" if unit != "unknown" else ""
    words += f" at {', '.join(parts)}" if parts else ""
    where = f"Losses{words}. " if words else ""
    if unit == "unknown":
        where += "Their unit is unknown: the table has no column loss_unit. "
    limits = ""
    if answer.question.stock:
        limits = (
            f"A limit is stock × {answer.question.epochs:g} epochs over {short(size['tokens'])} "
            "tokens; the law has no term for repetition: losses are foretold for sources read as "
            "often as in the runs. "
        )
    return where + limits + " ".join(answer.notes)


def law_rows(answer: Answer) -> list[list[str]]:
    """Every law tried, with its held-out errors."""
    return [
        [
            score.law.name + (" *" if score is answer.score else ""),
            f"{score.mean_rank:.4f}",
            f"{score.mean_r2:.3f}",
            f"{score.pooled_rank:.4f}",
            f"{score.pooled_r2:.3f}",
        ]
        for score in answer.scores
    ]


def best_rows(answer: Answer) -> list[list[str]]:
    """The best share of each source, the largest first."""
    table = answer.table
    order = np.argsort(-answer.best.shares, kind="stable")
    return [
        [
            table.sources[j],
            f"{answer.best.shares[j]:.3f}",
            f"{answer.intervals[j, 0]:.3f} to {answer.intervals[j, 1]:.3f}",
            f"{table.shares[:, j].min():.3f} to {table.shares[:, j].max():.3f}",
            f"{answer.limits[j]:.3f}" if answer.limits[j] < 1 else "–",
        ]
        for j in order
    ]


def losses_header(answer: Answer) -> tuple[str, ...]:
    """Header of `loss_rows`."""
    best = with_unit("at the best", answer.table.loss_unit)
    return ("loss", "weight", best, "interval", "held-out rank", "R²")


def loss_rows(answer: Answer) -> list[list[str]]:
    """The losses at the best mixture, and how well each is foretold."""
    return [
        [
            name,
            f"{answer.weights[j]:.3f}",
            f"{answer.best.losses[j].value:.4f}",
            f"{answer.best.losses[j].lower:.4f} to {answer.best.losses[j].upper:.4f}",
            _known(answer.score.rank[j], ".4f"),
            _known(answer.score.r2[j], ".3f"),
        ]
        for j, name in enumerate(answer.table.targets)
    ]


def _known(value: float, digits: str) -> str:
    return f"{value:{digits}}" if np.isfinite(value) else "–"


def effect_lines(answer: Answer) -> list[str]:
    """The largest effects of a source's share on a loss, in sentences."""
    effects = [
        (effect, name, loss)
        for effect in answer.effects
        for name, loss in zip(answer.table.targets, effect.losses, strict=True)
    ]
    effects.sort(key=lambda each: -abs(each[2].value))
    lines = []
    for effect, name, loss in effects[:_MOST_EFFECTS]:
        verb = "raises" if loss.value > 0 else "lowers"
        lines.append(
            f"{factor_words(effect.factor)} {effect.source} ({effect.share:.3f} of the average "
            f"mixture) {verb} the loss of {name} by {abs(loss.value):.3g} ± "
            f"{(loss.upper - loss.lower) / 2:.2g}"
        )
    return lines


def points_header(answer: Answer) -> tuple[str, ...]:
    """Header of `point_rows`."""
    return ("point", with_unit("pooled", answer.table.loss_unit), "interval", "outside by")


def point_rows(answer: Answer) -> list[list[str]]:
    """The first points with their target."""
    return [
        [
            f"{place}",
            f"{point.pooled.value:.4f}",
            f"{point.pooled.lower:.4f} to {point.pooled.upper:.4f}",
            f"{point.outside:.3f}" if point.outside else "–",
        ]
        for place, point in enumerate(answer.points[:_MOST_POINTS], 1)
    ]


def measured_lines(measured: Measured) -> Iterator[str]:
    """How well the law orders points with losses of their own, and what its choice is worth."""
    if measured.ranks:
        each = ", ".join(f"{name} {rank:.4f}" for name, rank in measured.ranks.items())
        mean = float(np.mean(list(measured.ranks.values())))
        target = "" if measured.pooled is None else f"{measured.pooled:.4f} of the target, "
        yield (
            f"Rank correlation with the points' own losses: {target}{mean:.4f} in the mean over "
            f"{len(measured.ranks)} losses ({each})."
        )
    if measured.missing:
        yield f"The points have no loss of {', '.join(measured.missing)}, so no target."
    if measured.choice is not None:
        yield choice_line(measured.choice)


def choice_line(choice: Choice) -> str:
    """The point that the law chooses, and what a better one would have measured."""
    sentence = (
        f"Of the {choice.count} points with a measured target the law chooses point "
        f"{choice.chosen + 1}, which measured {choice.loss:.4f} where their mean is "
        f"{choice.mean:.4f}: "
    )
    if not choice.regret:
        return f"{sentence}the least of them."
    return (
        f"{sentence}number {choice.place} of them, {choice.regret:.2g} above point "
        f"{choice.best + 1}, the least."
    )


def answer_lines(answer: Answer, width: int = READABLE) -> Iterator[str]:
    """The answer for a terminal, with what must be read before it."""
    for line in first_lines(answer):
        yield from wrapped(line, width)
    yield from wrapped(verdict(answer), width)
    yield from table_lines(BEST, best_rows(answer), width=width)
    yield from wrapped(size_line(answer), width)
    yield ""
    yield from wrapped(law_line(answer), width)
    yield from table_lines(LAWS, law_rows(answer), width=width)
    spare = ("R²", "held-out rank")
    yield from table_lines(losses_header(answer), loss_rows(answer), width=width, spare=spare)
    yield ""
    yield "Largest effects, the other shares shrunk alike:"
    for line in effect_lines(answer):
        yield from hanging("- ", line, width)
    if answer.points:
        yield ""
        yield from table_lines(points_header(answer), point_rows(answer), width=width)
        if len(answer.points) > _MOST_POINTS:
            yield f"   … {len(answer.points) - _MOST_POINTS} more: all of them with --json"
        if answer.measured is not None:
            for line in measured_lines(answer.measured):
                yield from wrapped(line, width)
