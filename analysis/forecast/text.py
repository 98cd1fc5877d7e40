"""A forecast in words and short tables, for the terminal and for the page."""

from collections.abc import Iterator, Sequence

from analysis.fit.text import warning_lines
from analysis.forecast.answer import Answer, ForecastOptimum
from analysis.forecast.record import Score
from analysis.layout import READABLE, hanging, table_lines
from analysis.table.observations import Table
from analysis.table.sources import read_words
from analysis.words import bracket, flops, short, what_n_counts

POINTS = ("N", "D", "C = 6ND", "loss", "beyond: C", "D/N", "law", "misfit", "noise")
OPTIMA = ("C = 6ND", "N*", "D*", "loss there", "beyond: C")
REGRETS = ("C = 6ND", "instead of N*", "loss rises by", "of the compute is wasted")
OTHERS = ("C = 6ND", "method", "N*", "D*", "loss there")
_SPARE = ("noise", "misfit", "law", "[D*]", "D/N", "beyond: C")
RECORD = ("cut at", "runs below", "foretold", "method", "inside", "error", "width", "Winkler score")


def point_rows(answer: Answer) -> list[list[str]]:
    """Each point's loss with its interval, its distance in e-folds, and the shares of its doubt."""
    rows = []
    for point in answer.points:
        shares = (point.shares.law, point.shares.discrepancy, point.shares.noise)
        loss = _loss(answer, point.loss, (point.lower, point.upper))
        where = [short(point.n_params), short(point.tokens), flops(point.flops)]
        apart = [_efolds(point.beyond.flops_efolds), _efolds(point.beyond.ratio_efolds)]
        rows.append([*where, loss, *apart, *(f"{share:.0%}" for share in shares)])
    return rows


def optimum_rows(answer: Answer) -> list[list[str]]:
    """N*, D* and the loss there at each budget, with their intervals."""
    rows = []
    for each in answer.optimum:
        best = each.best
        loss = _loss(answer, best.loss, best.loss_interval)
        sizes = (_sizes(best.n_opt, best.n_interval), _sizes(best.d_opt, best.d_interval))
        rows.append([flops(best.flops), *sizes, loss, _efolds(each.beyond.flops_efolds)])
    return rows


def regret_rows(answer: Answer) -> list[list[str]]:
    """What it costs to train the ends of N*'s interval instead."""
    return [
        [flops(each.best.flops), short(end), f"{100 * rise:.2g} %", f"{100 * wasted:.2g} %"]
        for each in answer.optimum
        for end, rise, wasted in zip(
            each.best.n_interval, each.best.rise, each.best.regret_flops, strict=True
        )
    ]


def other_rows(answer: Answer) -> list[list[str]]:
    """What approaches 2 and 3 say at each budget."""
    return [
        [
            flops(each.best.flops),
            other.name,
            short(other.n_opt),
            short(other.d_opt),
            "–" if other.loss is None else f"{other.loss:.4f}",
        ]
        for each in answer.optimum
        for other in each.others
    ]


def record_rows(answer: Answer) -> list[list[str]]:
    """How the forecast and approach 3 did on this table at each cut."""
    rows = []
    for cut in answer.record:
        place = [f"Cmax/{cut.factor}", f"{cut.learnt:,}", f"{cut.rows:,}"]
        rows.append([*place, "forecast", *_scores(cut.forecast)])
        if cut.approach_3 is not None:
            rows.append(["", "", "", "approach 3", *_scores(cut.approach_3)])
    return rows


def record_words(answer: Answer) -> str:
    """What the record's table shows, or why there is none."""
    if not answer.record:
        return (
            "No record on this table: below half of its largest compute too few runs are left to "
            "forecast the others from."
        )
    return (
        "The record: this table cut at a part of its largest compute, the runs near the frontier "
        f"above foretold from those below, with {answer.level:.0%} intervals. Of the Winkler score "
        "(width, and twenty-fold misses at 90 %) less is better."
    )


def first_lines(answer: Answer) -> list[str]:
    """What must be read before the answer."""
    doubts = [doubt for each in answer.optimum for doubt in each.doubts]
    return [*answer.warnings, *_reasons(answer), *doubts]


def source_words(answer: Answer, table: Table) -> str:
    """What the forecast was learnt from."""
    law, data = answer.law, answer.data
    unit = "of unknown unit" if law.loss_unit == "unknown" else f"in {law.loss_unit}"
    read = f"; {read_words(table.read)}" if table.read else ""
    rest = data.rows - data.copies - data.left_out
    apart = (
        (data.copies, "repeat another to the last digit, which counts once"),
        (data.left_out, "left out, far above the frontier"),
        (rest if data.places < rest else 0, f"averaged to {data.places:,} places of N and D"),
    )
    of_them = "".join(f"; {count:,} {words}" for count, words in apart if count)
    return (
        f"learnt from {data.rows:,} runs of {data.sizes:,} sizes{of_them}; "
        f"C from {flops(data.flops[0])} to {flops(data.flops[1])}; "
        f"{what_n_counts(law.n_counts)}; loss {unit.replace('_', ' ')}{read}"
    )


def scale_words(answer: Answer) -> str:
    """Noise and misfit in per cent of the loss, and what they were learnt from."""
    learnt = answer.posterior
    noise = f"noise {100 * learnt.sigma:.2g} % of the loss"
    if learnt.rows.replicated_sd is not None:
        noise += f" (runs that repeat N and D scatter by {100 * learnt.rows.replicated_sd:.2g} %)"
    return f"{noise}, misfit of the law {100 * learnt.tau:.2g} % inside the data ({answer.form})"


def lead_words(each: ForecastOptimum, level: float) -> str:
    """The forecast's N*, D* and loss at a budget, in a sentence, without its doubts."""
    best = each.best
    return (
        f"Forecast at {flops(best.flops)} FLOPs (6ND): N* = {_sizes(best.n_opt, best.n_interval)}, "
        f"D* = {_sizes(best.d_opt, best.d_interval)}, loss there {best.loss:.4f}"
        f"{bracket(best.loss_interval, '{:.4f}'.format)}, {level:.0%} intervals."
    )


def answer_lines(answer: Answer, table: Table, width: int = READABLE) -> Iterator[str]:
    """The answer, what must be read before it, and the record."""
    warnings = first_lines(answer)
    yield from warning_lines(warnings, width)
    if warnings:
        yield ""
    yield from hanging("forecast: ", source_words(answer, table), width)
    yield from hanging("          ", scale_words(answer), width)
    percent = f"{answer.level:.0%}"
    for title, header, rows in (
        (f"Loss with its {percent} interval; e-folds beyond the data; doubt by", POINTS,
         point_rows(answer)),
        (f"The best N and D with {percent} intervals", OPTIMA, optimum_rows(answer)),
        ("Training an end of the interval of N* instead", REGRETS, regret_rows(answer)),
        ("Other methods at the same budget", OTHERS, other_rows(answer)),
    ):  # fmt: skip
        if rows:
            yield ""
            yield title
            yield from table_lines(header, rows, width=width, spare=_SPARE)
    yield ""
    yield from warning_lines([record_words(answer)], width)
    if answer.record:
        yield from table_lines(
            RECORD, record_rows(answer), width=width, spare=("runs below", "foretold")
        )


def _loss(answer: Answer, loss: float, ends: Sequence[float]) -> str:
    show, factor = "{:.4f}".format, answer.data.bytes_factor
    text = show(loss) + bracket(ends, show)
    if factor is None:
        return text
    bits = bracket([end * factor for end in ends], show)
    return f"{text}, bits/byte {show(loss * factor)}{bits}"


def _sizes(value: float, ends: Sequence[float]) -> str:
    return short(value) + bracket(ends, short)


def _efolds(value: float) -> str:
    return "inside" if value == 0 else f"{value:+.1f}"


def _scores(score: Score) -> list[str]:
    percents = (score.error_percent, score.width_percent)
    return [
        f"{score.coverage:.0%}",
        *(f"{percent:.2f} %" for percent in percents),
        f"{score.winkler:.1f}",
    ]


def _reasons(answer: Answer) -> list[str]:
    """Which numbers are not calibrated, and what would help; nothing that the warnings say."""
    reasons = {
        f"N = {short(point.n_params)}, D = {short(point.tokens)}": point.reason
        for point in answer.points
    }
    reasons |= {f"N* at {flops(each.best.flops)} FLOPs": each.reason for each in answer.optimum}
    warned = " ".join(answer.warnings)
    return [
        f"NOT CALIBRATED: {where}: {reason}."
        for where, reason in reasons.items()
        if reason and reason not in warned
    ]
