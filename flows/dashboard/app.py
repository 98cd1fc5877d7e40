"""The dashboard as a Dash app: an address becomes a view, controls and time change its body."""

import base64
import hashlib
import logging
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import flask
from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from analysis.table.files import contents_of
from analysis.table.observations import TableError
from analysis.table.read import read_table
from analysis.table.selection import one_law
from flows.dashboard.address import Address
from flows.dashboard.controls import as_text, controls_state
from flows.dashboard.parts import OUTPUTS, Parts, There
from flows.dashboard.render import aria, link
from flows.dashboard.screens.at import screen_at
from flows.dashboard.screens.screen import NotHereError, Screen
from flows.dashboard.subjects import Desk
from flows.settings import LOOPBACK

log = logging.getLogger(__name__)

_EVERY_MS = 1500
# Sets the address and the title without another step in the browser's history.
_REPLACE = """
function(query, title) {
  const address = window.location.pathname + query;
  if (address !== window.location.pathname + window.location.search) {
    window.history.replaceState(window.history.state, "", address);
  }
  document.title = title === "isoflop" ? title : title + " – isoflop";
  return window.dash_clientside.no_update;
}
"""


def make_app(desk: Desk) -> Dash:
    """The app over a desk."""
    app = Dash(
        "flows.dashboard",
        title="isoflop",
        update_title="",
        pages_folder="",
        suppress_callback_exceptions=True,
        enable_mcp=False,
        description="Sweeps, studies and forecasts of one home of isoflop",
    )
    app.index_string = app.index_string.replace("<html>", '<html lang="en">')
    app.layout = _layout()
    _callbacks(app, desk)
    _routes(app.server, desk)
    return app


def _layout() -> Component:
    return html.Div(
        [
            dcc.Location(id="url", refresh="callback-nav"),
            dcc.Store(id="query", data=""),
            dcc.Store(id="stamp", data=""),
            dcc.Store(id="title", data="isoflop"),
            dcc.Store(id="later"),
            dcc.Store(id="replaced"),
            dcc.Interval(id="clock", interval=_EVERY_MS),
            html.A("Skip to the content", href="#main", className="skip"),
            html.Header(
                html.Nav(
                    [
                        html.Span("isoflop", className="name"),
                        link("Home", "/"),
                        link("Compare", "/compare"),
                        link("Forecasts", "/forecasts"),
                    ],
                    **aria(label="main"),
                )
            ),
            html.Main(
                [html.H1(id="heading"), html.Div(id="controls"), html.Div(id="body")], id="main"
            ),
        ]
    )


def _callbacks(app: Dash, desk: Desk) -> None:
    changes = (
        Output("body", "children", allow_duplicate=True),
        *OUTPUTS,
        Output("later", "data", allow_duplicate=True),
    )
    app.clientside_callback(  # type: ignore[no-untyped-call]
        _REPLACE, Output("replaced", "data"), Input("query", "data"), Input("title", "data")
    )

    @app.callback(
        Output("heading", "children"),
        Output("controls", "children"),
        Output("body", "children"),
        Output("query", "data"),
        Output("stamp", "data"),
        Output("title", "data"),
        Input("url", "pathname"),
        Input("url", "search"),
    )
    def show(pathname: str | None, search: str | None) -> tuple[Any, ...]:
        heading, controls, body, *rest = shown(desk, Address.of(pathname, search))
        return heading, controls, Parts.of(body).components, *rest

    @app.callback(
        *changes,
        Output("query", "data", allow_duplicate=True),
        Output("stamp", "data", allow_duplicate=True),
        Input({"control": ALL}, "value"),
        State({"control": ALL}, "id"),
        State("url", "pathname"),
        State("query", "data"),
        prevent_initial_call=True,
    )
    def change(
        values: list[Any], names: list[dict[str, str]], pathname: str, query: str
    ) -> tuple[Any, ...]:
        state = {name["control"]: as_text(value) for name, value in zip(names, values, strict=True)}
        return changed(desk, Address.of(pathname, query), state, _there())

    @app.callback(
        *changes,
        Output("stamp", "data", allow_duplicate=True),
        Input("clock", "n_intervals"),
        State("url", "pathname"),
        State("query", "data"),
        State("stamp", "data"),
        prevent_initial_call=True,
    )
    def tick(_: int, pathname: str, query: str, stamp: str) -> tuple[Any, ...]:
        return ticked(desk, Address.of(pathname, query), stamp, _there())

    @app.callback(
        *changes[:-1],
        Input("later", "data"),
        State("url", "pathname"),
        State("query", "data"),
        prevent_initial_call=True,
    )
    def follow(_: str, pathname: str, query: str) -> tuple[Any, ...]:
        return followed(desk, Address.of(pathname, query), _there())

    @app.callback(
        Output("url", "href"),
        Output("refused", "children"),
        Output("refused", "className"),
        Input("drop", "contents"),
        State("drop", "filename"),
        prevent_initial_call=True,
    )
    def drop(contents: str | None, name: str | None) -> tuple[Any, ...]:
        if contents is None:
            raise PreventUpdate
        return dropped(desk, contents, name or "table")


def _placed(screen: Screen, there: There) -> tuple[Any, ...]:
    """What a new body changes: the page to its first figure, after which the rest follows, or all.

    In the order of `changes`.
    """
    first = Parts.of(_made(screen, screen.beginning)).beginning(there)
    if first is None:
        return *_whole(screen, there), no_update
    return no_update, *first, uuid4().hex if there[1] else no_update


def _whole(screen: Screen, there: There) -> tuple[Any, ...]:
    return Parts.of(_made(screen, screen.body)).components, *_kept(there)


def _kept(there: There) -> tuple[Any, ...]:
    """No change of the parts of a page."""
    return tuple([no_update] * len(ids) for ids in there)


def _there() -> There:
    """The ids on the page of the parts that a callback changes, in the order of `changes`."""
    _, between, figures, *_ = ctx.outputs_list
    return [each["id"] for each in between], [each["id"] for each in figures]


def dropped(desk: Desk, contents: str, name: str) -> tuple[Any, ...]:
    """The address of the view of a dropped table; or a sentence that says what is wrong with it.

    Args:
        contents: the file as a browser sends it, data:KIND;base64,BYTES.
    """
    content = base64.b64decode(contents.partition(",")[2])
    try:
        table = one_law(read_table(contents_of(content, name)), best_of=(), pool=False, named=True)
    except TableError as error:
        options = " It is an option of isoflop fit FILE." if "--" in str(error) else ""
        return no_update, f"{error}{options}", "warn"
    digest = hashlib.sha256(content).hexdigest()[:16]
    desk.dropped.get(digest, digest, lambda: (name, table))
    return str(Address(("table", digest))), "", ""


def shown(desk: Desk, address: Address) -> tuple[Any, ...]:
    """Heading, controls, body, query, stamp and title of the view at an address."""
    try:
        controls = screen_at(desk, address).controls()
        # The address names the state of every control, those that it left open too.
        address = address.with_query(**controls_state(controls))
        screen = screen_at(desk, address)
    except NotHereError as error:
        return "Nothing here", [], [html.P(str(error), className="warn")], "", "", "Nothing here"
    stamp = screen.stamp()
    return screen.title, controls, _made(screen, screen.body), address.search, stamp, screen.title


def changed(desk: Desk, address: Address, state: dict[str, str], there: There) -> tuple[Any, ...]:
    """What changes with its controls: body, parts, what follows, query and stamp.

    Args:
        there: the parts on the page.

    Raises:
        PreventUpdate: they have not changed.
    """
    asked = address.with_query(**state)
    if not state or asked == address:
        raise PreventUpdate
    try:
        screen = screen_at(desk, asked)
    except NotHereError as error:
        gone = [html.P(str(error), className="warn")]
        return gone, *_kept(there), no_update, asked.search, ""
    stamp = screen.stamp()
    return *_placed(screen, there), asked.search, stamp


def ticked(desk: Desk, address: Address, stamp: str, there: There) -> tuple[Any, ...]:
    """What changes after a while: body, parts, what follows and stamp.

    Raises:
        PreventUpdate: nothing has changed.
    """
    try:
        screen = screen_at(desk, address)
    except NotHereError:
        raise PreventUpdate from None
    now = screen.stamp()
    if now == stamp:
        raise PreventUpdate
    return *_placed(screen, there), now


def followed(desk: Desk, address: Address, there: There) -> tuple[Any, ...]:
    """What follows the first parts of a changed body: body and parts.

    Raises:
        PreventUpdate: there is no such view any more.
    """
    try:
        screen = screen_at(desk, address)
    except NotHereError:
        raise PreventUpdate from None
    rest = Parts.of(_made(screen, screen.body)).rest(there)
    return _whole(screen, there) if rest is None else (no_update, *rest)


def _made(screen: Screen, make: Callable[[], list[Component]]) -> list[Component]:
    """What a view makes; a view that fails says so, and the others go on."""
    try:
        return make()
    except Exception as error:
        log.exception("the view at %s failed", screen.address)
        words = f"This view failed ({error!r}). The output of the dashboard has the details."
        return [html.P(words, className="warn")]


def _routes(server: flask.Flask, desk: Desk) -> None:
    hosts = {*LOOPBACK, desk.settings.host}

    @server.before_request
    def _only_by_a_name_of_this_machine() -> Any:
        # A page elsewhere could have its name point here, and then read what is here.
        name = flask.request.host.rsplit(":", 1)[0].strip("[]")
        if name not in hosts:
            flask.abort(403)

    @server.get("/health")
    def _health() -> str:
        return "ok"

    @server.get("/data/<figure>/<path:path>")
    def _data(figure: str, path: str) -> flask.Response:
        address = Address.of(path, flask.request.query_string.decode())
        try:
            text = screen_at(desk, address).csv(figure)
        except NotHereError as error:
            flask.abort(404, str(error))
        return flask.Response(text, mimetype="text/csv")
