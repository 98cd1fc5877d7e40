"""The command `isoflop`: names and where they live. Heavy imports happen inside commands."""

import sys
from typing import NoReturn

from cyclopts import App

app = App(
    name="isoflop",
    help="Choose N and D before you pay: plan a sweep, train it, fit the law, read the frontier.",
    version_flags=["--version"],
)

# name, module:function. Cyclopts imports a module only when its command is called.
for _name, _target in {
    "fit": "flows.commands.fit:fit",
    "frontier": "flows.commands.frontier:frontier",
    "retrodict": "flows.commands.frontier:retrodict",
}.items():
    app.command(_target, name=_name)


def main() -> None:
    """Run the command line; exit status 0 an answer, 1 a failure, 2 unusable input."""
    sys.exit(app())


def fail(message: str) -> NoReturn:
    """Refuse unusable input: one clear line on standard error, exit status 2."""
    print(f"isoflop: {message}", file=sys.stderr)
    raise SystemExit(2)
