"""Files that are on a machine with isoflop, by the kind of text they hold."""

import hashlib
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from llama_core.corpus.environment import PACKAGES

# Distributions of the default corpus, and pyarrow for its headers; with all that they need.
_DISTRIBUTIONS = (*(distribution for _, distribution in PACKAGES), "pyarrow")
# Their Python is generated from one schema, or from a grammar, by the megabyte.
_TEMPLATED = {"plotly", "databricks-sdk"}
_TESTS = re.compile(r"(^|/)(tests?|testing|idle_test|lib2to3|site-packages)(/|$)|/test_")
_LICENCE = re.compile(r"(^|/)(licen[cs]e|copying|notice|copyright)[^/]*$", re.IGNORECASE)
_CODE = (".py", ".pyc", ".pyi", ".h")
_ENDINGS = {
    "headers": (".h", ".hpp", ".cuh", ".inl"),
    "readmes": (".md", ".rst", "dist-info/METADATA"),
    "data": (".json", ".yaml", ".yml", ".toml", ".xml", ".csv", ".tsv", ".afm"),
}
# Bytes of text in a byte of a packed manual page, about.
_PACKED = 3


@dataclass(frozen=True, slots=True)
class InstalledFile:
    """A file of a package or of the system.

    Attributes:
        name: the same wherever the package is installed.
        size: bytes of its text, about where it is packed.
    """

    name: str
    path: Path
    size: int


@dataclass(frozen=True)
class Roots:
    """Where to look beside the packages: Python's own files, and the system's shared ones."""

    stdlib: Path
    include: Path
    shared: tuple[Path, ...]


def roots() -> Roots:
    """The folders of this machine."""
    paths = sysconfig.get_paths()
    shared = dict.fromkeys((Path("/usr/share"), Path(sys.base_prefix) / "share"))
    return Roots(Path(paths["stdlib"]), Path(paths["include"]), tuple(shared))


def installed_files(kind: str) -> list[InstalledFile]:
    """Files that hold a kind of text, sorted by name; whether they can be read is not known."""
    files = {file.path: file for file in _candidates(kind, roots())}
    return sorted(files.values(), key=lambda file: file.name)


def installed_fingerprint(files: list[InstalledFile]) -> str:
    """Digest of the names and sizes of some files."""
    lines = (f"{file.name} {file.size}" for file in files)
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _candidates(kind: str, places: Roots) -> Iterator[InstalledFile]:
    match kind:
        case "python":
            own = (f for f in _packaged() if f.name.split("/")[0] in _python_packages())
            files = (*own, *_under(places.stdlib, "python"))
            yield from (f for f in files if f.name.endswith(".py") and not _TESTS.search(f.name))
        case "headers" | "readmes" | "data":
            files = (*_packaged(), *(_under(places.include, "python") if kind == "headers" else ()))
            for file in files:
                is_other = _TESTS.search(file.name) or _LICENCE.search(file.name)
                if file.name.endswith(_ENDINGS[kind]) and not is_other:
                    yield file
        case "licences":
            named = (file for file in _packaged() if _LICENCE.search(file.name))
            yield from (file for file in named if not file.name.endswith(_CODE))
            for shared in places.shared:
                yield from _under(shared / "common-licenses", "common-licenses")
                for folder in sorted((shared / "doc").glob("*")):
                    if not folder.is_symlink():
                        yield from _named_files(folder, ("copyright",), f"doc/{folder.name}")
        case "manuals":
            for shared in places.shared:
                for section in "12345678":
                    yield from _under(shared / "man" / f"man{section}", f"man{section}")
        case _:
            raise ValueError(f"{kind!r} is no kind of installed text")


def _python_packages() -> set[str]:
    return {canonicalize_name(name) for name in _DISTRIBUTIONS}


@cache
def _packaged() -> tuple[InstalledFile, ...]:
    """Files of the distributions, as their installation recorded them."""
    return tuple(
        InstalledFile(f"{name}/{file}", Path(str(found.locate_file(file))), file.size or 0)
        for name, found in _needed().items()
        if name not in _TEMPLATED
        for file in found.files or ()
    )


def _needed() -> dict[str, Distribution]:
    """Distributions and all that they require here, by name; those not installed are skipped."""
    needed: dict[str, Distribution] = {}
    names = list(_DISTRIBUTIONS)
    while names:
        name = canonicalize_name(names.pop())
        if name in needed:
            continue
        try:
            needed[name] = distribution(name)
        except PackageNotFoundError:
            continue
        for requirement in map(Requirement, needed[name].requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                names.append(requirement.name)
    return dict(sorted(needed.items()))


def _under(root: Path, name: str) -> Iterator[InstalledFile]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(each for each in folders if each != "site-packages")
        within = Path(folder).relative_to(root)
        yield from _named_files(Path(folder), files, (Path(name) / within).as_posix())


def _named_files(
    folder: Path, names: list[str] | tuple[str, ...], of: str
) -> Iterator[InstalledFile]:
    """Files of a folder that exist and are no links: those are other names of the same text."""
    for name in names:
        path = folder / name
        if path.is_file() and not path.is_symlink():
            packed = _PACKED if path.suffix == ".gz" else 1
            yield InstalledFile(f"{of}/{name}", path, path.stat().st_size * packed)
