"""What a user sees at the terminal: help with examples, names at TAB, tables that fit, lists."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import app
from flows.commands import output
from tests.cases.conftest import Run
from tests.simulated_home import simulated_sweep

COMMANDS = sorted(name for name in app._commands if not name.startswith("-"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with two sweeps; `run` uses it."""
    for name in ("made", "other"):
        simulated_sweep(tmp_path / "home", name, rows=3)
    return tmp_path / "home"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_ends_with_an_example_of_it(run: Run, command: str) -> None:
    done = run(command, "--help")
    assert done.status == 0
    *_, examples = done.stdout.partition("For example:")
    assert f"  isoflop {command}" in examples
    assert max(map(len, examples.splitlines())) < 80


@pytest.mark.parametrize(("command", "needs"), [("fit", "FILE"), ("show", "RUN"), ("plan", "SPEC")])
def test_a_command_without_its_argument_names_it_as_its_help_does(
    run: Run, command: str, needs: str
) -> None:
    assert f"{command} [OPTIONS] {needs}" in run(command, "--help").stdout
    assert f"isoflop {command} needs a value for {needs}:" in run(command).stderr


def test_a_misspelt_sweep_is_answered_with_the_nearest(run: Run, home: Path) -> None:
    assert "Did you mean made? Sweeps there: made, other." in run("runs", "mde").stderr


def test_names_of_sweeps_runs_presets_and_gpus_complete(run: Run, home: Path) -> None:
    def completed(*words: str) -> set[str]:
        printed = run("__complete", *words).stdout.splitlines()
        return {line.partition("\t")[0] for line in printed if line and line[0] != "\x1f"}

    assert {"made", "other"} <= completed("report", "")
    assert "made/d24" in completed("show", "made/")
    assert completed("show", "") == {"made/", "other/"}
    assert {"chinchilla", "gpu-day"} <= completed("plan", "")
    assert completed("tune", "") >= {"lr-batch"}
    assert "h100" in completed("plan", "demo", "--gpu", "")
    assert {"made", "besiroglu"} <= completed("frontier", "--law", "")


def test_completing_imports_none_of_the_libraries_that_take_long() -> None:
    heavy = "{'torch', 'polars', 'pydantic', 'numpy'}"
    code = (
        "import sys; from flows.cli import app; app(['__complete', 'show', ''], "
        f"result_action='return_value'); print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_output_without_a_letter_gets_its_number(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "frontier", "--flops", "1e23"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "\\u" in done.stdout or "\\x" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_takes_the_script_of_completion(shell: str, tmp_path: Path) -> None:
    script = app.generate_completion(shell=shell)
    assert "__complete" in script
    if shutil.which(shell):
        path = tmp_path / "script"
        path.write_text(script)
        subprocess.run([shell, "-n", str(path)], check=True)


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_of_runs_is_wider_than_the_terminal_and_ids_stay_whole(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr(output, "width", lambda: width)
    lines = run("runs", "made", "--sort", "loss").stdout.splitlines()
    assert max(map(len, lines)) <= width
    place = lines[1].split().index("loss")
    losses = [float(line.split()[place]) for line in lines[2:] if line.startswith("made")]
    assert losses == sorted(losses)
    ids = {path.name for path in (home / "runs").iterdir()}
    assert {line.split()[2] for line in lines[2:] if line.startswith("made")} <= ids


def test_two_servers_on_one_port_are_refused_at_once(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOFLOP_PREFECT_PORT", "5000")
    done = run("up", "--workers", 1)
    assert done.status == 2
    assert "ISOFLOP_PREFECT_PORT and ISOFLOP_MLFLOW_PORT are both 5000" in done.stderr


@pytest.mark.parametrize(
    ("command", "does", "printed"),
    [
        ("prepare smoke", "flows.plans.plan.make_plan", "stopped; the same command resumes it\n"),
        ("sweep smoke", "flows.plans.plan.make_plan", "stopped; the same command resumes it\n"),
        (
            "tune lr-batch",
            "flows.tuning.plan.prepare_tune",
            "stopped; the same command resumes it\n",
        ),
        ("plan smoke", "flows.plans.plan.plan_ahead", ""),
    ],
)
def test_ctrl_c_ends_a_command_without_a_traceback_and_says_what_goes_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str, does: str, printed: str
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(does, interrupted)
    done = run(*command.split())
    assert (done.status, done.stdout) == (130, "")
    # Before it, a slow machine names the step it was at.
    assert done.stderr.endswith(printed)
    assert "Traceback" not in done.stderr
