"""English prose from Python source: the paragraphs of docstrings."""

import ast
import re
from collections.abc import Iterator

# Shorter paragraphs are mostly headings; those with a smaller share of letters are mostly code,
# tables and signatures.
MIN_CHARACTERS = 60
MIN_LETTERS = 0.86
# Where a statement has others, in their order. Half the time went into looking for definitions
# among expressions, where there are none.
_BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")
_NO_LETTERS = bytes(c for c in range(128) if not (chr(c).isalpha() or chr(c) == " "))


def prose(source: bytes) -> Iterator[str]:
    """Paragraphs of prose in the docstrings of Python source; none if it does not parse."""
    if b'"""' not in source and b"'''" not in source:
        return
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in _statements(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for paragraph in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
                if is_prose(paragraph):
                    yield paragraph.strip("\n")


def _statements(module: ast.Module) -> Iterator[ast.AST]:
    """A module and its statements, in the order of `ast.walk`."""
    nodes: list[ast.AST] = [module]
    for node in nodes:
        for block in _BLOCKS:
            nodes += getattr(node, block, ())
        yield node


def is_prose(paragraph: str) -> bool:
    """Whether a paragraph is long enough, and mostly letters and spaces."""
    if len(paragraph) < MIN_CHARACTERS:
        return False
    if paragraph.isascii():  # the same count, fifty times faster
        letters = len(paragraph.encode().translate(None, _NO_LETTERS))
    else:
        letters = sum(character.isalpha() or character == " " for character in paragraph)
    return letters >= MIN_LETTERS * len(paragraph)
