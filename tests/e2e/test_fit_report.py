"""The report of a fit opens offline in a browser and draws every figure."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis.fit.answer import fit_table
from analysis.fit.options import FitOptions
from analysis.fit.page import fit_page
from analysis.table.columns import normalise
from tests.simulated import isoflops, table

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_the_report_draws_every_figure_without_a_network(tmp_path: Path) -> None:
    page = tmp_path / "fit.html"
    runs = normalise(table(*isoflops(), noise=0.002))
    page.write_text(fit_page(fit_table(runs, FitOptions(bootstrap=50)), title="Fit").html())
    assert CHROMIUM is not None
    dom = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~0",
         "--virtual-time-budget=10000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    for name in ("contours", "fit", "isoflop", "profiles", "cloud"):
        drawn = re.search(rf'<div class="[^"]*js-plotly-plot[^"]*" id="fit0-{name}"', dom)
        assert drawn, f"figure {name} was not drawn"
