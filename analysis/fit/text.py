"""A fit in words and short tables, for the terminal and for the page."""

from collections import Counter
from collections.abc import Iterable, Iterator

from analysis.fit.envelope import EnvelopeFit
from analysis.fit.records import GroupFit
from analysis.layout import READABLE, hanging, table_lines, wrapped
from analysis.repetition.text import repeated_lines
from analysis.table.names import ALIASES, spelt
from analysis.table.observations import numbers_for_people
from analysis.table.runs import run_column, runs_of
from analysis.table.sources import read_words
from analysis.words import COUNTS, FLOPS, bracket, counted, flops, sentence, short, what_n_counts

_VERDICT = {"identified": "identified", "weak": "weak", "not_identified": "NOT IDENTIFIED"}
_NAMES = {
    "exponent_N": "exponent of N*",
    "exponent_D": "exponent of D*",
    "n_opt": "N* at the target",
    "d_opt": "D* at the target",
    "E": "E",
}


def optimal_rows(group: GroupFit) -> list[list[str]]:
    """Budget, N*, D*, tokens per parameter and loss, each with its interval.

    The last row holds what approach 2 gives at the last budget, where it has power laws.
    """
    rows = []
    for point in group.optimal:
        cells = [flops(point.flops)]
        for name in ("n_opt", "d_opt", "tokens_per_param", "loss"):
            show = "{:.4f}".format if name == "loss" else short
            cells.append(show(getattr(point, name)) + bracket(point.intervals.get(name), show))
        rows.append(cells)
    N, D = group.isoflop.N, group.isoflop.D
    if group.optimal and N and D:
        C = group.optimal[-1].flops
        sizes = (N.at(C), D.at(C), D.at(C) / N.at(C))
        rows.append([flops(C), *map(short, sizes), "by approach 2"])
    return rows


def warning_lines(warnings: Iterable[str], width: int = READABLE) -> Iterator[str]:
    """What must be read before an answer, wrapped for a terminal."""
    for warning in warnings:
        yield from wrapped(warning, width)


def remaining_doubts(group: GroupFit) -> list[str]:
    """The doubts that no warning has stated."""
    return [doubt for doubt in group.doubts if not any(doubt in line for line in group.warnings)]


def verdict_rows(group: GroupFit) -> list[list[str]]:
    """Quantity, verdict, reasons; exponent_D mirrors exponent_N and is left out.

    A reason that a row above has is not repeated.
    """
    rows: list[list[str]] = []
    first: dict[str, str] = {}
    for name, judgement in group.verdicts.items():
        if name == "exponent_D":
            continue
        reasons = dict.fromkeys(map(sentence, (judgement.cause, *judgement.others)))
        above = dict.fromkeys(first[reason] for reason in reasons if reason in first)
        words = [f"As for {', '.join(above)}."] if above else []
        words += [reason for reason in reasons if reason not in first]
        rows.append([_NAMES[name], _VERDICT[judgement.verdict], " ".join(words)])
        for reason in reasons:
            first.setdefault(reason, f"the {_NAMES[name]}" if "exponent" in name else _NAMES[name])
    return rows


def convention_rows(group: GroupFit) -> list[list[str]]:
    """What N and C count, exponent of N*, N* and D/N at the table's largest compute."""
    return [
        [
            COUNTS[c.n_counts],
            FLOPS[c.c_counts],
            f"{c.exponent_N:.3f}",
            short(c.n_opt),
            short(c.tokens_per_param),
        ]
        for c in group.conventions
    ]


def search_line(group: GroupFit) -> str:
    """How the optimum was found."""
    objective, fit = group.fit.objective, group.fit
    delta = f", delta {objective.delta:g}" if objective.delta is not None else ""
    return (
        f"{objective.name}{delta}, summed over {len(fit.rows_used)} rows: {objective.value:.8g}, "
        f"gradient {objective.gradient_norm:.0e}, {objective.starts_agree} of {objective.starts} "
        f"starts agree; {fit.status}"
    )


def left_out_words(group: GroupFit) -> str:
    """How well the law predicts a row that it is not fitted to."""
    if group.leave_one_out_percent is None:
        return "no more different N and D than constants: no row is predicted from the others"
    percent = f"{group.leave_one_out_percent:.2g} %"
    return f"leaving each row out in turn, it is predicted to {percent} (rms)"


def read_line(group: GroupFit) -> str:
    """Which columns hold N, D, C and the loss, and whether rows are weighted."""
    read = {source.name for source in group.read}
    weights = "; rows are weighted" if "weight" in read else ""
    unread = spelt("unique_tokens", ALIASES, group.used.columns)
    if "unique_tokens" in read or not read:
        unread = []
    rest = f"; {', '.join(map(repr, unread))} not read" if unread else ""
    return f"{read_words(group.read)}{weights}{rest}"


def units_line(group: GroupFit) -> str:
    """What N, C and the loss are."""
    law = group.fit.law
    unit = "of unknown unit" if law.loss_unit == "unknown" else f"in {law.loss_unit}"
    return f"{what_n_counts(law.n_counts)}; C = 6ND in N* and D*; loss {unit.replace('_', ' ')}"


def envelope_line(fit: EnvelopeFit) -> str:
    """Approach 1 in a line."""
    if fit.N is None:
        return f"approach 1: {fit.reason}"
    spread = bracket(fit.N.exponent_interval)
    return f"N* grows as C^{fit.N.exponent:.3f}{spread}, approach 1 (envelope of the curves)"


def group_lines(group: GroupFit, lead: str = "", width: int = READABLE) -> Iterator[str]:
    """The law, the evidence for it, and its doubts.

    Args:
        lead: the sentence between the warnings and the law.
        width: columns of the terminal.
    """
    if group.group is not None:
        yield f"== {group.group}"
    yield from warning_lines(group.warnings, width)
    yield from warning_lines([lead] if lead else [], width)
    yield group.fit.law.formula
    yield from _reading_lines(group, width)
    yield ""
    yield from _approach_lines(group)
    if group.optimal:
        yield ""
        yield from table_lines(
            ["C", "N*", "D*", "D*/N*", "loss"],
            optimal_rows(group),
            width=width,
            spare=("[D*/N*]", "D*/N*"),
        )
    yield ""
    yield "Can the table carry it?"
    for name, verdict, reason in verdict_rows(group):
        yield from hanging(f"{name:<17} {verdict:<15} ", reason, width)
    if group.repeated is not None:
        yield from repeated_lines(group.repeated, width)
    if len(group.conventions) > 1:
        yield ""
        yield from table_lines(
            ["N counts", "C", "exponent N*", "N*", "D/N"], convention_rows(group), width=width
        )
    if doubts := remaining_doubts(group):
        yield ""
        yield "Doubtful:"
        for doubt in doubts:
            yield from hanging("- ", doubt, width)
    if group.influence and group.influence[0].effect_on_exponent_N:
        yield ""
        word, numbers = numbers_for_people(group.used)
        moved = ", ".join(
            f"{numbers[i.row]} ({i.effect_on_exponent_N:+.3f})" for i in group.influence[:5]
        )
        yield from wrapped(
            f"Leaving out one row moves the exponent of N* most for {word}s {moved}", width
        )


def _reading_lines(group: GroupFit, width: int) -> Iterator[str]:
    """What was read, how it was fitted, and what was left out."""
    yield from hanging("read: ", read_line(group), width)
    for line in (units_line(group), search_line(group)):
        yield from wrapped(line, width, "   ")
    yield f"   {left_out_words(group)}"
    column, runs = run_column(group.used), runs_of(group.used)
    if runs is not None:
        how = "resampled" if group.fit.intervals.method == "bootstrap_runs" else "grouped"
        yield f"   {how} by run, from column {column}: {counted(runs.n_unique(), 'run')}"
    for reason, rows in Counter(row.reason for row in group.fit.rows_excluded).items():
        yield f"   left out {counted(rows, 'row')}: {reason}"


def _approach_lines(group: GroupFit) -> Iterator[str]:
    """How N* grows, by approach 3 and by approach 2."""
    fit, isoflop = group.fit, group.isoflop
    interval = fit.intervals.values.get("exponent_N")
    how = "no intervals"
    if interval:
        how = f"{fit.intervals.method.replace('_', ' over ')}, {fit.intervals.level:.0%}"
    yield f"N* grows as C^{fit.law.exponent_N:.3f}{bracket(interval)}, approach 3 ({how})"
    if isoflop.N and isoflop.D:
        N, D = isoflop.N, isoflop.D
        laws = f"N* = {N.coef:.3g}·C^{N.exponent:.3f}, D* = {D.coef:.3g}·C^{D.exponent:.3f}"
        if not group.optimal:
            laws = f"N* grows as C^{N.exponent:.3f}"
        yield f"{laws}, approach 2 ({N.budgets} of {counted(len(isoflop.valleys), 'budget')})"
    else:
        yield f"approach 2: {isoflop.reason}"
