"""The Python that gives a figure and its data outside of the dashboard."""

from collections.abc import Sequence
from pathlib import Path

from analysis.law import CCounts

_COUNTED = """\
from dataclasses import replace
from analysis.fit.conventions import counted_as
runs = {runs}
runs = replace(runs, table=counted_as(runs.table, {n!r}, {c!r}))
"""
_FRONTIER = """\
from analysis.frontier.figures import demand_ratios, draw_frontier, frontier_data
data = frontier_data(answer.law, demand_ratios(answer.law, {flops}, {tokens}))
figure = draw_frontier(data)
"""
_HOME = """\
from pathlib import Path
from flows.settings import Home
home = Home(Path({home!r}))
"""
# What reads the runs of a figure of curves.
_RUNS_OF_SWEEP = """\
from flows.plans.joined import joined
from flows.plans.stored import read_plan
runs = joined(read_plan(home, {name!r}), home).plan.runs
"""
_RUN = """\
from flows.runs.directory import RunDir
runs = [RunDir(home.runs / {name!r}).planned()]
"""
_RUNS_OF_STUDY = """\
from flows.tuning.stored import begun
runs = begun(trials["run"].unique(maintain_order=True), home)
"""
_CURVES = """\
from analysis.fit.run_figures import draw_loss_curves, loss_curves_data, thinned_curves
from flows.runs.table import curves
data = thinned_curves(loss_curves_data(curves(runs, home)))
figure = draw_loss_curves(data)
"""
_SCANS = """\
from analysis.sweep.scan import draw_scans
from flows.plans.stored import read_plan
from flows.results.variants import scans_frame
data = scans_frame(read_plan(home, {name!r}), home)
figure = draw_scans(data)
"""
_STUDY = """\
from flows.tuning.stored import read_study
spec, trials = read_study({name!r}, home)
"""
_LAWS = """\
from analysis.tuning.answer import fit_lr
from flows.tuning.ranges import study_ranges
fit = fit_lr(trials, ranges=study_ranges(spec))
"""
# Of a study, by the beginning of the figure's name; its end is the place of the surface.
_OF_STUDIES = {
    "law": f"""\
{_LAWS}from analysis.tuning.figures import draw_law, law_data
data = law_data(fit)
figure = draw_law(data)
""",
    "surface-": f"""\
{_LAWS}from analysis.tuning.figures import draw_surface, surface_data, trials_at
point = fit.points[{{place}}]
data = surface_data(point)
figure = draw_surface(point, trials_at(point, fit.table))
""",
    "loss-curves": f"{_RUNS_OF_STUDY}{_CURVES}",
}


def python_of_answer(figure: str, made: str, before: str = "") -> str:
    """The lines that take a figure from an answer of `isoflop`.

    Args:
        made: the call that makes it.
        before: lines that the call needs.
    """
    figures = f"data = answer.data({figure!r})\nfigure = answer.figure({figure!r})\n"
    return f"import isoflop\n{before}answer = {made}\n{figures}figure.show()"


def counted_runs(runs: str, counts: tuple[str, CCounts]) -> str:
    """The lines that make `runs` of a call that reads them, N and C counted otherwise."""
    n, c = counts
    return _COUNTED.format(runs=runs, n=n, c=c)


def python_of_frontier(figure: str, made: str, before: str, flops: float, tokens: float) -> str:
    """The lines that take a figure of the frontier's view from the answer of `isoflop.frontier`."""
    if figure != "frontier":
        return python_of_answer(figure, made, before)
    lines = _FRONTIER.format(flops=flops, tokens=tokens)
    return f"import isoflop\n{before}answer = {made}\n{lines}figure.show()"


def python_of_comparison(
    figure: str, home: Path, names: Sequence[str], *, bits: bool = False
) -> str:
    """The lines that draw a figure of several sweeps."""
    listed = ", ".join([*map(repr, names), *(["bpb=True"] if bits else [])])
    where = f'import os\nos.environ["ISOFLOP_HOME"] = {str(home)!r}\n'
    return where + python_of_answer(figure, f"isoflop.compare({listed})")


def python_of_curves(home: Path, sweep: str) -> str:
    """The lines that draw the curves of a sweep's runs."""
    return _in_home(home, f"{_RUNS_OF_SWEEP}{_CURVES}".format(name=sweep))


def python_of_run(home: Path, run: str) -> str:
    """The lines that draw the curve of a run."""
    return _in_home(home, f"{_RUN}{_CURVES}".format(name=run))


def python_of_scans(home: Path, sweep: str) -> str:
    """The lines that draw the scans of a sweep's variants."""
    return _in_home(home, _SCANS.format(name=sweep))


def python_of_study(figure: str, home: Path, name: str) -> str | None:
    """The lines that draw a figure of a study; None where they are not known."""
    kind = figure.rstrip("0123456789")
    lines = _OF_STUDIES.get(kind)
    if lines is None:
        return None
    place = figure.removeprefix(kind)
    return _in_home(home, f"{_STUDY.format(name=name)}{lines.format(place=place)}")


def _in_home(home: Path, lines: str) -> str:
    return f"{_HOME.format(home=str(home))}{lines}figure.show()"
