"""The page of a fit: the answer first, then what carries it, then every figure."""

from collections.abc import Sequence

import polars as pl

from analysis.fit import figures, run_figures
from analysis.fit.envelope import EnvelopeFit
from analysis.fit.records import GroupFit
from analysis.fit.text import (
    convention_rows,
    left_out_words,
    optimal_rows,
    read_line,
    remaining_doubts,
    search_line,
    units_line,
    verdict_rows,
)
from analysis.law import constants_of
from analysis.page import Page
from analysis.repetition.page import add_repeated
from analysis.table.observations import numbers_for_people
from analysis.words import sentence, with_unit


def fit_page(groups: Sequence[GroupFit], *, title: str, leads: Sequence[str] = ()) -> Page:
    """One self-contained page for all groups of a table.

    Args:
        leads: for each group the sentence between its warnings and its law.
    """
    page = Page(title)
    for place, group in enumerate(groups):
        lead = leads[place] if leads else ""
        add_fit(page, group, prefix=f"fit{place}", lead=lead)
    return page


def add_fit(page: Page, group: GroupFit, *, prefix: str, lead: str = "") -> None:
    """A group's part of a page; `prefix` keeps the figures' names apart."""
    _answer(page, group, lead)
    if group.repeated is not None:
        add_repeated(page, group.repeated, prefix=f"{prefix}-")
    _figures(page, group, prefix)
    _small_print(page, group)


def add_envelope(page: Page, curves: pl.DataFrame, fit: EnvelopeFit) -> None:
    """Approach 1's part of a page, for tables that come with training curves."""
    page.heading("Envelope of the training curves")
    figure = run_figures.draw_envelope(run_figures.envelope_data(curves, fit), fit)
    page.figure(figure, name="envelope", height=520)
    page.text(
        "A point in mid-training was reached at a learning rate meant for a longer run, so the "
        "envelope lies above what runs of matched length reach: trust it least.",
        role="soft",
    )


def _answer(page: Page, group: GroupFit, lead: str) -> None:
    fit, law = group.fit, group.fit.law
    if group.group is not None:
        page.heading(str(group.group))
    interval = fit.intervals.values.get("exponent_N")
    spread = f" (between {interval[0]:.2f} and {interval[1]:.2f})" if interval else ""
    for warning in group.warnings:
        page.text(warning, role="warn")
    if lead:
        page.text(lead, role="lead")
    page.text(f"N* grows as C^{law.exponent_N:.2f}{spread}: {law.formula}", role="lead")
    source = f"Read: {read_line(group)}. " if group.read else ""
    page.text(f"{source}{sentence(units_line(group))}.", role="soft")
    if group.optimal:
        loss = with_unit("loss", law.loss_unit)
        header = ["C, FLOPs", "N*, parameters", "D*, tokens", "D*/N*", loss]
        page.table(header, optimal_rows(group))
    level = f"{fit.intervals.level:.0%} intervals: {fit.intervals.method.replace('_', ' over ')}. "
    page.text(
        (level if fit.intervals.values else "No intervals were computed. ")
        + f"{search_line(group)}. {sentence(left_out_words(group))}.",
        role="soft",
    )
    page.heading("Can the table carry it?")
    page.table(["quantity", "verdict", "reason"], verdict_rows(group))
    for doubt in remaining_doubts(group):
        page.text(doubt, role="warn")


def _figures(page: Page, group: GroupFit, prefix: str) -> None:
    unit = group.fit.law.loss_unit
    page.heading("The law and the runs")
    contours, fitted = figures.contour_data(group), figures.fit_data(group)
    page.figure(figures.draw_contours(contours, group), name=f"{prefix}-contours", data=contours)
    page.figure(figures.draw_fit(fitted, unit), name=f"{prefix}-fit", panels=True, data=fitted)
    page.heading("IsoFLOP valleys")
    if group.isoflop.valleys:
        data = run_figures.isoflop_data(group.used, group.isoflop)
        figure = run_figures.draw_isoflop(data, group.isoflop, unit)
        page.figure(figure, name=f"{prefix}-isoflop", height=520, panels=True, data=data)
    if group.isoflop.reason:
        page.text(f"No power laws through valleys: {group.isoflop.reason}.", role="soft")
    page.heading("How sure")
    if group.profiles:
        profiles = figures.profile_data(group)
        figure = figures.draw_profiles(profiles)
        page.figure(figure, name=f"{prefix}-profiles", panels=True, data=profiles)
    cloud = figures.cloud_data(group)
    if cloud.height:
        page.figure(figures.draw_cloud(cloud, group), name=f"{prefix}-cloud", data=cloud)


def _small_print(page: Page, group: GroupFit) -> None:
    fit = group.fit
    page.heading("Which N, which C")
    page.table(
        ["N counts", "C", "exponent of N*", "N* at the largest C", "D/N"], convention_rows(group)
    )
    page.heading("The constants and their intervals")
    methods = {fit.intervals.method: fit.intervals.values, **fit.intervals.beside}
    methods = {name: values for name, values in methods.items() if values}
    rows = []
    for name in (*constants_of(fit.law.form), "exponent_N"):
        cells = [name, f"{getattr(fit.law, name):.6g}"]
        for values in methods.values():
            interval = values.get(name)
            cells.append(f"{interval[0]:.5g} to {interval[1]:.5g}" if interval else "–")
        rows.append(cells)
    page.table(["constant", "value", *(m.replace("_", " over ") for m in methods)], rows)
    page.heading("Rows that move the answer most")
    word, numbers = numbers_for_people(group.used)
    page.table(
        [word, "effect of leaving it out on the exponent of N*", "alone"],
        [
            [str(numbers[i.row]), f"{i.effect_on_exponent_N:+.4f}", f"{i.effect_alone:+.4f}"]
            for i in group.influence
        ],
    )
    if fit.rows_excluded:
        page.heading("Rows left out")
        left_out = [[str(r.line or r.row + 1), r.reason] for r in fit.rows_excluded]
        page.table([word, "reason"], left_out)
