"""Which view is at an address."""

from flows.dashboard.address import Address, sweep_name
from flows.dashboard.screens.compare import CompareScreen
from flows.dashboard.screens.families import MixturesScreen, VariantsScreen
from flows.dashboard.screens.frontier import FrontierScreen
from flows.dashboard.screens.home import ForecastsScreen, HomeScreen
from flows.dashboard.screens.law import LawScreen
from flows.dashboard.screens.next_runs import NextScreen
from flows.dashboard.screens.run import RunScreen
from flows.dashboard.screens.runs import RunsScreen
from flows.dashboard.screens.screen import NotHereError, Screen
from flows.dashboard.screens.study import StudyScreen
from flows.dashboard.subjects import Desk


def screen_at(desk: Desk, address: Address) -> Screen:
    """The view at an address.

    Raises:
        NotHereError: there is none.
    """
    match address.path:
        case ():
            return HomeScreen(desk, address)
        case ("forecasts",):
            return ForecastsScreen(desk, address)
        case ("sweep", name):
            return _of_sweep(desk, address, name)
        case ("table", _):
            return LawScreen(desk, address)
        case ("study", _):
            return StudyScreen(desk, address)
        case ("sweep" | "table", _, "frontier"):
            return FrontierScreen(desk, address)
        case ("sweep" | "table", _, "next"):
            return NextScreen(desk, address)
        case ("compare",):
            return CompareScreen(desk, address)
        case ("run", _):
            return RunScreen(desk, address)
        case ("sweep", _, "runs"):
            return RunsScreen(desk, address)
    raise NotHereError(f"there is no view at {address}.")


def _of_sweep(desk: Desk, address: Address, name: str) -> Screen:
    """The first view of a sweep, by whether its runs share a law of N and D."""
    sweep = desk.library.sweep(sweep_name(name))
    if sweep is not None and sweep.plan.spec.variants:
        return VariantsScreen(desk, address)
    if sweep is not None and sweep.plan.spec.mixtures is not None:
        return MixturesScreen(desk, address)
    return LawScreen(desk, address)
