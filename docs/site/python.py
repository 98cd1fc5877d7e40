"""The reference of Python, from the signatures and docstrings of `import isoflop`."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from functools import cached_property
from importlib import import_module
from typing import Any

from griffe import Docstring, DocstringSectionKind, Parser

_LISTS = {
    DocstringSectionKind.parameters: "Parameters",
    DocstringSectionKind.attributes: "Attributes",
    DocstringSectionKind.returns: "Returns",
    DocstringSectionKind.raises: "Raises",
}

_OURS = ("analysis", "flows", "isoflop")


def python_page() -> str:
    """The page of the package: its words, then what they return."""
    package = import_module("isoflop")
    parts = ["# Python", "", *_documented(package.__doc__), ""]
    members = {name: getattr(package, name) for name in package.__all__}
    for name, member in members.items():
        if inspect.isfunction(member):
            parts += [f"## {name}", "", *_signature(f"isoflop.{name}", member)]
            parts += [*_documented(member.__doc__), ""]
    for name, member in members.items():
        if inspect.isclass(member):
            parts += [f"## {name}", "", *_documented(member.__doc__), ""]
            for inner, value in _public(member):
                parts += [f"### {name}.{inner} {{#{name}-{inner}}}", ""]
                if inspect.isfunction(value):
                    parts += _signature(f".{inner}", value)
                parts += [*_documented(value.__doc__), ""]
    return "\n".join(parts)


def _public(kind: type) -> Iterator[tuple[str, Any]]:
    """Methods and properties of a class that say what they are."""
    ours = [each for each in kind.__mro__ if each.__module__.partition(".")[0] in _OURS]
    members = {name: value for each in reversed(ours) for name, value in vars(each).items()}
    for name, value in members.items():
        value = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        of_ours = inspect.isfunction(value) or isinstance(value, property | cached_property)
        if of_ours and not name.startswith("_") and value.__doc__:
            yield name, value


def _signature(name: str, function: Callable[..., Any]) -> list[str]:
    """A call as its source writes it, an argument a line."""
    [written] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(written, ast.FunctionDef)
    given = written.args
    # A default belongs to the last arguments.
    places = given.posonlyargs + given.args
    defaults = [None] * (len(places) - len(given.defaults)) + [*given.defaults]
    shown = [_argument(*each) for each in zip(places, defaults, strict=True)]
    if given.vararg is not None:
        shown.append(f"*{_argument(given.vararg)}")
    elif given.kwonlyargs:
        shown.append("*")
    shown += [_argument(*each) for each in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    lines = "".join(f"    {each},\n" for each in shown if each not in ("self", "cls"))
    result = f" -> {ast.unparse(written.returns)}" if written.returns else ""
    return ["```python", f"{name}(\n{lines}){result}" if lines else f"{name}(){result}", "```", ""]


def _argument(argument: ast.arg, default: ast.expr | None = None) -> str:
    return ast.unparse(argument) + (f" = {ast.unparse(default)}" if default else "")


def _documented(docstring: str | None) -> list[str]:
    """A docstring as Markdown, its sections as lists."""
    lines: list[str] = []
    text = Docstring(inspect.cleandoc(docstring or ""), parser=Parser.google)
    for section in text.parse(warnings=False):
        if section.kind is DocstringSectionKind.text:
            lines += [_with_fences(section.value), ""]
        elif section.kind in _LISTS:
            lines += [f"**{_LISTS[section.kind]}**", ""]
            for each in section.value:
                name = getattr(each, "name", None) or str(each.annotation or "")
                about = " ".join(each.description.split())
                lines.append(f"- `{name}`: {about}" if name else f"- {about}")
            lines.append("")
    return lines


def _with_fences(text: str) -> str:
    """Indented examples as Python."""
    return re.sub(
        r"(?:(?<=\n\n)|^)((?: {4}[^\n]*\n?|\n(?= {4}))+)",
        lambda code: f"```python\n{inspect.cleandoc(code[1])}\n```\n",
        text,
    )
