"""Put one-line faults into a room and ask its tests: make mutants ROOM=analysis/fit.

Each fault is one that a tired engineer makes: an edge of a comparison, a sign, a factor or an
`abs` dropped, `min` for `max`, a call that is not made. Faults are drawn at random from all the
room's lines, put into a copy of the tree one at a time, and the fast tests that mirror the room
(tests/unit and tests/property at the same path, and files that import the module) must fail.
"""

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Pow: ast.Mult,
}  # fmt: skip
_SWAPPED = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil"}
_DROPPED = {"abs", "sqrt", "log", "exp", "sorted", "round", "reversed"}
_TIMEOUT_S = 240


@dataclass(frozen=True)
class Mutant:
    """One fault: the new text of a line range of a file."""

    path: Path
    line: int
    end: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text.strip().splitlines()[0][:100]}"


def mutants(path: Path) -> Iterator[Mutant]:
    """Every fault of a file; annotations and docstrings are left alone."""
    source = (ROOT / path).read_text()
    for statement in ast.walk(ast.parse(source)):
        if not isinstance(statement, ast.stmt) or isinstance(
            statement, ast.Import | ast.ImportFrom
        ):
            continue
        parts = _own_expressions(statement)
        for field, expression in parts:
            for faulty in _faults(expression):
                changed = copy.deepcopy(statement)
                setattr(changed, field, faulty)
                yield _as_mutant(path, source, statement, changed)
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            yield _as_mutant(path, source, statement, ast.Pass())


def _own_expressions(statement: ast.stmt) -> list[tuple[str, ast.expr]]:
    fields = ("value", "test", "iter")
    return [
        (field, getattr(statement, field))
        for field in fields
        if isinstance(getattr(statement, field, None), ast.expr)
    ]


def _faults(expression: ast.expr) -> Iterator[ast.expr]:
    """The expression with one fault in it, for every fault it can have."""
    for place, node in enumerate(ast.walk(expression)):
        for replacement in _replacements(node):
            changed = copy.deepcopy(expression)
            target = list(ast.walk(changed))[place]
            if target is changed:
                yield replacement
            else:
                yield _Put(target, replacement).visit(changed)


class _Put(ast.NodeTransformer):
    def __init__(self, target: ast.AST, replacement: ast.expr) -> None:
        self._target, self._replacement = target, replacement

    def visit(self, node: ast.AST) -> ast.AST:
        return self._replacement if node is self._target else self.generic_visit(node)


def _replacements(node: ast.AST) -> Iterator[ast.expr]:
    match node:
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            if other := _COMPARISONS.get(type(operator)):
                yield ast.Compare(left, [other()], [right])
        case ast.BinOp(left=left, op=operator, right=right):
            if other_operator := _OPERATORS.get(type(operator)):
                yield ast.BinOp(left, other_operator(), right)
            if isinstance(operator, ast.Mult | ast.Div):
                yield left
        case ast.BoolOp(op=operator, values=values):
            yield ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[first, *_]):
            if name in _DROPPED:
                yield first
            if name in _SWAPPED:
                changed = copy.deepcopy(node)
                if isinstance(changed.func, ast.Name):
                    changed.func.id = _SWAPPED[name]
                elif isinstance(changed.func, ast.Attribute):
                    changed.func.attr = _SWAPPED[name]
                yield changed
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield ast.Constant(value * 2 if isinstance(value, float) and value else value + 1)


def _as_mutant(path: Path, source: str, old: ast.stmt, new: ast.stmt) -> Mutant:
    """Compound statements keep their body's text: only the header's lines are replaced."""
    text = ast.unparse(ast.fix_missing_locations(new))
    end = old.end_lineno or old.lineno
    body = getattr(old, "body", None)
    if body:
        end = body[0].lineno - 1 - len(getattr(body[0], "decorator_list", []))
        text = text.splitlines()[0]
    return Mutant(path, old.lineno, max(end, old.lineno), " " * old.col_offset + text + "\n")


def tests_of(path: Path) -> list[str]:
    """Fast tests of a module, its own first: then those that import it, then those of its room."""
    module = ".".join(path.with_suffix("").parts)
    imported = (module, f"from {module.rpartition('.')[0]} import {path.stem}")
    everything = [*ROOT.glob("tests/unit/**/*.py"), *ROOT.glob("tests/property/**/*.py")]
    own = ROOT.glob(f"tests/unit/{path.parent}/test_{path.stem}*.py")
    users = [test for test in everything if any(name in test.read_text() for name in imported)]
    room = ROOT.glob(f"tests/unit/{path.parent}/test_*.py")
    tests = [*sorted(own), *sorted(users), *sorted(room)]
    return list(dict.fromkeys(str(test.relative_to(ROOT)) for test in tests))


def noticed(mutant: Mutant, tree: Path) -> bool:
    """Whether a fast test fails with the fault in the tree, which is restored afterwards."""
    target = tree / mutant.path
    original = target.read_text()
    lines = original.splitlines(keepends=True)
    body = [line if line.endswith("\n") else line + "\n" for line in mutant.text.splitlines(True)]
    indent = " " * (len(mutant.text) - len(mutant.text.lstrip(" ")))
    body = [body[0], *(indent + line for line in body[1:])]
    target.write_text("".join([*lines[: mutant.line - 1], *body, *lines[mutant.end :]]))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow and not gpu"]
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider", *tests_of(mutant.path)],
            cwd=tree, env=environment, capture_output=True, timeout=_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return True
    finally:
        target.write_text(original)
    return done.returncode != 0


def main() -> int:
    """Print every fault and whether it was noticed; status 1 when fewer than 9 in 10 were."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("room", type=Path, help="a folder or a file, such as analysis/fit")
    parser.add_argument("--count", type=int, default=20, help="how many faults to try")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=2, help="how many to try at the same time")
    options = parser.parse_args()
    files = [options.room] if options.room.suffix else sorted(options.room.rglob("*.py"))
    possible = [mutant for file in files for mutant in mutants(file)]
    if not possible:
        parser.error(f"{options.room} holds no line that a fault could be put into.")
    drawn = random.Random(options.seed).sample(possible, min(options.count, len(possible)))
    print(f"{len(drawn)} of the {len(possible)} faults of {options.room}", flush=True)

    trees: SimpleQueue[Path] = SimpleQueue()
    seen = 0
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(options.at_once):
            trees.put(_copy(Path(scratch) / str(number)))

        def attempt(mutant: Mutant) -> tuple[Mutant, bool]:
            tree = trees.get()
            try:
                return mutant, noticed(mutant, tree)
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(options.at_once) as pool:
            for mutant, was_noticed in pool.map(attempt, drawn):
                seen += was_noticed
                print(f"{'noticed' if was_noticed else 'NOT NOTICED':<12} {mutant}", flush=True)
    print(f"{seen} of {len(drawn)} faults were noticed ({seen / len(drawn):.0%})")
    return 0 if seen >= 0.9 * len(drawn) else 1


def _copy(tree: Path) -> Path:
    """A copy of the files that git tracks, so that no fault ever lies in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    return tree


if __name__ == "__main__":
    sys.exit(main())
