"""Time of the dashboard in a home of 50 sweeps of 40 runs.

    python bench/dashboard.py --json out.json          # three minutes on a quiet core

The home is simulated (tests/simulated_home.py): the demo's eight sizes, five trainings of each.
Answers are timed in this process, as the browser waits for them: from the callback to its JSON.
First paint is the browser's own, with Chromium and selenium installed.
"""

import argparse
import itertools
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
from dash._utils import to_json

from flows.dashboard.address import Address
from flows.dashboard.app import changed, followed, shown, ticked
from flows.dashboard.fits import Fits
from flows.dashboard.library import Library
from flows.dashboard.parts import Parts, There
from flows.dashboard.render import graphs_of
from flows.dashboard.server import get_plotly_ready
from flows.dashboard.subjects import Desk
from flows.settings import Home, Settings
from flows.stack.servers import free_port, healthy

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SWEEPS, SEEDS, ROWS = 50, 5, 200
# Seconds that a person waits at most.
PAINT_S, INTERACTION_S = 1.0, 0.3


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="keeps the home for later")
    parser.add_argument("--no-browser", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = make_home(arguments.folder or Path(scratch))
        rows = measured(home, arguments.repeat)
        if not arguments.no_browser:
            rows.extend(in_chromium(home, arguments.repeat))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    machine = f"{os.cpu_count()} cores, load {load}, Python {platform.python_version()}"
    print(f"{machine}\n\n{'':36} {'CPU s':>7} {'wall s':>7} {'most':>7} {'limit':>6}")
    for row in rows:
        print(
            f"{row['name']:36} {row['cpu_s']:7.3f} {row['wall_s']:7.3f} {row['most_s']:7.3f} "
            f"{row['limit_s']:6g}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))


def make_home(folder: Path) -> Home:
    """The home, made where it is not there yet; every sweep has the law of one fit."""
    from analysis.fit.answer import fit_table
    from analysis.table.runs import own_table
    from flows.runs.table import observations_frame
    from tests.simulated_home import simulated_sweep

    home, law = Home(folder), ""
    for number in range(SWEEPS):
        name = f"sweep{number:02d}"
        if (home.sweeps / name / "law.json").exists():
            continue
        planned = simulated_sweep(folder, name, seeds=SEEDS, rows=ROWS)
        if not law:
            [group] = fit_table(own_table(observations_frame(planned.runs, home)))
            law = group.fit.law.model_dump_json()
        (home.sweeps / name / "law.json").write_text(law)
    return home


def measured(home: Home, repeat: int) -> list[dict[str, Any]]:
    """The first look at a home, and what follows it."""
    get_plotly_ready()
    # A clock by which every look at the disk is a new one; fits in a thread, to wait for them.
    library = Library(home, itertools.count().__next__)
    desk = Desk(Settings(home=home.root), library, Fits(lambda: ThreadPoolExecutor(1)))
    sweep = Address(("sweep", "sweep07"))
    frontier = Address((*sweep.path, "frontier"))
    first = Library(home)
    rows = [timed("reading 50 sweeps of 40 runs", 1, lambda _: first.sweeps(), PAINT_S)]
    rows.append(timed("home", repeat, lambda _: shown(desk, Address()), INTERACTION_S))
    stamp = shown(desk, Address())[4]
    rows.append(timed("home, nothing new", repeat, lambda _: tick(desk, stamp), INTERACTION_S))
    rows.append(timed("sweep, for the first time", 1, lambda _: shown(desk, sweep), PAINT_S))
    for each in (sweep, frontier):
        while "computed" in str(shown(desk, each)):
            time.sleep(0.1)
    rows.append(timed("sweep, again", repeat, lambda _: shown(desk, sweep), INTERACTION_S))

    there = parts_on(shown(desk, frontier)[2])
    asked: dict[str, str] = {"target": "13.5"}

    def slide(turn: int) -> Any:
        return changed(desk, frontier, {**asked, "demand": f"9.{turn}"}, there)

    def below(turn: int) -> Any:
        return followed(desk, frontier.with_query(**asked, demand=f"9.{turn}"), there)

    for words in ("", ", dollars"):
        rows.append(timed(f"a slider of the frontier{words}", repeat, slide, INTERACTION_S))
        rows.append(timed(f"and what is below it{words}", repeat, below, INTERACTION_S))
        asked |= {"gpu": "H100-80GB", "price": "2", "batch": "5"}
    runs = Address((*sweep.path, "runs"))

    def search(turn: int) -> Any:
        asked = {"q": f"d{['64', '96', '32', '48'][turn % 4]} {'' * turn}"}
        return changed(desk, runs, asked, ([], []))

    rows.append(timed("filter of the runs", repeat, search, INTERACTION_S))
    return rows


def parts_on(body: list[Any]) -> There:
    """The ids of the parts of a page that shows a body."""
    parts = Parts.of(body)
    return (
        [box.id for box in parts.between],
        [graph.id for box in parts.figures for graph in graphs_of(box)],
    )


def tick(desk: Desk, stamp: str) -> Any:
    """What an open view asks for every other second."""
    from dash.exceptions import PreventUpdate

    try:
        return ticked(desk, Address(), stamp, ([], []))
    except PreventUpdate:
        return None


def timed(name: str, repeat: int, answer: Callable[[int], Any], limit_s: float) -> dict[str, Any]:
    """Median seconds of the CPU and the clock, and the most, of answers with their JSON."""
    cpu, wall = [], []
    for turn in range(repeat):
        began, started = time.process_time(), time.perf_counter()
        value = answer(turn)
        if not isinstance(value, pl.DataFrame | list):
            to_json(value)
        cpu.append(time.process_time() - began)
        wall.append(time.perf_counter() - started)
    return {
        "name": name,
        "cpu_s": statistics.median(cpu),
        "wall_s": statistics.median(wall),
        "most_s": max(wall),
        "limit_s": limit_s,
    }


def in_chromium(home: Home, repeat: int) -> Iterator[dict[str, Any]]:
    """From the address to the table of sweeps on the screen, and from a key to a new frontier."""
    from tests.browser import chromium, resize

    port = free_port("127.0.0.1")
    command = [sys.executable, "-m", "flows.cli", "dashboard", "--port", str(port)]
    environment = {**os.environ, "ISOFLOP_HOME": str(home.root), "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        while not healthy(f"http://127.0.0.1:{port}/health"):
            time.sleep(0.1)
        with chromium() as window:
            resize(window, 1280)
            yield _in_browser(
                "home in Chromium",
                lambda: window.get(f"http://127.0.0.1:{port}/"),
                lambda: window.execute_script(_ROWS) >= SWEEPS,
                (repeat, PAINT_S),
            )
            window.get(f"http://127.0.0.1:{port}/sweep/sweep00/frontier")
            while not window.execute_script(_THERE):
                time.sleep(0.1)
            slider = window.find_element("css selector", "input[type=range][id*=demand]")
            seconds = [_slide(window, slider) for _ in range(repeat + 1)]
            for name, times in zip(
                ("a slider", "and the figures below"), zip(*seconds, strict=True), strict=True
            ):
                yield _browser_row(f"{name} in Chromium", times, INTERACTION_S)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()


_ROWS = "return document.querySelectorAll('tbody tr').length"
# What is drawn of the three figures of a frontier: their lines and their words.
_DRAWN = """
const boxes = ['frontier', 'life', 'regret'].map(name => document.getElementById(`figure-${name}`));
const drawn = box => {
  const lines = [...box?.querySelectorAll('svg path') ?? []].map(path => path.getAttribute('d'));
  return lines.length ? lines + box.textContent : '';
};
"""
_THERE = f"{_DRAWN} return boxes.map(drawn).every(Boolean)"
# Notes when the slider moves, and for each figure the frame that first shows it another.
_WATCH = f"""{_DRAWN}
window.shown = boxes.map(() => null);
boxes.forEach((box, k) => {{
  const before = drawn(box);
  const observer = new MutationObserver(() => {{
    if (['', before].includes(drawn(box))) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => {{ window.shown[k] = performance.now(); }}));
  }});
  observer.observe(box, {{subtree: true, childList: true, attributes: true}});
}});
const once = {{capture: true, once: true}};
addEventListener('keydown', () => {{ window.moved = performance.now(); }}, once);
"""
_SHOWN = "return window.shown.every(Boolean) && window.shown.map(time => time - window.moved)"


def _slide(window: Any, slider: Any) -> tuple[float, float]:
    """Seconds from a key to the frame with another frontier, and to that with the figures below it.

    The page itself takes the times, since a question from outside costs it some.
    """
    window.execute_script(_WATCH)
    slider.send_keys("\ue014")  # the right arrow
    while not (times := window.execute_script(_SHOWN)):
        time.sleep(0.25)
    return times[0] / 1000, max(times) / 1000


def _in_browser(
    name: str, act: Callable[[], object], done: Callable[[], bool], times: tuple[int, float]
) -> dict[str, Any]:
    """Seconds from an act to what it shows."""
    (repeat, limit), seconds = times, []
    for _ in range(repeat + 1):
        started = time.perf_counter()
        act()
        while not done():
            time.sleep(0.01)
        seconds.append(time.perf_counter() - started)
    return _browser_row(name, seconds, limit)


def _browser_row(name: str, seconds: Sequence[float], limit: float) -> dict[str, Any]:
    """The median and the most; the first is left out."""
    median, most = statistics.median(seconds[1:]), max(seconds[1:])
    return {"name": name, "cpu_s": float("nan"), "wall_s": median, "most_s": most,
            "limit_s": limit}  # fmt: skip


if __name__ == "__main__":
    main()
