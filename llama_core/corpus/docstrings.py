"""English prose from Python source: the paragraphs of docstrings. Also a worker process.

The default corpus reads some 8,000 files; parsing them takes one core twenty seconds. So
`extract` runs this module in one process per core; it imports neither torch nor numpy.
"""

import ast
import gc
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llama_core.cores import usable_cores
from llama_core.corpus.programs import program

# Shorter paragraphs are mostly headings; those with a smaller share of letters are mostly code,
# tables and signatures.
MIN_CHARACTERS = 60
MIN_LETTERS = 0.86
_CHUNK = 256
# Where a statement has others, in their order. Half the time went into looking for definitions
# among expressions, where there are none.
_BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")
_NO_LETTERS = bytes(c for c in range(128) if not (chr(c).isalpha() or chr(c) == " "))


def extract(files: Sequence[Path], on_done: Callable[[float], None]) -> list[list[str]]:
    """Prose paragraphs of every file, in the order given; one process per core.

    Args:
        on_done: called with the share of files finished, from several threads.
    """
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    finished: list[int] = []
    failed = threading.Event()

    def work(chunk: Sequence[Path]) -> list[list[str]]:
        # Ctrl-C ends the processes before this one has cancelled what waits.
        if failed.is_set():
            return []
        try:
            paragraphs = _in_process(chunk)
        except subprocess.CalledProcessError:
            failed.set()
            raise
        finished.append(len(chunk))
        on_done(sum(finished) / len(files))
        return paragraphs

    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        return [paragraphs for chunk in pool.map(work, chunks) for paragraphs in chunk]


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


def _in_process(files: Sequence[Path]) -> list[list[str]]:
    # Not multiprocessing: `spawn` would run the caller's main script again, and `fork` is
    # unsafe once torch has started threads.
    command, environment = program("llama_core.corpus.docstrings")
    completed = subprocess.run(
        command,
        input=json.dumps([str(path) for path in files]),
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    paragraphs: list[list[str]] = json.loads(completed.stdout)
    return paragraphs


if __name__ == "__main__":
    # A syntax tree has no cycles, and looking for some takes a fifth of the time.
    gc.disable()
    json.dump([list(prose(Path(file).read_bytes())) for file in json.load(sys.stdin)], sys.stdout)
