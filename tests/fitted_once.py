"""Fits of equal rows made once: for tests of what is read and said, not of the solver.

The functions are pure, so an answer kept is the answer made again; a row read otherwise is
another key.
"""

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import cache, wraps
from typing import Any

import numpy as np
import pytest

import analysis
from analysis.forecast.posterior import posterior
from analysis.forecast.rows import Rows as ForecastRows
from analysis.repetition.fitting import Data, fit_form, refit
from analysis.solver.objective import Rows
from analysis.solver.problem import Problem
from analysis.solver.profile import profile
from analysis.solver.search import find_optimum
from analysis.solver.uncertainty import bootstrap, influence, leave_one_out

_PURE: tuple[Callable[..., Any], ...] = (
    *(find_optimum, profile, bootstrap, influence, leave_one_out, posterior, fit_form, refit),
)
# What decides a problem: the chart and the kernel follow from these.
_OF_PROBLEM = ("form", "objective", "rows", "weights", "zero_E")


@contextmanager
def fitted_once() -> Iterator[None]:
    """While open, every module's solver answers equal questions from memory."""
    # All of them first, or one imported later would keep the memory for good.
    for module in pkgutil.walk_packages(analysis.__path__, "analysis."):
        importlib.import_module(module.name)
    with pytest.MonkeyPatch.context() as patch:
        for function in _PURE:
            kept = _kept(function)
            for name, module in list(sys.modules.items()):
                ours = name.partition(".")[0] in ("analysis", "flows", "isoflop")
                if ours and vars(module).get(function.__name__) is function:
                    patch.setattr(module, function.__name__, kept)
        yield


@cache
def _kept(function: Callable[..., Any]) -> Callable[..., Any]:
    answers: dict[object, Any] = {}

    @wraps(function)
    def answer(*arguments: Any, **named: Any) -> Any:
        key = (*map(_key, arguments), *((name, _key(named[name])) for name in sorted(named)))
        if key not in answers:
            answers[key] = function(*arguments, **named)
        return answers[key]

    return answer


def _key(value: Any) -> object:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, Problem):
        return tuple(_key(getattr(value, name)) for name in _OF_PROBLEM)
    if isinstance(value, Rows | ForecastRows | Data):
        return tuple(_key(getattr(value, field.name)) for field in fields(value))
    return value
