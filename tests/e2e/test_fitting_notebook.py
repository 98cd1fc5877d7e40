"""The fitting notebook runs from its first cell to its last, also without published data."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "analysis" / "notebooks" / "fitting.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("published", [False, True])
def test_the_fitting_notebook_runs(published: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if published and not os.environ.get("ISOFLOP_PUBLISHED"):
        pytest.skip("the Chinchilla points are read from the folder in ISOFLOP_PUBLISHED")
    if not published:
        monkeypatch.delenv("ISOFLOP_PUBLISHED", raising=False)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": NOTEBOOK.parent}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    printed = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )
    assert "not_identified - D/N is constant" in printed
    assert "the same law came back" in printed
    if published:
        assert "0.00101827401" in printed
