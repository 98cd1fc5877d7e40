"""The Python that gives a figure and its data outside of the dashboard."""

from collections.abc import Sequence
from pathlib import Path

from analysis.frontier.serving import Serving
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
_GOAL = """\
from analysis.frontier.answer import Demand
from analysis.frontier.decision import AtBudget
goal, demand = AtBudget({flops}), Demand(generated=({tokens}, {tokens}))
{law}"""
_FORETOLD_LAW = """\
from analysis.forecast.frontier_law import frontier_law
law = frontier_law(table, goal, demand, {name!r}{serving})
"""
_SERVING = """\
from analysis.frontier.serving import Device, Serving
serving = Serving(Device.named({gpu!r}, usd_per_hour={price}), batch={batch})
"""
_FITTED_LAW = f"{_FIT}law = group.fit.law\n"


def _drawn(module: str, data: str, figure: str) -> str:
    """The lines that import and call two functions of a module of `analysis`."""
    names = ", ".join(sorted(call.partition("(")[0] for call in (data, figure)))
    return f"from analysis.{module} import {names}\ndata = {data}\nfigure = {figure}\n"


# After a table, by the figure's name: what makes `data` and `figure`.
_FIGURES = {
    "isoflop": """\
from analysis.fit.isoflop import fit_isoflop
from analysis.fit.run_figures import draw_isoflop, isoflop_data
fit = fit_isoflop(table.used)
data = isoflop_data(table.used, fit)
figure = draw_isoflop(data, fit)
""",
    "fit": _FIT + _drawn("fit.figures", "fit_data(group)", "draw_fit(data)"),
    "epochs": _FIT
    + _drawn(
        "repetition.figures", "epochs_data(group.repeated)", "draw_epochs(data, group.repeated)"
    ),
    "held-out": _FIT
    + _drawn(
        "repetition.figures", "held_out_data(group.repeated)", "draw_held_out(data, group.repeated)"
    ),
    "contours": _FIT + _drawn("fit.figures", "contour_data(group)", "draw_contours(data, group)"),
    "profiles": _FIT + _drawn("fit.figures", "profile_data(group)", "draw_profiles(data)"),
    "cloud": _FIT + _drawn("fit.figures", "cloud_data(group)", "draw_cloud(data, group)"),
    "frontier": _GOAL
    + """\
from analysis.frontier.figures import demand_ratios, draw_frontier, frontier_data
data = frontier_data(law, demand_ratios(law, {flops}, {tokens}))
figure = draw_frontier(data)
""",
    "life": _GOAL
    + _drawn(
        "frontier.figures",
        "life_data(law, float(goal.loss_under(law)), {tokens})",
        "draw_life(data)",
    ),
    "regret": _GOAL
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
    "scans": """\
from analysis.sweep.scan import draw_scans
from flows.results.variants import scans_frame
data = scans_frame(read_plan(home, {name!r}), home)
figure = draw_scans(data)
""",
    "loss-curves": """\
from analysis.fit.run_figures import draw_loss_curves, loss_curves_data, thinned_curves
from flows.runs.table import curves
data = thinned_curves(loss_curves_data(curves(runs, home)))
figure = draw_loss_curves(data)
""",
}


_OF_STUDY = """\
from pathlib import Path
from analysis.tuning.answer import fit_lr
from flows.settings import Home
from flows.tuning.ranges import study_ranges
from flows.tuning.stored import read_study
home = Home(Path({home!r}))
spec, trials = read_study({name!r}, home)
"""
_FIT_STUDY = """\
fit = fit_lr(trials, ranges=study_ranges(spec))
"""
# By the beginning of the figure's name; its end is the place of the surface.
_OF_STUDIES = {
    "law": _FIT_STUDY + _drawn("tuning.figures", "law_data(fit)", "draw_law(data)"),
    "surface-": _FIT_STUDY
    + """\
from analysis.tuning.figures import draw_surface, surface_data, trials_at
point = fit.points[{place}]
data = surface_data(point)
figure = draw_surface(point, trials_at(point, fit.table))
""",
    "loss-curves": """\
from flows.tuning.stored import begun
runs = begun(trials["run"].unique(maintain_order=True), home)
"""
    + _FIGURES["loss-curves"],
}
_OF_RUN = """\
from pathlib import Path
from flows.runs.directory import RunDir
from flows.settings import Home
home = Home(Path({home!r}))
runs = [RunDir(home.runs / {run!r}).planned()]
"""
_FRONTIER = """\
from analysis.frontier.figures import demand_ratios, draw_frontier, frontier_data
data = frontier_data(answer.law, demand_ratios(answer.law, {flops}, {tokens}))
figure = draw_frontier(data)
"""


def python_of_answer(figure: str, made: str) -> str:
    """The lines that take a figure from an answer of `isoflop`.

    Args:
        made: the call that makes it.
    """
    figures = f"data = answer.data({figure!r})\nfigure = answer.figure({figure!r})\n"
    return f"import isoflop\nanswer = {made}\n{figures}figure.show()"


def python_of_frontier(figure: str, made: str, flops: float, tokens: float) -> str:
    """The lines that take a figure of the frontier's view from the answer of `isoflop.frontier`."""
    if figure != "frontier":
        return python_of_answer(figure, made)
    lines = _FRONTIER.format(flops=flops, tokens=tokens)
    return f"import isoflop\nanswer = {made}\n{lines}figure.show()"


def python_of_comparison(
    figure: str, home: Path, names: Sequence[str], *, bits: bool = False
) -> str:
    """The lines that draw a figure of several sweeps."""
    listed = ", ".join([*map(repr, names), *(["bpb=True"] if bits else [])])
    where = f'import os\nos.environ["ISOFLOP_HOME"] = {str(home)!r}\n'
    return where + python_of_answer(figure, f"isoflop.compare({listed})")


def python_of_law(
    figure: str, table: str, name: str, foretold: bool, serving: Serving | None, **asked: object
) -> str | None:
    """The lines that draw a figure of the frontier's view of a table.

    Args:
        name: what the law is called.
        foretold: whether it is the forecast's; else the fitted one.
        serving: the GPUs that the answer is priced on, near to which a forecast's law is taken.
    """
    if not foretold:
        law = _FITTED_LAW
    elif serving is None:
        law = _FORETOLD_LAW.format(name=name, serving="")
    else:
        device, batch = serving.device, serving.batch
        law = _SERVING.format(gpu=device.name, price=device.usd_per_hour, batch=batch)
        law += _FORETOLD_LAW.format(name=name, serving=", serving=serving")
    return python_of(figure, table, law=law, **asked)


def python_of_study(figure: str, home: Path, name: str) -> str | None:
    """The lines that draw a figure of a study; None where they are not known."""
    kind = figure.rstrip("0123456789")
    lines = _OF_STUDIES.get(kind)
    if lines is None:
        return None
    read = _OF_STUDY.format(home=str(home), name=name)
    return f"{read}{lines.format(place=figure.removeprefix(kind))}figure.show()"


def python_of_run(home: Path, run: str) -> str:
    """The lines that draw the curve of a run."""
    return f"{_OF_RUN.format(home=str(home), run=run)}{_FIGURES['loss-curves']}figure.show()"


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
