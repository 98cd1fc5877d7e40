"""The commands that README and docs show, and what each needs that a test lacks.

A block of commands has its needs in the line before it: `<!-- needs: minutes, GPU -->`. Commands of
a block without that line are run.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NEEDS = {
    "minutes",  # of training, or of setting up
    "network",
    "GPU",
    "Slurm",
    "stack",  # the servers of `isoflop up`
    "server",  # another machine or a database
    "study",  # that `isoflop tune` has trained
}

_BLOCK = re.compile(
    r"^(?:<!-- needs: (?P<needs>[^\n]+) -->\n)?^```(?:sh|bash)\n(?P<body>.*?)^```\n"
    r"(?:\n```text\n(?P<shown>.*?)^```\n)?",
    re.M | re.S,
)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """Commands of one page that are shown together.

    Attributes:
        shown: the excerpt of their output that follows them.
    """

    page: Path
    line: int
    needs: frozenset[str]
    commands: tuple[tuple[str, ...], ...]
    shown: str


def blocks(page: Path) -> list[Block]:
    """The blocks of commands of a page."""
    text = page.read_text()
    return [
        Block(
            page,
            text[: found.start()].count("\n") + 1,
            frozenset(found["needs"].split(", ") if found["needs"] else ()),
            tuple(_commands(found["body"])),
            found["shown"] or "",
        )
        for found in _BLOCK.finditer(text)
    ]


def _commands(body: str) -> list[tuple[str, ...]]:
    commands: list[tuple[str, ...]] = []
    for line in body.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in shlex.split(line, comments=True):
            if word == "&&":
                commands.append(tuple(words))
                words = []
            else:
                words.append(word)
        if words:
            commands.append(tuple(words))
    return commands


def inline(page: Path) -> list[list[str]]:
    """The words of every isoflop command, and every option, that the prose of a page names."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    named = [found[1].replace(r"\|", "|") for found in _INLINE.finditer(prose)]
    return [code.split() for code in named if code.startswith(("isoflop ", "--"))]
