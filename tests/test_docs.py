"""What README and docs name exists: files, folders, modules, links, and every room."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "benchmarks"),
]
TOP = ("analysis", "bench", "docs", "flows", "isoflop", "llama_core", "sweeps", "tests")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
_PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(TOP)})/[\w./-]*[\w/]")
_QUALIFIED = re.compile(r"(?<![\w./-])((?:flows|llama_core)(?:\.[a-z_]+)+(?:\.[A-Z]\w*)?)")
_PLACEHOLDER = re.compile(r"/(NAME|RUN|STUDY|SWEEP)\b")  # a path in a home, not in the repository
_MODULE = re.compile(r"`((?:analysis|flows|llama_core|sweeps)(?:\.[a-z_]\w*)+)(?:\.[A-Z]\w*)*`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_and_module_that_a_page_names_exists(page):
    text = page.read_text()
    missing = [link for link in _LINK.findall(text) if not (page.parent / link).exists()]
    paths = [path for path in _PATH.findall(text) if not _PLACEHOLDER.search(path)]
    missing += [path for path in paths if not (ROOT / path).exists()]
    missing += [name for name in _MODULE.findall(text) if not _is_ours(name)]
    assert not missing


@pytest.mark.parametrize("package", ["analysis", "flows", "isoflop", "llama_core", "sweeps"])
def test_every_module_that_a_docstring_or_comment_names_exists(package):
    missing = [
        (path.name, name)
        for path in (ROOT / package).rglob("*.py")
        for name in _QUALIFIED.findall(path.read_text())
        if not _is_ours(name)
    ]
    assert not missing


def _is_ours(name: str) -> bool:
    """Whether a dotted name is a module or package of ours, or a name in a module."""
    path = ROOT.joinpath(*name.split("."))
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module, last = path.parent.with_suffix(".py"), path.name
    return module.is_file() and re.search(rf"\b{last}\b", module.read_text()) is not None


def test_the_architecture_page_names_every_room():
    text = (ROOT / "docs" / "architecture.md").read_text()
    rooms = {
        path.parent.relative_to(ROOT).as_posix()
        for package in ("analysis", "flows", "isoflop", "llama_core", "sweeps")
        for path in (ROOT / package).rglob("*.py")
    }
    assert not [room for room in sorted(rooms) if f"{room}/" not in text]


def test_readme_and_the_architecture_page_show_the_same_paths():
    assert _readme_paths() == _architecture_paths()
    assert all(len(files) <= 6 for files in _readme_paths().values())


def test_each_file_of_a_path_names_the_next():
    for files in _readme_paths().values():
        for file, following in pairwise(files):
            module = following.removesuffix(".py").replace("/", ".")
            assert module in (ROOT / file).read_text(), f"{file} does not lead to {following}"


def _readme_paths() -> dict[str, list[str]]:
    text = (ROOT / "README.md").read_text()
    return {
        title: _LINK.findall(files)
        for title, files in re.findall(r"- \*\*(From .*):\*\*(.*)", text)
    }


def _architecture_paths() -> dict[str, list[str]]:
    text = (ROOT / "docs" / "architecture.md").read_text()
    sections = re.findall(r"^### (From [^\n]*)$(.*?)(?=^##)", text, re.M | re.S)
    return {title: re.findall(r"^\| \d \| \[([^]]+)\]", table, re.M) for title, table in sections}


def test_a_unit_test_lies_at_the_path_of_a_room():
    tests = (ROOT / "tests" / "unit").rglob("test_*.py")
    strangers = [test for test in tests if not (ROOT / _room(test)).is_dir()]
    assert not strangers


def _room(test: Path) -> Path:
    return test.parent.relative_to(ROOT / "tests" / "unit")
