"""Which view is at an address."""

from flows.dashboard.address import Address
from flows.dashboard.screens.compare import CompareScreen
from flows.dashboard.screens.frontier import FrontierScreen
from flows.dashboard.screens.home import ForecastsScreen, HomeScreen
from flows.dashboard.screens.law import LawScreen
from flows.dashboard.screens.next_runs import NextScreen
from flows.dashboard.screens.run import RunScreen
from flows.dashboard.screens.runs import RunsScreen
from flows.dashboard.screens.screen import NotHereError, Screen
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
        case ("sweep" | "table", _):
            return LawScreen(desk, address)
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
