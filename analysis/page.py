"""One self-contained HTML page: prose, tables and Plotly figures that open without a network."""

import json
from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
import polars as pl
from plotly.offline import get_plotlyjs

_CSS = """
:root{color-scheme:light;--ink:#1c2430;--soft:#5b6675;--line:#dfe4ea;--mark:#0b6e99;--warn:#9a5b00}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1080px;padding:1.5rem 1rem 4rem;color:var(--ink);background:#fff;
 font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.8rem;line-height:1.2;margin:.2rem 0 .4rem}
h2{font-size:1.25rem;margin:2.4rem 0 .4rem;border-top:1px solid var(--line);padding-top:1.4rem}
h3{font-size:1rem;line-height:1.35;margin:1.2rem 0 .1rem;max-width:74ch}
p{max-width:74ch}.lead{font-size:1.1rem}.soft{color:var(--soft);font-size:.9rem}
ul{max-width:74ch;padding-left:1.2rem}li{margin:.3rem 0}
.keys{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:.8rem}
.key{border:1px solid var(--line);border-radius:8px;padding:.7rem .9rem}
.key b{display:block;font-size:1.55rem;line-height:1.2;color:var(--mark);font-weight:650}
.key span{color:var(--soft);font-size:.9rem}
.warn{border-left:4px solid var(--warn);padding:.2rem .8rem;margin:.8rem 0;background:#fff8ec}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;margin:.6rem 0}
th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:600;white-space:normal;vertical-align:bottom}
th.words,td.words,th:first-child,td:first-child{text-align:left}
td.long{text-align:left;white-space:normal;min-width:24ch}
.figure{width:100%;min-height:440px}
"""

# A cell of more characters wraps.
_LONG = 40


class Page:
    """Collects parts in reading order; all text is escaped, also what came out of a run."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._parts: list[str] = [f"<h1>{escape(title)}</h1>"]
        self._figures: list[str] = []

    def heading(self, text: str) -> None:
        """A section's title."""
        self._parts.append(f"<h2>{escape(text)}</h2>")

    def text(self, text: str, *, role: str = "") -> None:
        """A paragraph. Roles: `lead` for the answer, `soft` for small print, `warn` for doubt."""
        self._parts.append(f'<p class="{escape(role)}">{escape(text)}</p>')

    def hidden(self, name: str, text: str) -> None:
        """A warning with an id that a script may show."""
        self._parts.append(f'<p class="warn" id="{escape(name)}" hidden>{escape(text)}</p>')

    def points(self, items: Sequence[str]) -> None:
        """A list of short statements."""
        rows = "".join(f"<li>{escape(item)}</li>" for item in items)
        self._parts.append(f"<ul>{rows}</ul>")

    def key_figures(self, items: Sequence[tuple[str, str]]) -> None:
        """A row of large numbers, each with its meaning."""
        cells = "".join(
            f'<div class="key"><b>{escape(value)}</b><span>{escape(words)}</span></div>'
            for value, words in items
        )
        self._parts.append(f'<div class="keys">{cells}</div>')

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table of ready-formatted cells; units belong into the header.

        Raises:
            ValueError: a row is not as long as the header.
        """
        for row in rows:
            if len(row) != len(header):
                raise ValueError(f"row of {len(row)} cells under a header of {len(header)}: {row}")
        classes = [_column_class([row[column] for row in rows]) for column in range(len(header))]

        def line(tag: str, cells: Sequence[str]) -> str:
            marked = zip(classes, cells, strict=True)
            return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in marked)

        head = line("th", header)
        body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
        self._parts.append(
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )

    def frame(self, frame: pl.DataFrame) -> None:
        """A small polars frame as a table; numbers with four significant digits."""
        self.table(frame.columns, [[_cell(value) for value in row] for row in frame.iter_rows()])

    def figure(
        self, figure: go.Figure, *, name: str, height: int = 480, wide: bool = False
    ) -> None:
        """A Plotly figure; `name` becomes the element's id, so a test can find it.

        A `wide` one has panels side by side and scrolls in its box on a narrow screen.

        Its title goes above it as text, since Plotly cuts titles wider than the screen.
        """
        spec = json.loads(figure.to_json())
        title = spec["layout"].pop("title", {}).get("text", "")
        if title:
            self._parts.append(f"<h3>{escape(title)}</h3>")
            margin = spec["layout"].setdefault("margin", {})
            margin["t"] = max(16, margin.get("t", 60) - 44)
        style = f"height:{height:d}px" + (";min-width:760px" if wide else "")
        self._parts.append(
            f'<div class="scroll"><div class="figure" id="{escape(name)}" style="{style}">'
            "</div></div>"
        )
        # "</script>" inside data would end the script early, "<!--<script>" hide its end.
        data = json.dumps(spec).replace("<", "\\u003c")
        self._figures.append(
            f"{{const f={data};f.layout.autosize=true;"
            f"Plotly.newPlot({json.dumps(name)},f.data,f.layout,{{responsive:true,"
            f"displayModeBar:false}});}}"
        )

    def html(self, *, plotly: str | None = None, script: str = "") -> str:
        """The whole page.

        Args:
            plotly: address of plotly.js beside the page; None puts it inside.
            script: JavaScript of the caller's, run before the figures are drawn.
        """
        source = f"<script>{get_plotlyjs()}</script>"
        if plotly is not None:
            source = f'<script src="{escape(plotly)}"></script>'
        figures = f"{source}<script>{''.join(self._figures)}</script>" if self._figures else ""
        own = f"<script>{script}</script>" if script else ""
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            '<link rel="icon" href="data:,">'
            f"<title>{escape(self._title)}</title><style>{_CSS}</style></head><body>"
            + "\n".join(self._parts)
            + f"{own}{figures}</body></html>"
        )


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _column_class(cells: Sequence[str]) -> str:
    """The attribute of a column's cells: words are set left, and sentences wrap."""
    names = [
        *(["words"] if not any(map(_is_number, cells)) else []),
        *(["long"] if any(len(cell) > _LONG for cell in cells) else []),
    ]
    return f' class="{" ".join(names)}"' if names else ""


def _is_number(cell: str) -> bool:
    return cell.lstrip("+-−$≤≥<>~ ")[:1].isdigit()
