"""The dashboard without browser or server: desks, and the words and the Python of their views."""

import ast
from concurrent.futures import Executor, Future
from io import StringIO

import polars as pl
from polars.testing import assert_frame_equal

from flows.dashboard.app import shown
from flows.dashboard.fits import Fits
from flows.dashboard.library import Library
from flows.dashboard.subjects import Desk
from flows.runs.table import curves, observations_frame
from flows.settings import Home, Settings


class AtOnce(Executor):
    """Computes in the caller's thread."""

    def submit(self, function, /, *arguments, **options):
        future = Future()
        try:
            future.set_result(function(*arguments, **options))
        except Exception as error:
            future.set_exception(error)
        return future


class Never(Executor):
    """Is asked and does not answer."""

    def submit(self, function, /, *arguments, **options):
        return Future()


def desk_of(root, executor=None):
    # A clock that runs on: every look is a new one.
    ticks = iter(range(10**9))
    return Desk(
        Settings(home=root), Library(Home(root), lambda: next(ticks)), Fits(executor or AtOnce)
    )


def write_tables(root, planned):
    """The tables of a sweep's report."""
    for name, read in (("observations", observations_frame), ("curves", curves)):
        folder = root / "sweeps" / planned.spec.name
        read(planned.runs, Home(root)).write_parquet(folder / f"{name}.parquet")


def words(component):
    """All text of a component, in reading order."""
    if component is None:
        return []
    if isinstance(component, str | int | float):
        return [str(component)]
    if isinstance(component, list | tuple):
        return [text for each in component for text in words(each)]
    return words(getattr(component, "children", None))


def text_of(desk, address):
    return " ".join(words(list(shown(desk, address)[:3])))


def assert_python_gives_the_data(screen, *names):
    """Run the lines beside figures; those that several begin with are run once."""
    reached = {"": {}}
    for name in names:
        lines = ""
        for statement in ast.parse(screen.python(name).removesuffix("figure.show()")).body:
            scope, line = dict(reached[lines]), ast.unparse(statement)
            lines += f"{line}\n"
            if lines not in reached:
                exec(line, scope)
                reached[lines] = scope
        same_data(screen.csv(name), reached[lines]["data"].write_csv())


def same_data(ours, theirs):
    frames = [pl.read_csv(StringIO(text), infer_schema_length=None) for text in (ours, theirs)]
    assert_frame_equal(*frames)
