"""What the parser refuses is one line: the option, what was given, what is expected."""

from typing import Any, Literal, get_args, get_origin

import pytest

from flows.cli import app, main

COMMANDS = [name for name in app if not name.startswith("-") and name != "completion"]


def kind_of(hint: Any) -> Any:
    """The int, float or Literal that an option takes, optional or not; None for other types."""
    kinds = [each for each in (hint, *get_args(hint)) if each in (int, float)]
    words = [each for each in (hint, *get_args(hint)) if get_origin(each) is Literal]
    return next(iter(kinds + words), None)


def refused(capsys: Any, *line: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(line)
    assert ended.value.code == 2, line
    [message] = capsys.readouterr().err.splitlines()
    return str(message)


def test_every_option_of_numbers_or_words_names_itself_and_what_it_takes(capsys: Any) -> None:
    looked_at = 0
    for command in COMMANDS:
        arguments = app[command].assemble_argument_collection()
        for argument in arguments:
            if (kind := kind_of(argument.hint)) is None:
                continue
            looked_at += 1
            option = argument.name
            others = [each for each in arguments if each.required and each is not argument]
            words = [f"{each.name}=1" if each.name[0] == "-" else "x" for each in others]
            expected = {float: "a number, as 2.5 or 1e12", int: "a whole number, as 4"}.get(
                kind, f"one of {', '.join(map(str, get_args(kind)))}"
            )
            for value in ("1,000", "1e3x", "", *["2.7"] * (kind is int)):
                message = refused(capsys, command, *words, f"{option}={value}")
                assert message == f"isoflop: {option} {value!r} is not {expected}."
    assert looked_at > 60


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fit x.csv --form gama", "one of chinchilla, gamma, tied, kaplan, data_constrained. Did "),
        ("plan", "isoflop plan needs a value for SPEC: isoflop plan --help"),
        ("frontier --flops", "isoflop frontier needs a value for --flops: isoflop frontier --help"),
        ("plan demo --set seeds=[0, 1]", "isoflop plan does not take '1]'. Quote a value that "),
        ("frontier --flop 1e20", "Unknown option: --flop. Did you mean --flops?"),
        ("plam", 'Unknown command "plam". Did you mean "plan"?'),
        ("frontier --loss 2 --loss 3", "--loss specified multiple times"),
    ],
)
def test_a_line_that_is_no_command_is_refused_in_one_line(
    line: str, message: str, capsys: Any
) -> None:
    assert message in refused(capsys, *line.split())
