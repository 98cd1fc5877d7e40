"""What the parser refuses of a command line, in one line of isoflop's words."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from cyclopts import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    Token,
    UnusedCliTokensError,
    convert,
)

_NUMBERS = {float: "a number, as 2.5 or 1e12", int: "a whole number, as 4"}


def without_rounding(kind: Any, tokens: Sequence[Token]) -> Any:
    """Convert a value as cyclopts does, except that it would round 2.7 to a whole number.

    Raises:
        CoercionError: a fraction where a whole number is expected.
    """
    if kind is int and tokens[0].value.partition(".")[2].strip("0"):
        raise CoercionError(target_type=int, token=tokens[0])
    return convert(kind, tokens)


def refusal(error: CycloptsError) -> str:
    """One line that names the option, what was given, and what is expected."""
    command = " ".join(("isoflop", *(error.command_chain or ())))
    match error:
        case CoercionError(token=token, argument=argument) if token and argument:
            given = f"{token.keyword or argument.name} {token.value!r} is not"
            if error.target_type in _NUMBERS:
                return f"{given} {_NUMBERS[error.target_type]}."
            if get_origin(error.target_type) is Literal:
                choices = get_args(error.target_type)
                nearest = get_close_matches(token.value, choices, n=1)
                hint = f" Did you mean {nearest[0]}?" if nearest else ""
                return f"{given} one of {', '.join(choices)}.{hint}"
        case MissingArgumentError(keyword=keyword, argument=argument) if argument:
            return f"{command} needs a value for {keyword or argument.name}: {command} --help"
        case UnusedCliTokensError(unused_tokens=tokens) if tokens:
            return f"{command} does not take {tokens[0]!r}. Quote a value that holds blanks."
    error.verbose = False
    return " ".join(str(error).split())
