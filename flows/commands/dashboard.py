"""Command dashboard."""

from typing import Annotated

from cyclopts import Parameter

from flows.commands.common import fail, open_all_to_read, refusals, say


def dashboard(
    *, port: Annotated[int | None, Parameter(help="default ISOFLOP_DASHBOARD_PORT, 8050")] = None
) -> None:
    """Show all sweeps, studies and forecasts of this home in the browser, until Ctrl-C.

    It reads run directories and writes nothing. isoflop up starts it too.
    """
    from flows.dashboard.server import serve
    from flows.stack.servers import PortTakenError, require_free

    with refusals():
        settings, home = open_all_to_read()
        if port is not None:
            if not 1 <= port <= 65535:
                fail(f"--port {port} is no port: take one from 1 to 65535.")
            settings = settings.model_copy(update={"dashboard_port": port})
        try:
            require_free(settings, "dashboard-server")
        except PortTakenError as error:
            raise ValueError(f"{error} Here: isoflop dashboard --port 8051.") from error
    print(f"dashboard  {settings.dashboard_address}", flush=True)
    say("stop it with Ctrl-C")
    serve(settings, home)
