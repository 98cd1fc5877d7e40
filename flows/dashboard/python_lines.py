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
    "loss-curves": """\
from analysis.fit.run_figures import draw_loss_curves, loss_curves_data, thinned_curves
from flows.runs.table import curves
data = thinned_curves(loss_curves_data(curves(runs, home)))
figure = draw_loss_curves(data)
""",
}


def of_sweep(home: Path, name: str, counts: tuple[str, CCounts]) -> str:
    """The lines that read a sweep's table."""
    return _OF_SWEEP.format(home=str(home), name=name) + _counted(counts)


def of_table(name: str, counts: tuple[str, CCounts]) -> str:
    """The lines that read somebody's table."""
    return _OF_TABLE.format(name=name) + _counted(counts)


def python_of(figure: str, table: str) -> str | None:
    """The lines that draw a figure of a table; None where they are not known."""
    lines = _FIGURES.get(figure)
    return None if lines is None else f"{table}{lines}figure.show()"


def _counted(counts: tuple[str, CCounts]) -> str:
    n, c = counts
    own = (n, c) == ("n_params", "train_flops")
    return "" if own else _COUNTED.format(n=n, c=c)
