"""Commands in README and docs: each is run, or marked with what a test lacks to run it."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flows.cli import app, main
from flows.runs.table import observations_frame
from flows.settings import Home
from tests.cases.test_mix import SOURCES, written
from tests.docs_commands import NEEDS, PAGES, ROOT, Block, blocks, inline
from tests.others_tables import BASE, loss
from tests.simulated import repeated_law, repeated_table
from tests.simulated_home import simulated_sweep

COMMANDS = [name for name in app if not name.startswith("-")]
BLOCKS = [block for page in PAGES for block in blocks(page)]
# Of Slurm, which its page names alone.
_OTHERS = {"--requeue", "--gres"}
# Commands that train, serve or fetch: no test of a page runs them.
_LONG = {"sweep", "tune", "up", "down", "submit", "prepare", "evaluate", "dashboard", "watch"}
# Words of a shell that change nothing which a command here reads.
_SHELL = {".", "source"}


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _options(command: str) -> set[str]:
    arguments = app[command].assemble_argument_collection()
    return {name for argument in arguments for name in argument.names} | {"--help"}


OPTIONS = {command: _options(command) for command in COMMANDS}
ALL_OPTIONS = {"--version"}.union(*OPTIONS.values())


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_command_and_option_that_a_page_names_exists(page):
    shown = [list(words) for block in blocks(page) for words in block.commands]
    strangers = []
    for words in (*shown, *inline(page)):
        given = {re.split(r"[=:;]", word)[0] for word in words if re.match(r"--[a-z]", word)}
        if words[0] != "isoflop":
            # The option alone, of a command that the sentence names.
            if words[0].startswith("--") and not _is_record(page):
                strangers += sorted(given - ALL_OPTIONS - _OTHERS)
        elif re.match(r"[a-z]", words[1]):
            strangers += [words[1]] if words[1] not in COMMANDS else []
            strangers += sorted(given - OPTIONS.get(words[1], set()))
    assert not strangers


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{_name(block.page)}:{block.line}")
def test_a_block_of_commands_can_be_run_or_says_what_it_needs(block):
    assert block.needs <= NEEDS
    for words in block.commands:
        if words[0] == "isoflop":
            assert block.needs or words[1] not in _LONG or _is_record(block.page)
            app.parse_args(list(words[1:]), exit_on_error=False, print_error=False)
        else:
            assert block.needs or words[0] in _SHELL or _is_record(block.page)


def _is_record(page: Path) -> bool:
    """A benchmark's commands are those that were typed on its day."""
    return page.parent.name == "benchmarks"


def _runnable(page: Path) -> list[Block]:
    return [] if _is_record(page) else [block for block in blocks(page) if not block.needs]


def _as_case(page: Path):
    """A page as a case; what a newcomer follows is run in CI, all pages by make test-long."""
    first = page == ROOT / "README.md" or page.parent.name in ("start", "how_to")
    return pytest.param(page, id=_name(page), marks=() if first else pytest.mark.long)


@pytest.mark.slow
@pytest.mark.parametrize("page", [_as_case(page) for page in PAGES if _runnable(page)])
def test_the_commands_of_a_page_run_and_print_what_it_shows(page, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "wider", "hotter", "base", "variant"):
        planned = simulated_sweep(tmp_path / "home", name)
        table = observations_frame(planned.runs, Home(tmp_path / "home"))
        table.write_parquet(tmp_path / "home" / "sweeps" / name / "observations.parquet")
    _write_tables(page)
    _write_files_of(page)
    for block in _runnable(page):
        commands = [words for words in block.commands if words[0] == "isoflop"]
        printed = "".join(_printed(words, block.shown, capsys) for words in commands)
        # A terminal breaks lines where it likes.
        assert [line for line in block.shown.splitlines() if _squeezed(line) not in printed] == []


def _printed(words: Iterable[str], shown: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints; few draws where no number of it is shown."""
    arguments = list(words)[1:]
    if not shown and "--bootstrap" in OPTIONS[arguments[0]]:
        arguments += ["--bootstrap", "20"]
    try:
        main(arguments)
    except SystemExit as stop:
        if stop.code:
            pytest.fail(f"isoflop {' '.join(arguments)}: {capsys.readouterr().err}")
    return _squeezed(capsys.readouterr().out)


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def _write_tables(page: Path) -> None:
    """The tables that a page speaks of, in the current folder."""
    N, D, measured = (np.array(column) for column in zip(*BASE, strict=True))
    columns = base = {"params": N, "tokens": D, "val_loss": measured}
    match _name(page):
        case "docs/fitting/index.md":
            columns = base | {"eval_nll": measured, "dataset": np.repeat("web", len(N))}
        case "docs/fitting/tables.md":
            columns = {"Params (M)": N / 1e6, "steps": D / 2**17, "batch": np.full(len(N), 64)}
            columns["perplexity"] = np.exp(measured)
        case "docs/fitting/repeated.md":
            repeats = repeated_table(repeated_law("penalty"), noise=0.002)
            columns = repeats.rename({"unique_tokens": "corpus_tokens"}).to_dict()
        case "docs/tuning/README.md":
            columns = _trials()
    pl.DataFrame(columns).write_csv("runs.csv")
    pl.DataFrame({"N": [7e9, 3e9], "D": [2e12, 1e12]}).write_csv("next.csv")
    for place, name in enumerate(("base", "a", "b")):
        pl.DataFrame(base | {"val_loss": measured * 0.99**place}).write_csv(f"{name}.csv")
    for name in ("mixtures", "small", "large"):
        written(Path(f"{name}.csv"))
    written(Path("theirs.csv"), share="w_pile_{}", loss="metric/{}_val_loss")
    pl.DataFrame({f"share_{name}": [1 / 3] for name in SOURCES}).write_csv("asked.csv")


def _trials() -> dict[str, np.ndarray]:
    """Trials of rate and batch at two sizes and budgets, lowest where a law of the two says."""
    draw = np.random.default_rng(0)
    cells = [(n, d) for n in (1e6, 4e6) for d in (2e7, 8e7) for _ in range(12)]
    N, D = np.array(cells).T
    lr, bs = 10 ** draw.uniform(-3.2, -1.5, len(N)), 2 ** draw.integers(3, 8, len(N))
    off_lr = np.log(lr / (0.006 * (N / 1e6) ** -0.3))
    off_batch = np.log(bs * 128 / (4096 * (D / 2e7) ** 0.4))
    losses = [loss(n, d) for n, d in cells] + 0.02 * off_lr**2 + 0.01 * off_batch**2
    return {"N": N, "D": D, "peak_lr": lr, "bs": bs, "seq_len": 128 + 0 * bs, "loss": losses}


def _write_files_of(page: Path) -> None:
    """The spec files and the table that a page shows, under the names it gives them."""
    for kind, body in re.findall(r"^```(yaml|csv)\n(.*?)^```", page.read_text(), re.M | re.S):
        if kind == "csv":
            Path("runs.csv").write_text(body)
        elif name := re.match(r"name: (\S+)", body):
            Path(f"{name[1]}.yaml").write_text(body)
