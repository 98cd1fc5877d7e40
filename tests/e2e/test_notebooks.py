"""The notebooks run from top to bottom, also outside the checkout, and show what they store."""

import re
import shutil

import nbformat
import pytest

from tests.conftest import ROOT
from tests.notebooks import FOLDER, PLOTLY, executed, outputs

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SAID = {
    "fitting": ("not_identified - D/N is constant", "the same law came back"),
    "forecasting": ("runs inside",),
    "llama": ("by hand and by isoflop: the same", "LLaMA-7B: best if the inference bill is 1.06"),
    "sweep": ("N* ~ C^",),
}
_MOST_BYTES = 1_000_000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_outside_the_checkout_and_shows_what_it_stores(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SWEEP", raising=False)
    copy = shutil.copy(path, tmp_path)
    ran, stored = executed(tmp_path / path.name, tmp_path), nbformat.read(copy, as_version=4)
    assert any(PLOTLY in output.get("data", {}) for output in outputs(ran))
    # Numbers may differ in their last digits on another machine, words may not.
    assert words(ran) == words(stored), "run make notebooks"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_stores_its_answers_and_its_figures_as_pictures(path):
    notebook = nbformat.read(path, as_version=4)
    kinds = [kind for output in outputs(notebook) for kind in output.get("data", {})]
    assert "image/png" in kinds
    assert PLOTLY not in kinds
    assert all(text in printed(notebook) for text in SAID[path.stem])
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert path.stat().st_size < _MOST_BYTES


def printed(notebook):
    return "".join(
        str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", ""))
        for output in outputs(notebook)
        # What plotly says of a figure in words is none of the notebook's.
        if not {PLOTLY, "image/png"} & set(output.get("data", {}))
        and output.get("name") != "stderr"
    )


def words(notebook):
    return re.findall(r"[A-Za-z]{2,}", printed(notebook))
