"""isoflop in Python, with the words of the command line.

    import isoflop

    runs = isoflop.read("runs.csv", map={"val_loss": "eval_nll"})
    fit = isoflop.fit(runs)
    fit.law.exponent_N
    fit.figure("isoflop")

Each word answers what its command answers, to the digit: `fit`, `forecast`, `next`, `frontier`,
`compare`, `mix`, `retrodict`; `read` reads a table for them, and `sweep` has the results of a
sweep. Parameters have the names of the options, so a message that speaks of `--best-of` means
`best_of`.

Symbols: N parameters, D tokens, C training FLOPs, losses in nats per token unless a table says
otherwise. `N*` and `D*` are the best N and D of a budget.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.law import LossLaw as LossLaw
    from analysis.table.observations import TableError as TableError
    from flows.answers.compare import Compared as Compared
    from flows.answers.fit import Fit as Fit
    from flows.answers.forecast import Forecast as Forecast
    from flows.answers.frontier import Frontier as Frontier
    from flows.answers.mix import Mix as Mix
    from flows.answers.next_runs import Next as Next
    from flows.answers.retrodict import Retrodiction as Retrodiction
    from flows.answers.runs import Runs as Runs
    from flows.answers.sweep import Sweep as Sweep
    from isoflop.words import compare as compare
    from isoflop.words import fit as fit
    from isoflop.words import forecast as forecast
    from isoflop.words import frontier as frontier
    from isoflop.words import mix as mix
    from isoflop.words import next as next
    from isoflop.words import read as read
    from isoflop.words import retrodict as retrodict
    from isoflop.words import sweep as sweep

# Imported when first used: `import isoflop` brings neither polars nor torch along.
_MODULES = {
    "isoflop.words": (
        "compare",
        "fit",
        "forecast",
        "frontier",
        "mix",
        "next",
        "read",
        "retrodict",
        "sweep",
    ),
    "analysis.law": ("LossLaw",),
    "analysis.table.observations": ("TableError",),
    "flows.answers.compare": ("Compared",),
    "flows.answers.fit": ("Fit",),
    "flows.answers.forecast": ("Forecast",),
    "flows.answers.frontier": ("Frontier",),
    "flows.answers.mix": ("Mix",),
    "flows.answers.next_runs": ("Next",),
    "flows.answers.retrodict": ("Retrodiction",),
    "flows.answers.runs": ("Runs",),
    "flows.answers.sweep": ("Sweep",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

RECORDED = Path(__file__).parent / "recorded"
"""The home of a recorded sweep, for trying things out: `isoflop.sweep("demo", home=RECORDED)`."""

__all__ = [
    "RECORDED",
    "Compared",
    "Fit",
    "Forecast",
    "Frontier",
    "LossLaw",
    "Mix",
    "Next",
    "Retrodiction",
    "Runs",
    "Sweep",
    "TableError",
    "compare",
    "fit",
    "forecast",
    "frontier",
    "mix",
    "next",
    "read",
    "retrodict",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'isoflop' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
