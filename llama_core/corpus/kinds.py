"""Text of one kind that is on every machine with isoflop: code, data, manuals and licences."""

import ast
import gzip
import re
from collections.abc import Callable, Iterator
from hashlib import blake2b

from llama_core.corpus.config import CorpusConfig, EnvironmentText, InstalledKind
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.folding import ascii_letters
from llama_core.corpus.installed import InstalledFile, installed_files, installed_fingerprint
from llama_core.corpus.left_out import LeftOut
from llama_core.corpus.manual_pages import manual_text
from llama_core.corpus.reading import sections

# More of a kind is not read: about as much as the docstrings have.
MOST_BYTES = 24_000_000
# Less is no source: some 400,000 tokens, of which a twentieth is for validation.
LEAST_BYTES = 1_000_000
# Of the digest of a request: other rules give other text.
_RULES = "2"
# A few large files are half of some kinds: cut, they have a part in validation as in training.
_SECTION_CHARACTERS = 8_192
HOLDS: dict[InstalledKind, str] = {
    "python": "Python code of Python's library and of the packages isoflop needs",
    "headers": "C and C++ headers of torch, Arrow, NumPy and Python",
    "manuals": "manual pages of the system",
    "readmes": "descriptions and guides of the packages",
    "licences": "licences and copyright notices of packages and system",
    "data": "JSON, YAML, TOML, XML and tables of the packages",
}
_GENERATED = re.compile(
    r"@generated|generated (by|from|with|using|code)|auto-?generated|automatically generated"
    r"|do not (edit|modify)"
)
_HEAD_CHARACTERS = 2_000
# Of code that people wrote lines are shorter and a larger share are letters
# (Chen et al. 2021, arXiv:2107.03374, section 3.1: 100 and 1,000 characters).
_MEAN_LINE, _LONGEST_LINE, _LEAST_LETTERS = 100, 1_000, 0.25


def kind_documents(
    source: EnvironmentText, counts: LeftOut, on_done: Callable[[float], None]
) -> Iterator[str]:
    """Documents of a kind, sorted by name; generated, packed and undecodable files are counted.

    Of more than `MOST_BYTES` a sample of the files is read that their names decide.

    Args:
        on_done: called with the share of files read.

    Raises:
        CorpusError: this machine has too little of the kind.
    """
    kind = source.installed
    assert kind is not None
    files = installed_files(kind)
    texts: list[tuple[str, str]] = []
    size = 0
    for number, file in enumerate(sorted(files, key=_draw)):
        if size >= MOST_BYTES:
            counts.files_over = len(files) - number
            break
        text = _text(kind, file)
        if text is None:
            counts.files_unfit += 1
        elif text.strip():
            texts.append((file.name, text))
            size += len(text.encode())
        on_done((number + 1) / len(files))
    counts.files_installed = len(files)
    if size < LEAST_BYTES:
        raise CorpusError(_too_little({source.name: (kind, size)}))
    for _, text in sorted(texts):
        yield from sections([text], counts, least=_SECTION_CHARACTERS)


def kind_fingerprint(kind: InstalledKind) -> str:
    """Digest of the files of a kind and of the rules by which they are read."""
    return f"{kind} {_RULES} {installed_fingerprint(installed_files(kind))}"


def require_kinds(config: CorpusConfig) -> None:
    """Refuse a corpus of kinds of which this machine has too little, all of them named.

    Raises:
        CorpusError: a kind is missing; it says how much was found and how much is needed.
    """
    lacking: dict[str, tuple[InstalledKind, int]] = {}
    for source in config.sources:
        if isinstance(source, EnvironmentText) and source.installed is not None:
            size = sum(file.size for file in installed_files(source.installed))
            if size < LEAST_BYTES:
                lacking[source.name] = (source.installed, size)
    if lacking:
        raise CorpusError(_too_little(lacking))


def _too_little(lacking: dict[str, tuple[InstalledKind, int]]) -> str:
    parts = (
        f"{HOLDS[kind]} (source {name!r}): {size / 1e6:.2g} MB"
        for name, (kind, size) in lacking.items()
    )
    return (
        f"this machine has too little text for a source, which needs {LEAST_BYTES / 1e6:.2g} MB. "
        f"It has of {'; of '.join(parts)}. Leave it out, or give text of your own with "
        "kind: files."
    )


def _draw(file: InstalledFile) -> bytes:
    return blake2b(file.name.encode(errors="surrogateescape"), digest_size=8).digest()


def _text(kind: InstalledKind, file: InstalledFile) -> str | None:
    """What a file has of a kind; None if it cannot be read, or nobody wrote it line by line."""
    try:
        content = file.path.read_bytes()
        if file.path.suffix == ".gz":
            content = gzip.decompress(content)
        text = content.decode()
    except (OSError, EOFError, UnicodeDecodeError):
        return None
    if not _is_written_by_people(text):
        return None
    match kind:
        case "python":
            return _without_docstrings(text)
        case "manuals":
            return manual_text(text)
        case "readmes" if file.name.endswith("METADATA"):
            return text.partition("\n\n")[2]
        case _:
            return text


def _is_written_by_people(text: str) -> bool:
    lines = text.split("\n")
    return (
        "\0" not in text
        and len(text) <= _MEAN_LINE * len(lines)
        and max(map(len, lines)) <= _LONGEST_LINE
        and ascii_letters(text) >= _LEAST_LETTERS * len(text)
        and not _GENERATED.search(text[:_HEAD_CHARACTERS].lower())
    )


def _without_docstrings(source: str) -> str | None:
    """Python code without the text of which the docstrings are a source of their own."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return None
    lines = source.split("\n")
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
                and not lines[first.lineno - 1][: first.col_offset].strip()
            ):
                for number in range(first.lineno - 1, first.end_lineno or first.lineno):
                    lines[number] = ""
    return "\n".join(lines)
