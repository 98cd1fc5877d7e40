"""Run every fault and print the table: python -m tests.chaos.table [--times N] [--seed S] [FAULT…].

Named faults alone are tried; without a name all are. `--out FILE` writes the page of
docs/benchmarks.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.settings import Settings, open_home
from flows.stack.servers import free_port, start_prefect_server, wait_healthy
from sweeps.plan import Plan
from tests.chaos import deployed, here, slurm
from tests.chaos.stage import Outcome, Stage, own_environment, read_plan
from tests.conftest import ROOT

HEADER = ("fault", "times injected", "runs lost", "doubled", "extra steps", "extra compute")


class Theatre:
    """A Prefect server, a corpus and an undisturbed sweep, which all faults share."""

    def __init__(self, folder: Path, api: str, seed: int, copies: int) -> None:
        self.folder = folder
        self.seed, self.copies = seed, copies
        self.environment = own_environment(api)
        self.text = prose(folder / "text")
        stage = self.stage("undisturbed")
        self.undisturbed = stage.new_home()
        self.plan: Plan = read_plan(self.undisturbed, stage)
        with stage.sweep(self.undisturbed) as sweep:
            stage.finish(sweep)

    def stage(self, name: str) -> Stage:
        """A place for one fault."""
        folder = self.folder / name
        folder.mkdir()
        return Stage(folder, self.text, self.environment, self.seed, self.copies)

    def play(self, name: str, times: int) -> Outcome:
        """Inject a fault so often and compare."""
        fault = (here.FAULTS | deployed.FAULTS | slurm.FAULTS)[name]
        return fault(self.stage(name), self.undisturbed, self.plan, times)


@contextmanager
def theatre(folder: Path, *, seed: int, copies: int = 2) -> Iterator[Theatre]:
    """The theatre, its server stopped at the end.

    Args:
        seed: of the moments and victims.
        copies: trainings of each size.
    """
    port = free_port("127.0.0.1")
    settings = Settings(home=folder / "server", prefect_port=port)
    home = open_home(settings)
    server = start_prefect_server(settings, home, port=port, tied=True)
    try:
        wait_healthy(f"{settings.prefect_api}/health", server, home.logs / "prefect-server.log")
        yield Theatre(folder, settings.prefect_api, seed, copies)
    finally:
        server.terminate()
        server.wait(30)


def prose(folder: Path) -> Path:
    """A small corpus: this project's own pages and modules."""
    folder.mkdir()
    pages = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("*/*.py"), *ROOT.glob("tests/*/*.py")]
    for number, page in enumerate(sorted(pages)):
        (folder / f"{number}.txt").write_text(page.read_text())
    return folder


def render(outcomes: list[Outcome]) -> str:
    """The table in Markdown."""
    lines = [f"| {' | '.join(HEADER)} |", f"|---|{'---:|' * (len(HEADER) - 1)}"]
    for found in outcomes:
        share = found.extra_steps / found.steps if found.steps else 0.0
        lines.append(
            f"| {found.fault} | {found.injected} | {found.lost} | {found.doubled} "
            f"| {found.extra_steps} of {found.steps} | {share:.1%} |"
        )
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """0 when nothing was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args(arguments)
    outcomes, skipped = [], []
    with (
        tempfile.TemporaryDirectory(prefix="isoflop-chaos-") as folder,
        theatre(Path(folder), seed=asked.seed) as stage,
    ):
        for name in asked.faults or [*here.FAULTS, *deployed.FAULTS, *slurm.FAULTS]:
            began = time.monotonic()
            try:
                outcomes.append(stage.play(name, asked.times))
            except pytest.skip.Exception as why:
                skipped.append(f"{name}: {why}")
                continue
            took = time.monotonic() - began
            sys.stderr.write(f"{outcomes[-1]}, {took:.0f} s\n")
    table = "\n\n".join([render(outcomes), *skipped])
    sys.stdout.write(f"{table}\n")
    if asked.out is not None:
        machine = f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}"
        asked.out.write_text(f"{PAGE}{machine}; seed {asked.seed}.\n\n{table}\n")
    return int(any(found.lost or found.doubled for found in outcomes))


PAGE = """# Faults injected into a real sweep

`make chaos` trains a small sweep (four trainings of two horizons) once undisturbed and once for
each fault, several times injected at random moments, and compares losses, weights and curves to
the bit, and the curves in MLflow with those on disk. *Lost* are runs that ended neither as the
undisturbed one nor, for the NaN, with its reason; *doubled* are steps or runs held twice, on disk
or in MLflow; *extra steps* are those that resumed trainings said they train again.

"""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
