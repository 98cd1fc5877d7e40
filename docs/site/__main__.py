"""`make docs`: the site in build/site/html, from docs/, the code and what `--help` says."""

import shutil
import subprocess
import sys
from pathlib import Path

from docs.site.commands import command_pages
from docs.site.pages import ROOT, Pages
from docs.site.python import python_page
from docs.site.settings import study_page, sweep_page

HERE = Path(__file__).parent
_FETCHED = "https://unpkg.com/iframe-worker/shim"
BUILD = ROOT / "build" / "site"


def main() -> int:
    """Write the pages, let zensical render them and check their links; its exit status."""
    written = write_pages(BUILD / "pages")
    shutil.copy(HERE / "zensical.toml", BUILD)
    zensical = Path(sys.executable).parent / "zensical"
    done = subprocess.run([zensical, "build", "--clean", "--strict"], cwd=BUILD, check=False)
    if done.returncode == 0:
        _keep_to_the_folder(BUILD / "html")
        sys.stdout.write(f"{written} pages: file://{BUILD}/html/index.html\n")
    return done.returncode


def write_pages(folder: Path) -> int:
    """Write every page of the site as Markdown into an empty folder; how many."""
    shutil.rmtree(folder, ignore_errors=True)
    pages = Pages(folder)
    pages.add_docs()
    for name, text in {
        **command_pages(),
        "reference/spec.md": sweep_page(),
        "reference/study.md": study_page(),
        "reference/python.md": python_page(),
    }.items():
        pages.add(name, text)
    shutil.copytree(HERE / "assets", folder / "assets")
    return pages.count


def _keep_to_the_folder(site: Path) -> None:
    """Take the one script that zensical fetches from elsewhere, for search, from the site."""
    for page in site.rglob("*.html"):
        up = "../" * (len(page.relative_to(site).parts) - 1)
        page.write_text(page.read_text().replace(_FETCHED, f"{up}assets/worker.js"))


if __name__ == "__main__":
    sys.exit(main())
