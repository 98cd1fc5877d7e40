"""Which view is at an address."""

from flows.dashboard.address import Address
from flows.dashboard.home_screen import ForecastsScreen, HomeScreen
from flows.dashboard.screen import Desk, NotHereError, Screen
from flows.dashboard.sweep_screens import LawScreen, RunsScreen


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
        case ("sweep", _):
            return LawScreen(desk, address)
        case ("sweep", _, "runs"):
            return RunsScreen(desk, address)
    raise NotHereError(f"there is no view at {address}.")
