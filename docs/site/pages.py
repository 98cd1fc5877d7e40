"""Pages of the repository as pages of the site: links that lead inside it, formulas as formulas."""

import html
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# Beside docs/: pages that belong to the site under these names.
_BESIDE = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
# The references, which only the site has; in the repository a link leads to what writes them.
_WRITTEN = {
    "docs/site/settings.py": "reference/spec.md",
    "docs/site/commands.py": "reference/commands/index.md",
    "docs/site/python.py": "reference/python.md",
}
_FOLDERS = {"decisions": "Decisions", "benchmarks": "Benchmarks"}
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".csv": "text", ".json": "json"}

_LINK = re.compile(r"(!?\[[^]]*\])\(([^)\s]+)\)")
_CODE = re.compile(r"(^```.*?^```$|``.+?``|`[^`\n]+`)", re.M | re.S)
_HEADING_OR_CODE = re.compile(r"^#.*$|(?<!`)`([^`]+)`(?!`)", re.M)
# A longer word is broken all the same: a phone shows some 45 letters of code.
_LONGEST_WORD = 40
_FORMULA = re.compile(r"(?<=\n\n)((?: {4}\S[^\n]*\n)+)(?=\n|\Z)")
_POWER = re.compile(r"\^(\((?:[^()]|\([^()]*\))*\)|-?[\w.*'′]+)")
# N* and D*: no emphasis begins or ends there.
_STAR = re.compile(r"\b([ND])\*(?!\*)")
_INDEX = re.compile(r"(?<=[A-Za-zεα-ωρ])_([A-Za-z0-9]+)")


@dataclass
class Pages:
    """The folder that the site is rendered from."""

    folder: Path
    count: int = 0

    def add(self, name: str, text: str) -> None:
        """Write one page."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.count += 1

    def add_docs(self) -> None:
        """Write what docs/ holds, the pages beside it, and the files of code they lead to."""
        sources = [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in _BESIDE)]
        linked: set[Path] = set()
        for source in sources:
            text, targets = rendered(source)
            self.add(site_name(source), text)
            linked |= targets
        for folder, title in _FOLDERS.items():
            self.add(f"{folder}/index.md", _listing(DOCS / folder, title))
        shutil.copytree(DOCS / "images", self.folder / "images")
        for target in sorted(linked):
            self.add(site_name(target), _listed(target) if target.is_dir() else _shown(target))


def rendered(source: Path) -> tuple[str, set[Path]]:
    """A page's text for the site, and the files outside docs/ that it leads to."""
    linked: set[Path] = set()

    def to_site(link: re.Match[str]) -> str:
        label, target = link.groups()
        address, anchor = (*target.split("#", 1), "")[:2]
        if ":" in target or not address:
            return link[0]
        path = Path(os.path.normpath(source.parent / address))
        if not path.is_relative_to(DOCS) and str(path.relative_to(ROOT)) not in _BESIDE:
            linked.add(path)
        there = PurePosixPath(os.path.relpath(site_name(path), Path(site_name(source)).parent))
        return f"{label}({there}{'#' * bool(anchor)}{anchor})"

    parts = _CODE.split(source.read_text())
    # Every other part is code.
    for place in range(0, len(parts), 2):
        parts[place] = _STAR.sub(r"\1\\*", _raised(_FORMULA.sub(_as_formula, parts[place])))
    text = _outside_fences(_HEADING_OR_CODE, _whole_words, "".join(parts))
    return _outside_fences(_LINK, to_site, text), linked


def site_name(path: Path) -> str:
    """Where a file or folder of the repository is in the site."""
    inside = path.relative_to(ROOT)
    if elsewhere := (_BESIDE | _WRITTEN).get(str(inside)):
        return elsewhere
    if path == ROOT / "README.md":
        return "index.md"
    if not path.is_relative_to(DOCS):
        return f"source/{inside}/index.md" if path.is_dir() else f"source/{inside}.md"
    inside = path.relative_to(DOCS)
    if path.is_dir():
        return f"{inside}/index.md"
    return str(inside.with_name("index.md") if path.name == "README.md" else inside)


def title_of(page: Path) -> str:
    """The first heading of a page."""
    heading = re.search(r"^# (.+)$", page.read_text(), re.M)
    assert heading is not None, f"{page} has no heading"
    return heading[1]


def _outside_fences(pattern: re.Pattern[str], replace: object, text: str) -> str:
    parts = re.split(r"(^```.*?^```$)", text, flags=re.M | re.S)
    for place in range(0, len(parts), 2):
        parts[place] = pattern.sub(replace, parts[place])  # type: ignore[call-overload]
    return "".join(parts)


def _whole_words(found: re.Match[str]) -> str:
    """Code that breaks between words, and not behind the hyphen of an option; headings as is."""
    if found[1] is None or "-" not in found[1]:
        return found[0]

    def whole(word: str) -> str:
        if "-" not in word or len(word) > _LONGEST_WORD:
            return _entities(word)
        return f'<span class="whole">{_entities(word)}</span>'

    words = found[1].replace(r"\|", "|").split()
    return f"<code>{' '.join(map(whole, words))}</code>"


def _entities(word: str) -> str:
    """Text that is no markup, of HTML or of Markdown."""
    return "".join(
        letter if letter.isalnum() or letter == "-" else f"&#{ord(letter)};" for letter in word
    )


def _raised(text: str) -> str:
    """Powers outside of code as superscripts, N^α as N with a small α above."""
    return _POWER.sub(lambda power: f"<sup>{_bare(power[1])}</sup>", text)


def _as_formula(block: re.Match[str]) -> str:
    """An indented block as a formula on lines of its own."""
    lines = [html.escape(line.strip(), quote=False) for line in block[1].splitlines()]
    raised = [_INDEX.sub(r"<sub>\1</sub>", _raised(line)) for line in lines]
    # A run of spaces sets formulas of one line apart.
    spaced = [re.sub(r" {3,}", '<span class="apart"></span>', line) for line in raised]
    return f'<div class="formula">{"<br>".join(spaced)}</div>\n'


def _bare(exponent: str) -> str:
    whole = exponent.startswith("(") and exponent.endswith(")")
    return exponent[1:-1] if whole else exponent


def _listing(folder: Path, title: str) -> str:
    rows = [f"- [{title_of(page)}]({page.name})" for page in sorted(folder.glob("*.md"))]
    return "\n".join([f"# {title}", "", *rows, ""])


def _listed(folder: Path) -> str:
    """A page for a folder of code: what it holds."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith(("_", ".")))
    return "\n".join(
        [_APART, f"# {folder.relative_to(ROOT)}/", "", *(f"- `{n}`" for n in names), ""]
    )


# Found by following a link; a search is for what the documentation says.
_APART = "---\nsearch:\n  exclude: true\nhide:\n  - toc\n---\n"


def _shown(file: Path) -> str:
    """A page that shows a file."""
    fence = "`" * 4
    language = _LANGUAGES.get(file.suffix, "text")
    return f"{_APART}# {file.relative_to(ROOT)}\n\n{fence}{language}\n{file.read_text()}{fence}\n"
