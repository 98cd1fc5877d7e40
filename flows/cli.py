"""The command `isoflop`: names and where they live. Heavy imports happen inside commands."""

import errno
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from io import TextIOWrapper, UnsupportedOperation

from cyclopts import App, CycloptsError, Group, Parameter

from flows.commands.misread import refusal, without_rounding


def _default(value: object) -> str | None:
    """A default as help shows it; none for nothing and for a switch."""
    return None if value is None or value is False or value == () else str(value)


app = App(
    name="isoflop",
    help="Choose N and D before you pay: plan a sweep, train it, fit the law, read the frontier.",
    help_format="plaintext",
    help_epilogue="All options and examples of a command: isoflop COMMAND --help",
    default_parameter=Parameter(negative=(), show_default=_default, converter=without_rounding),
    version=lambda: version("isoflop"),
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,
)

_OBJECTS_BETWEEN_COLLECTIONS = 100_000
# What they have done is kept, and their next call goes on from there.
_RESUMED = ("evaluate", "prepare", "sweep", "tune")
# No permission, or a file where a folder is wanted and the other way round.
_REFUSED = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
)
_STOPPED = 130  # exit status of a program that Ctrl-C ends
_SWEEPS = Group.create_ordered("Plan and train")
_RUNS = Group.create_ordered("Look at runs")
_LAWS = Group.create_ordered("Laws, forecasts, decisions")
_MODELS = Group.create_ordered("Use a trained model")
_SERVERS = Group.create_ordered("Servers and workers")
_TERMINAL = Group.create_ordered("Terminal")

# Name, where it lives, section, what it does, examples. Cyclopts imports a module only when its
# command is called.
for _place, (_name, _target, _group, _help, _examples) in enumerate((
    (
        "plan", "plan:plan", _SWEEPS,
        "Show what a sweep or a study trains and costs; nothing is spent.",
        "isoflop plan chinchilla --gpu h100\n"
        "isoflop plan lr-batch --gpu h100\n"
        "isoflop plan mine.yaml --set 'grid.budgets=[1e17]' --gpu h100 --devices 8",
    ),
    (
        "prepare", "plan:prepare", _SWEEPS,
        "Turn a sweep's text into tokens, before GPUs are paid for.",
        "isoflop prepare gpu-day\nisoflop prepare demo --corpus texts/",
    ),
    (
        "sweep", "sweep:sweep", _SWEEPS,
        "Plan, train what is missing, fit and report, in this process.",
        "isoflop sweep smoke\nisoflop sweep mine.yaml --max-hours 8 --fail-fast",
    ),
    (
        "submit", "submit:submit", _SWEEPS,
        "Start a sweep on the workers of isoflop up, and return at once.",
        "isoflop submit chinchilla\nisoflop submit mine.yaml --set 'seeds=[1]'",
    ),
    (
        "tune", "tune:tune", _SWEEPS,
        "Search learning rate and batch at small sizes; fit their laws.",
        "isoflop tune lr-batch --trials 12\nisoflop tune lr-batch --max-hours 1",
    ),
    (
        "cancel", "sweep:cancel", _SWEEPS,
        "Stop a sweep or a study; the command that started it resumes it.",
        "isoflop cancel chinchilla",
    ),
    (
        "watch", "watch:watch", _RUNS, "Show a sweep as it trains.", "isoflop watch chinchilla",
    ),
    (
        "runs", "results:runs", _RUNS, "List the runs of a sweep, or of all.",
        "isoflop runs chinchilla --sort loss\n"
        "isoflop runs --state failed --state diverged\n"
        "isoflop runs --where 'n_params > 1e6 AND val_loss < 3' --json runs.json",
    ),
    (
        "show", "results:show", _RUNS, "Print everything known about a run.",
        "isoflop show demo/d24",
    ),
    (
        "report", "results:report", _RUNS,
        "Write a sweep's report again from its run directories.", "isoflop report demo",
    ),
    (
        "compare", "compare:compare", _RUNS,
        "What a change is worth in compute and time, and its law.",
        "isoflop compare demo mine --report compare.html\n"
        "isoflop compare architectures --at 1e21",
    ),
    (
        "export", "results:export", _RUNS, "Write a sweep's observations and curves as files.",
        "isoflop export demo --format csv --to tables",
    ),
    (
        "fit", "fit:fit", _LAWS, "Fit a loss law to a table of runs or a sweep.",
        "isoflop fit runs.csv --report law.html\n"
        "isoflop fit runs.csv --map val_loss=eval_nll --by corpus --target-flops 1e24",
    ),
    (
        "forecast", "forecast:forecast", _LAWS,
        "Foretell losses of larger runs and their best N and D.",
        "isoflop forecast runs.csv --at 7B,2T --flops 1e23\n"
        "isoflop forecast runs.csv --at 7B,2T --register big\n"
        "isoflop forecast --check big --loss 1.93",
    ),
    (
        "next", "next_runs:next_runs", _LAWS,
        "Which small runs sharpen a forecast most, and when to stop.",
        "isoflop next demo --flops 1e14 --budget 1e13 --to next.yaml",
    ),
    (
        "frontier", "frontier:frontier", _LAWS,
        "Compute-optimal and inference-optimal N and D.",
        "isoflop frontier --flops 1e23 --inference-tokens 1e12\n"
        "isoflop frontier --law demo --like 8e9,15e12 --inference-tokens 1e11:1e13\n"
        "isoflop frontier --flops 1e23 --generated-tokens 1e12 --gpu h100",
    ),
    (
        "retrodict", "frontier:retrodict", _LAWS,
        "The inference bill behind published models.", "isoflop retrodict --report bill.html",
    ),
    (
        "mix", "mix:mix", _LAWS,
        "What each source is worth, and the shares of least loss for a target.",
        "isoflop mix mixtures.csv --target code=2,web=1 --stock code=20B",
    ),
    (
        "fit-lr", "tune:fit_lr", _LAWS,
        "Fit the laws of learning rate and batch to a table of trials.",
        "isoflop fit-lr trials.csv --map lr=peak_lr",
    ),
    (
        "evaluate", "evaluate:evaluate", _MODELS,
        "Run the benchmarks of the LLaMA paper on a trained model.",
        "isoflop evaluate demo/d112 common-sense --limit 100",
    ),
    (
        "generate", "trained:generate", _MODELS, "Continue a prompt with a trained model.",
        "isoflop generate demo/d112 'The function returns' --tokens 50",
    ),
    (
        "export-hf", "trained:export_hf", _MODELS,
        "Write a trained model in the format of transformers.",
        "isoflop export-hf demo/d112 model/",
    ),
    (
        "up", "stack:up", _SERVERS, "Start Prefect, MLflow, dashboard, pools and workers.",
        "isoflop up --workers 2\nisoflop up --gpus 0,1,2,3",
    ),
    ("down", "stack:down", _SERVERS, "Stop what isoflop up started.", "isoflop down"),
    (
        "status", "stack:status", _SERVERS, "Show servers, workers, sweeps and runs.",
        "isoflop status",
    ),
    (
        "doctor", "stack:doctor", _SERVERS,
        "Find faults of servers, workers and files, and repair them.", "isoflop doctor --dry-run",
    ),
    ("sync", "stack:sync", _SERVERS, "Bring the MLflow mirror up to date.", "isoflop sync"),
    (
        "dashboard", "dashboard:dashboard", _SERVERS,
        "Show sweeps, laws and forecasts in the browser.", "isoflop dashboard --port 8051",
    ),
)):  # fmt: skip
    _lines = [f"  {line}" for line in _examples.splitlines()]
    app.command(
        f"flows.commands.{_target}",
        name=_name,
        help=_help,
        group=_group,
        sort_key=_place,
        help_epilogue="\n".join(["For example:", *_lines]),
    )
for _flag in ("--help", "--version"):
    app[_flag].group = _TERMINAL
app.register_install_completion_command(
    "completion",
    group=_TERMINAL,
    help="Complete commands, options, sweeps and runs with TAB in bash, zsh and fish.",
    help_epilogue="For example:\n  isoflop completion\n  isoflop completion --shell zsh",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit status 0 for an answer, 1 a failure, 2 unusable input.

    After Ctrl-C it is 130.
    """
    # Thousands of runs are millions of objects and few circles, which the collector would look
    # through again and again: half of the time of reading their plans.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    # An output of few letters, as ASCII's, gets the others by their numbers, as Python's errors do.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    # Prefect and MLflow report their use to their makers as soon as they are imported, without it.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    try:
        try:
            app(arguments, result_action="return_value", exit_on_error=False, print_error=False)
        finally:
            sys.stdout.flush()
    except CycloptsError as error:
        from flows.commands.common import fail

        fail(refusal(error))
    except KeyboardInterrupt:
        if next(iter(sys.argv[1:] if arguments is None else arguments), "") in _RESUMED:
            # A terminal shows ^C where its cursor was.
            start = "\n" if sys.stderr.isatty() else ""
            print(f"{start}stopped; the same command resumes it", file=sys.stderr)
        sys.exit(_STOPPED)
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
    elif error.errno in _REFUSED and error.filename is not None:
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
