"""Run the notebooks and store their outputs, figures as pictures: python -m tests.notebooks.

Whoever reads a notebook on GitHub sees no Plotly figure, but a PNG; opened and run, it draws the
figure again. `make notebooks` needs Chromium, as the tests of pages do.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from plotly.offline import get_plotlyjs

from tests.browser import chromium

FOLDER = Path(__file__).resolve().parent.parent / "analysis" / "notebooks"
PLOTLY = "application/vnd.plotly.v1+json"
_WIDTH, _HEIGHT = 900, 480


def executed(path: Path, folder: Path) -> Any:
    """A notebook with the outputs of running it in a folder; raises where a cell does."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    # Without it lines that are printed one by one are cut into outputs by chance.
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources=resources, coalesce_streams=True
    )
    client.execute()
    return notebook


def outputs(notebook: Any) -> list[Any]:
    """What its cells show, in order."""
    cells = (cell for cell in notebook.cells if cell.cell_type == "code")
    return [output for cell in cells for output in cell.outputs]


def store(path: Path, window: Any) -> None:
    """Run a notebook and write it with its outputs."""
    notebook = executed(path, path.parent)
    for output in outputs(notebook):
        data = output.get("data", {})
        if PLOTLY in data:
            output["data"] = {"image/png": _png(data[PLOTLY], window)}
    for cell in notebook.cells:
        cell.metadata = {}
    nbformat.write(notebook, path)


def _png(figure: dict[str, Any], window: Any) -> str:
    layout = {**figure["layout"], "autosize": False, "width": _WIDTH}
    layout.setdefault("height", _HEIGHT)
    address = window.execute_async_script(
        "const [figure, done] = arguments;"
        "Plotly.toImage(figure, {format: 'png', width: figure.layout.width,"
        " height: figure.layout.height}).then(done, error => done('error: ' + error));",
        {"data": figure["data"], "layout": layout},
    )
    head, _, picture = address.partition(",")
    assert head == "data:image/png;base64", address
    assert base64.b64decode(picture)
    return str(picture)


def main(names: list[str]) -> None:
    """Store the outputs of notebooks, of all unless some are named."""
    with chromium() as window:
        window.get("about:blank")
        window.set_script_timeout(60)
        window.execute_script(
            f"const script = document.createElement('script');"
            f"script.textContent = {json.dumps(get_plotlyjs())};"
            "document.head.append(script);"
        )
        for path in sorted(FOLDER.glob("*.ipynb")):
            if not names or path.stem in names:
                store(path, window)


if __name__ == "__main__":
    main(sys.argv[1:])
