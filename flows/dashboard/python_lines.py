"""The Python that gives a figure and its data outside of the dashboard."""

from pathlib import Path

from analysis.law import CCounts

_OF_SWEEP = """\
from pathlib import Path
from analysis.table.runs import own_table
from flows.plans.joined import joined
from flows.plans.stored import read_plan
from flows.runs.table import observations_frame
from flows.settings import Home
home = Home(Path({home!r}))
runs = joined(read_plan(home, {name!r}), home).plan.runs
table = own_table(observations_frame(runs, home))
"""
_OF_TABLE = """\
from pathlib import Path
from analysis.table.read import read_table
from analysis.table.selection import one_law
table = one_law(read_table(Path({name!r})), best_of=(), pool=False, named=True)
"""
_COUNTED = """\
from analysis.fit.conventions import counted_as
table = counted_as(table, {n!r}, {c!r})
"""
_FIT = """\
from analysis.fit.answer import fit_table
[group] = fit_table(table)
"""
_LAW = """\
from analysis.forecast.frontier_law import frontier_law
from analysis.frontier.answer import Demand
from analysis.frontier.decision import AtBudget
goal, demand = AtBudget({flops}), Demand(generated=({tokens}, {tokens}))
law = frontier_law(table, goal, demand, {name})
"""
# After a table, by the figure's name: what makes `data` and `figure`.
_FIGURES = {
    "isoflop": """\
from analysis.fit.isoflop import fit_isoflop
from analysis.fit.run_figures import draw_isoflop, isoflop_data
fit = fit_isoflop(table.used)
data = isoflop_data(table.used, fit)
figure = draw_isoflop(data, fit)
""",
    "fit": _FIT
    + """\
from analysis.fit.figures import draw_fit, fit_data
data = fit_data(group)
figure = draw_fit(data)
""",
    "contours": _FIT
    + """\
from analysis.fit.figures import contour_data, draw_contours
data = contour_data(group)
figure = draw_contours(data, group)
""",
    "profiles": _FIT
    + """\
from analysis.fit.figures import draw_profiles, profile_data
data = profile_data(group)
figure = draw_profiles(data)
""",
    "cloud": _FIT
    + """\
from analysis.fit.figures import cloud_data, draw_cloud
data = cloud_data(group)
figure = draw_cloud(data, group)
""",
    "frontier": _LAW
    + """\
from analysis.frontier.figures import demand_ratios, draw_frontier, frontier_data
data = frontier_data(law, demand_ratios(law, {flops}, {tokens}))
figure = draw_frontier(data)
""",
    "life": _LAW
    + """\
from analysis.frontier.figures import draw_life, life_data
data = life_data(law, float(goal.loss_under(law)), {tokens})
figure = draw_life(data)
""",
    "regret": _LAW
    + """\
from analysis.frontier.answer import advise
from analysis.frontier.figures import draw_regret, regret_data
advice = advise(law, goal, demand)
data = regret_data(advice.regret_demands, advice.regret)
figure = draw_regret(data)
""",
    "next-runs": """\
from analysis.next_runs.answer import next_runs
from analysis.next_runs.figures import draw_plane, plane_data
from flows.plans.next_candidates import SHARE, {of}
{candidates}
answer = next_runs(table, candidates, {flops}, SHARE * {flops}, {runs})
data = plane_data(answer)
figure = draw_plane(data)
""",
    "loss-curves": """\
from analysis.fit.run_figures import draw_loss_curves, loss_curves_data, thinned_curves
from flows.runs.table import curves
data = thinned_curves(loss_curves_data(curves(runs, home)))
figure = draw_loss_curves(data)
""",
}


_COMPARED = """\
from pathlib import Path
from analysis.compare.figures import best_size_data, draw_best_size, draw_pairs
from analysis.compare.speedup_figures import draw_speedup, speedup_data
from analysis.compare.variants import compare_variants
from flows.plans.stored import read_plan
from flows.results.compare import compared_table
from flows.settings import Home
home = Home(Path({home!r}))
first, *others = [(name, compared_table(read_plan(home, name), home)) for name in {names!r}]
variants = compare_variants(first, others)
"""
# By the beginning of the figure's name; its end is the place of the variant.
_OF_COMPARISONS = {
    "speedup": """\
data = speedup_data(variants)
figure = draw_speedup(data, variants)
""",
    "best-size": """\
laws = variants.ranked[{place}].laws
data = best_size_data(laws)
figure = draw_best_size(data, laws)
""",
    "pairs": """\
laws = variants.ranked[{place}].laws
data = laws.matched.pairs
figure = draw_pairs(data, laws, variants.unit)
""",
}


def python_of_comparison(figure: str, home: Path, names: list[str]) -> str | None:
    """The lines that draw a figure of several sweeps; None where they are not known."""
    kind = figure.rstrip("0123456789")
    lines = _OF_COMPARISONS.get(kind)
    if lines is None:
        return None
    read = _COMPARED.format(home=str(home), names=names)
    return f"{read}{lines.format(place=figure.removeprefix(kind) or 0)}figure.show()"


def of_sweep(home: Path, name: str, counts: tuple[str, CCounts]) -> str:
    """The lines that read a sweep's table."""
    own = counts == ("n_params", "train_flops")
    return _OF_SWEEP.format(home=str(home), name=name) + ("" if own else _counted(counts))


def of_table(name: str, counts: tuple[str, CCounts], own: bool) -> str:
    """The lines that read somebody's table; `own` where the counts are those it came with."""
    return _OF_TABLE.format(name=name) + ("" if own else _counted(counts))


def python_of(figure: str, table: str, **asked: object) -> str | None:
    """The lines that draw a figure of a table; None where they are not known.

    Args:
        asked: what the question to the table was, by the names in the lines.
    """
    lines = _FIGURES.get(figure)
    return None if lines is None else f"{table}{lines.format(**asked)}figure.show()"


def _counted(counts: tuple[str, CCounts]) -> str:
    n, c = counts
    return _COUNTED.format(n=n, c=c)
