"""One self-contained HTML page: prose, tables and Plotly figures that open without a network."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

import plotly.graph_objects as go
import polars as pl
from plotly.offline import get_plotlyjs

from analysis.panels import panels

_CSS = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--line:#dfe4ea;--mark:#0b6e99;
 --warn:#9a5b00;--warnback:#fff8ec;--back:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e6e6e6;--soft:#a8b0ba;--line:#3a3f46;--mark:#6cb8e0;
 --warn:#e0a34a;--warnback:#2b2418;--back:#191919}
 .figure{filter:invert(.9) hue-rotate(180deg)}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1080px;padding:1.5rem 1rem 4rem;color:var(--ink);
 background:var(--back);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.8rem;line-height:1.2;margin:.2rem 0 .4rem}
h2{font-size:1.25rem;margin:2.4rem 0 .4rem;border-top:1px solid var(--line);padding-top:1.4rem}
h3{font-size:1rem;line-height:1.35;margin:1.2rem 0 .1rem;max-width:74ch}
p{max-width:74ch}.lead{font-size:1.1rem}.soft{color:var(--soft);font-size:.9rem}
ul{max-width:74ch;padding-left:1.2rem}li{margin:.3rem 0}
.keys{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:.8rem}
.key{border:1px solid var(--line);border-radius:8px;padding:.7rem .9rem}
.key b{display:block;font-size:1.55rem;line-height:1.2;color:var(--mark);font-weight:650}
.key span{color:var(--soft);font-size:.9rem}
.warn{border-left:4px solid var(--warn);padding:.2rem .8rem;margin:.8rem 0;
 background:var(--warnback)}
.warn+.warn{margin-top:-.8rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;margin:.6rem 0}
th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:600;white-space:normal;vertical-align:bottom}
th.words,td.words,th:first-child,td:first-child{text-align:left}
td.long{text-align:left;white-space:normal;min-width:24ch}
.figure{width:100%}
.panels{display:flex;flex-wrap:wrap}.panels>div{min-width:0}
details{border-top:1px solid var(--line);margin:1rem 0}
summary{cursor:pointer;color:var(--mark);font-weight:600;padding:.7rem 0}
@media(max-width:600px){table{font-size:.85rem}th,td{padding:.3rem .25rem}
 td.words{white-space:normal;min-width:9ch}td.long{min-width:18ch}
 .sideways::before{content:"Scroll sideways: there is more.";color:var(--soft);font-size:.9rem}
 th:first-child,td:first-child{position:sticky;left:0;background:var(--back);
 max-width:40vw;white-space:normal;overflow-wrap:break-word}}
"""

# Draws a figure; one that is folded when it is first seen, since it has no width before.
_DRAW = """
function draw(name,figure){
 const box=document.getElementById(name),fold=box.closest("details:not([open])");
 const now=()=>Plotly.newPlot(box,figure.data,figure.layout,{responsive:true,displayModeBar:false});
 if(fold)fold.addEventListener("toggle",now,{once:true});else now();
}
"""
# A cell of more characters wraps.
_LONG = 40
# Pixels that a phone has for a figure.
_PHONE = 350


@dataclass(frozen=True, slots=True)
class Heading:
    """A section's title."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph. A named one is hidden until a script shows it."""

    text: str
    role: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Points:
    """A list of short statements."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyFigures:
    """Large numbers, each with its meaning."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of ready-formatted cells."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def classes(self) -> list[str]:
        """How each column is set: `words` on the left, `long` ones wrap."""
        return [
            _column_class([row[column] for row in self.rows]) for column in range(len(self.header))
        ]


@dataclass(frozen=True)
class Drawn:
    """A figure; `data` is what it was drawn from, for those who want the numbers."""

    figure: go.Figure
    name: str
    height: int
    least_width: int
    panels: bool
    data: pl.DataFrame | None

    @property
    def title(self) -> str:
        """What stands above it as text, since Plotly cuts titles wider than the screen."""
        return self.figure.layout.title.text or ""

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The figure without its title, as the data and layout that plotly.js takes."""
        spec: dict[str, Any] = json.loads(self.figure.to_json())
        spec["layout"].pop("title", None)
        if self.title:
            margin = spec["layout"].setdefault("margin", {})
            margin["t"] = max(16, margin.get("t", 60) - 44)
        spec["layout"]["autosize"] = True
        return spec

    @property
    def kind(self) -> str:
        """The CSS class of what holds its boxes."""
        if self.panels:
            return "panels"
        return "scroll sideways" if self.least_width > _PHONE else "scroll"

    def boxes(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Name, CSS flex and `spec` of each box that it fills: one, or one a panel.

        Panels that would be narrower than 300 pixels stand one below the other.
        """
        if not self.panels:
            return [(self.name, "auto", self.spec)]
        return [
            # Factors that sum to less than one would leave a part of the width empty.
            (f"{self.name}-{place}" if place > 1 else self.name, f"{100 * share:.0f} 1 300px", spec)
            for place, (spec, share) in enumerate(panels(self.spec), 1)
        ]


@dataclass(frozen=True, slots=True)
class Folded:
    """Parts under a line that opens them."""

    title: str
    parts: "tuple[Part, ...]"


Part = Heading | Text | Points | KeyFigures | Grid | Drawn | Folded


class Page:
    """Collects parts in reading order; all text is escaped, also what came out of a run."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.parts: list[Part] = []

    def heading(self, text: str) -> None:
        """A section's title."""
        self.parts.append(Heading(text))

    def text(self, text: str, *, role: str = "") -> None:
        """A paragraph. Roles: `lead` for the answer, `soft` for small print, `warn` for doubt."""
        self.parts.append(Text(text, role))

    def hidden(self, name: str, text: str) -> None:
        """A warning with an id that a script may show."""
        self.parts.append(Text(text, "warn", name))

    def points(self, items: Sequence[str]) -> None:
        """A list of short statements."""
        self.parts.append(Points(tuple(items)))

    def key_figures(self, items: Sequence[tuple[str, str]]) -> None:
        """A row of large numbers, each with its meaning."""
        self.parts.append(KeyFigures(tuple(items)))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table of ready-formatted cells; units belong into the header.

        Raises:
            ValueError: a row is not as long as the header.
        """
        for row in rows:
            if len(row) != len(header):
                raise ValueError(f"row of {len(row)} cells under a header of {len(header)}: {row}")
        self.parts.append(Grid(tuple(header), tuple(map(tuple, rows))))

    def figure(
        self,
        figure: go.Figure,
        *,
        name: str,
        height: int = 480,
        least_width: int = 0,
        panels: bool = False,
        data: pl.DataFrame | None = None,
    ) -> None:
        """A Plotly figure, its title above it as text.

        Args:
            name: becomes the element's id, so a test can find it.
            least_width: pixels; on a narrower screen it scrolls in its box.
            panels: its panels stand side by side, on a narrow screen one below the other.
        """
        self.parts.append(Drawn(figure, name, height, least_width, panels, data))

    def folded(self, inner: "Page") -> None:
        """The parts of another page under its title, which opens them."""
        self.parts.append(Folded(inner.title, tuple(inner.parts)))

    @property
    def figures(self) -> dict[str, Drawn]:
        """Its figures by name, also those that are folded."""
        return {part.name: part for part in _drawn(self.parts)}

    @property
    def answer(self) -> list[Part]:
        """What stands before the section of the first figure."""
        drawn = [k for k, part in enumerate(self.parts) if isinstance(part, Drawn | Folded)]
        end = drawn[0] if drawn else len(self.parts)
        headings = [k for k, part in enumerate(self.parts[:end]) if isinstance(part, Heading)]
        return self.parts[: headings[-1] if drawn and headings else end]

    def html(self, *, plotly: str | None = None, script: str = "") -> str:
        """The whole page.

        Args:
            plotly: address of plotly.js beside the page; None puts it inside.
            script: JavaScript of the caller's, run before the figures are drawn.
        """
        drawings = [_DRAW, *(map(_drawing, _drawn(self.parts)))]
        source = f"<script>{get_plotlyjs()}</script>"
        if plotly is not None:
            source = f'<script src="{escape(plotly)}"></script>'
        figures = f"{source}<script>{''.join(drawings)}</script>" if self.figures else ""
        own = f"<script>{script}</script>" if script else ""
        body = [f"<h1>{escape(self.title)}</h1>", *map(markup, self.parts)]
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            '<link rel="icon" href="data:,">'
            f"<title>{escape(self.title)}</title><style>{_CSS}</style></head><body>"
            + "\n".join(body)
            + f"{own}{figures}</body></html>"
        )


def markup(part: Part) -> str:
    """A part as HTML, its text escaped."""
    match part:
        case Heading(text):
            return f"<h2>{escape(text)}</h2>"
        case Text(text, role, ""):
            return f'<p class="{escape(role)}">{escape(text)}</p>'
        case Text(text, role, name):
            return f'<p class="{escape(role)}" id="{escape(name)}" hidden>{escape(text)}</p>'
        case Points(items):
            return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"
        case KeyFigures(items):
            cells = "".join(
                f'<div class="key"><b>{escape(value)}</b><span>{escape(words)}</span></div>'
                for value, words in items
            )
            return f'<div class="keys">{cells}</div>'
        case Grid():
            return _table(part)
        case Drawn():
            return _figure(part)
        case Folded(title, parts):
            inner = "\n".join(map(markup, parts))
            return f"<details><summary>{escape(title)}</summary>{inner}</details>"


def _drawn(parts: Iterable[Part]) -> Iterator[Drawn]:
    """The figures among parts, also those that are folded."""
    for part in parts:
        match part:
            case Drawn():
                yield part
            case Folded():
                yield from _drawn(part.parts)


def _figure(part: Drawn) -> str:
    style = f"height:{part.height:d}px"
    if part.least_width:
        style += f";min-width:{part.least_width:d}px"
    boxes = "".join(
        f'<div class="figure" id="{escape(name)}" style="{style};flex:{flex}"></div>'
        for name, flex, _ in part.boxes()
    )
    above = f"<h3>{escape(part.title)}</h3>\n" if part.title else ""
    return f'{above}<div class="{part.kind}">{boxes}</div>'


def _table(grid: Grid) -> str:
    classes = [f' class="{names}"' if names else "" for names in grid.classes]

    def line(tag: str, cells: Sequence[str]) -> str:
        marked = zip(classes, cells, strict=True)
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in marked)

    head = line("th", grid.header)
    body = "".join(f"<tr>{line('td', row)}</tr>" for row in grid.rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _drawing(part: Drawn) -> str:
    """The script that draws a figure in its boxes."""
    drawn = []
    for name, _, spec in part.boxes():
        # "</script>" inside data would end the script early, "<!--<script>" hide its end.
        data = json.dumps(spec).replace("<", "\\u003c")
        drawn.append(f"draw({json.dumps(name)},{data});")
    return "".join(drawn)


def _column_class(cells: Sequence[str]) -> str:
    """The class of a column's cells: words are set left, and sentences wrap."""
    words = not any(map(_is_number, cells))
    long = any(len(cell) > _LONG for cell in cells)
    return " ".join(name for name, holds in (("words", words), ("long", long)) if holds)


def _is_number(cell: str) -> bool:
    return cell.lstrip("+-−$≤≥<>~ ")[:1].isdigit()
