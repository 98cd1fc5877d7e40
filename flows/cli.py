"""The command `isoflop`: names and where they live. Heavy imports happen inside commands."""

import errno
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from io import UnsupportedOperation

from cyclopts import App

app = App(
    name="isoflop",
    help="Choose N and D before you pay: plan a sweep, train it, fit the law, read the frontier.",
    version=lambda: version("isoflop"),
    version_flags=["--version"],
)

_OBJECTS_BETWEEN_COLLECTIONS = 100_000

# Cyclopts imports a module only when its command is called.
for _name, _target, _help in (
    ("plan", "plan:plan", "Show every run of a sweep with its cost; nothing is spent."),
    ("prepare", "plan:prepare", "Turn a sweep's text into tokens, before GPUs are paid for."),
    ("sweep", "sweep:sweep", "Plan, train what is missing, fit and report, in this process."),
    ("submit", "submit:submit", "Start a sweep on the workers of isoflop up; return at once."),
    ("cancel", "sweep:cancel", "Stop a sweep or a study; the command that started it resumes it."),
    ("report", "results:report", "Write a sweep's report again from its run directories."),
    ("watch", "watch:watch", "Show a sweep as it trains."),
    ("runs", "results:runs", "List the runs of a sweep, or of all."),
    ("show", "results:show", "Print everything known about a run."),
    ("compare", "compare:compare", "What a change is worth in compute and time, and its law."),
    ("export", "results:export", "Write a sweep's observations and curves as files."),
    ("dashboard", "dashboard:dashboard", "Show sweeps, laws and forecasts in the browser."),
    ("up", "stack:up", "Start Prefect, MLflow, dashboard, pools and workers."),
    ("down", "stack:down", "Stop what isoflop up started."),
    ("status", "stack:status", "Show servers, workers, sweeps and runs."),
    ("doctor", "stack:doctor", "Find faults of servers, workers and files, and repair them."),
    ("sync", "stack:sync", "Bring the MLflow mirror up to date."),
    ("fit", "fit:fit", "Fit a loss law to a table of runs or a sweep."),
    ("forecast", "forecast:forecast", "Foretell losses of larger runs and their best N and D."),
    ("next", "next_runs:next_runs", "Which small runs sharpen a forecast most, and when to stop."),
    ("mix", "mix:mix", "What each source is worth, and the shares of least loss for a target."),
    ("tune", "tune:tune", "Search learning rate and batch at small sizes; fit their laws."),
    ("fit-lr", "tune:fit_lr", "Fit the laws of learning rate and batch to a table of trials."),
    ("frontier", "frontier:frontier", "Compute-optimal and inference-optimal N and D."),
    ("retrodict", "frontier:retrodict", "The inference bill behind published models."),
    ("evaluate", "evaluate:evaluate", "Run the benchmarks of the LLaMA paper on a trained model."),
    ("generate", "trained:generate", "Continue a prompt with a trained model."),
    ("export-hf", "trained:export_hf", "Write a trained model in the format of transformers."),
):
    app.command(f"flows.commands.{_target}", name=_name, help=_help)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit status 0 for an answer, 1 a failure, 2 unusable input."""
    # Thousands of runs are millions of objects and few circles, which the collector would look
    # through again and again: half of the time of reading their plans.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    try:
        try:
            app(arguments, result_action="return_value")
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has closed it, as `head` does.
        _drop_output()
    except OSError as error:
        _say_what_the_disk_refused(error)
        _drop_output()
        sys.exit(1)


def _say_what_the_disk_refused(error: OSError) -> None:
    """Say in a line that a file cannot be read or written; any other error is a bug."""
    from flows.files import no_room

    if no_room(error):
        message = f"the disk is full ({error}). Make room, then repeat the command."
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and error.filename is not None:
        message = f"{error.filename}: {(error.strerror or str(error)).lower()}."
    else:
        raise error
    print(f"isoflop: {message}", file=sys.stderr)


def _drop_output() -> None:
    """Keep Python from writing once more, as it exits, what could not be written."""
    # A caller in this process may have an output without a file.
    with suppress(UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
