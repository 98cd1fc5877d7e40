"""Serve the dashboard of a home: `python -m flows.dashboard.server` with ISOFLOP_HOME set."""

import logging
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor

import plotly.graph_objects as go
import plotly.io
import polars as pl
import waitress

from analysis.style import styled
from flows.dashboard.app import make_app
from flows.dashboard.fits import Fits
from flows.dashboard.library import Library
from flows.dashboard.subjects import Desk
from flows.processes import die_with_parent
from flows.settings import Home, Settings, home_of, open_settings

_THREADS = 4
_MOST_BYTES = 64 * 2**20


def serve(settings: Settings, home: Home) -> None:
    """Serve until the process is stopped."""
    get_plotly_ready()
    fits, library = Fits(_one_process), Library(home)
    # Thousands of files are read before somebody waits for them.
    threading.Thread(target=library.sweeps, daemon=True).start()
    try:
        waitress.serve(
            make_app(Desk(settings, library, fits)).server,
            host=settings.host,
            port=settings.dashboard_port,
            threads=_THREADS,
            max_request_body_size=_MOST_BYTES,
            ident=None,
        )
    finally:
        fits.close()


def get_plotly_ready() -> None:
    """Have Plotly import what it draws with, and give new figures no look of its own.

    It imports at the first figure, which a person would wait for; and it copies its look, for
    every kind of trace, into each figure, where ours replaces it at once.
    """
    plotly.io.templates.default = None
    figure = go.Figure([{"x": pl.Series([1.0]), "text": [""], "line": {}, "marker": {}}])
    styled(figure, "").to_json()


def _one_process() -> ProcessPoolExecutor:
    """Where fits are computed: in a process of its own a fit leaves the pages quick."""
    processes = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, processes, initializer=_politely, initargs=(os.getpid(),))


def _politely(parent: int) -> None:
    """Give way to trainings, and end with the server even when that is killed."""
    die_with_parent(parent)
    os.nice(10)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    current = open_settings()
    serve(current, home_of(current))
