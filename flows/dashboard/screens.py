"""Which view is at an address."""

from flows.dashboard.address import Address
from flows.dashboard.compare_screen import CompareScreen
from flows.dashboard.frontier_screen import FrontierScreen
from flows.dashboard.home_screen import ForecastsScreen, HomeScreen
from flows.dashboard.law_screen import LawScreen
from flows.dashboard.next_screen import NextScreen
from flows.dashboard.run_screen import RunScreen
from flows.dashboard.runs_screen import RunsScreen
from flows.dashboard.screen import NotHereError, Screen
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
