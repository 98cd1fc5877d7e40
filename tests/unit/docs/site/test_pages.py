"""Pages of the site: where links lead, formulas, and that no page is missing."""

import tomllib
from pathlib import Path

import pytest

from docs.site.__main__ import write_pages
from docs.site.commands import names
from docs.site.pages import DOCS, ROOT, rendered, site_name


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "pages"
    write_pages(folder)
    return folder


def test_every_page_of_the_navigation_exists_and_every_page_of_docs_can_be_found(site):
    nav = tomllib.loads((ROOT / "docs" / "site" / "zensical.toml").read_text())["project"]["nav"]
    listed = set(_pages_of(nav))
    assert sorted(page for page in listed if not (site / page).is_file()) == []
    ours = {site_name(page) for page in DOCS.rglob("*.md")}
    # The index pages of these two list what is in them.
    shelves = {page for page in ours if page.startswith(("decisions/", "benchmarks/"))}
    assert sorted(ours - shelves - listed) == []


def _pages_of(nav):
    for entry in nav:
        [value] = entry.values()
        yield from [value] if isinstance(value, str) else _pages_of(value)


def test_a_command_has_a_page_with_its_options(site):
    for name in names():
        text = (site / "reference" / "commands" / f"{name}.md").read_text()
        assert text.startswith(f"# isoflop {name}\n")
    assert "--inference-tokens" in (site / "reference/commands/frontier.md").read_text()


def test_links_lead_to_pages_of_the_site_and_code_to_pages_that_show_it(tmp_path):
    text, linked = rendered(DOCS / "architecture.md")
    assert "](decisions/0014-rooms.md)" in text
    assert "](source/flows/sweep.py.md)" in text
    assert ROOT / "flows" / "sweep.py" in linked
    assert "](../index.md" in rendered(DOCS / "start" / "demo.md")[0]
    assert "](../reference/spec.md)" in rendered(DOCS / "how_to" / "own_sweep.md")[0]


def test_options_are_not_broken_behind_a_hyphen():
    text = rendered(DOCS / "README.md")[0]
    assert '<code>isoflop plan <span class="whole">gpu-day</span> <span class="whole">--gpu' in text


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("N* ~ C^0.53 and (A/r)^(1/α).", r"N\* ~ C<sup>0.53</sup> and (A/r)<sup>1/α</sup>."),
        ("**N* on D*** and **N**, N*", r"**N\* on D*** and **N**, N\*"),
        ("`C^0.53` stays code.", "`C^0.53` stays code."),
        ("`a` is well-known, `b` too.", "`a` is well-known, `b` too."),
        (
            "Call `isoflop next\nNAME --to x`.",
            'Call <code>isoflop next NAME <span class="whole">--to</span> x</code>.',
        ),
        (f"`{'a-' * 30}`", f"<code>{'a-' * 30}</code>"),
        ("## The `--to` option", "## The `--to` option"),
        ("```\nN^2\n```\n", "```\nN^2\n```\n"),
        (
            "So\n\n    ε_N = A/N^α     (S)\n",
            'So\n\n<div class="formula">ε<sub>N</sub> = A/N<sup>α</sup>'
            '<span class="apart"></span>(S)</div>\n',
        ),
    ],
)
def test_powers_are_raised_and_indented_lines_are_formulas(monkeypatch, tmp_path, written, shown):
    monkeypatch.setattr("docs.site.pages.DOCS", tmp_path)
    monkeypatch.setattr("docs.site.pages.ROOT", tmp_path)
    page = Path(tmp_path / "page.md")
    page.write_text(written)
    assert rendered(page)[0] == shown
