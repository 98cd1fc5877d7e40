"""Saved views of MLflow's runs page: which entries, columns and charts a link opens.

MLflow keeps a view in a tag of the experiment and names it in the link. Its page reads the fields
below (`experimentPage` of its web client 3.17); those left out keep its defaults.
"""

import json
from collections.abc import Container, Sequence
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

from flows.mirror.entries import AGAINST_PARAMS, AGAINST_TOKENS, COLUMNS

TAG = "mlflow.sharedViewState."
View = Literal["scaling", "observations", "training"]
# Else MLflow opens in its GenAI mode, which lists runs under evaluations.
_MODE = "workflowType=machine_learning"
# Shown in the menu of views, newest first; a fixed time keeps the tag the same.
_CREATED_MS: dict[View, int] = {"scaling": 3, "observations": 2, "training": 1}
_NAMES: dict[View, str] = {
    "scaling": "Loss against N and D",
    "observations": "Observations",
    "training": "Training curves",
}
VIEWS_NOTE = "The menu Views, above, has other ways to see its runs."
_KIND = "tags.`isoflop.kind`"


def sweep_page(experiment: str | int, tags: Container[str]) -> str:
    """Path and fragment of the page of a sweep: its first view, else MLflow's own charts.

    Args:
        tags: keys of the experiment's tags; a link to a view that is missing is an error.
    """
    first = next((view for view in _NAMES if f"{TAG}{view}" in tags), None)
    mode = "TABLE" if first == "observations" else "CHART"
    view = f"&viewStateShareKey={first}" if first else ""
    return f"/#/experiments/{experiment}/runs?{_MODE}&compareRunsMode={mode}{view}"


def run_page(experiment: str | int, run: str, tab: str = "") -> str:
    """Fragment of the page of a run, or of one of its tabs, as in `/artifacts/report.html`."""
    return f"#/experiments/{experiment}/runs/{run}{tab}?{_MODE}"


def view_tags(shares: Sequence[str] = ()) -> dict[str, str]:
    """The tags of an experiment that hold its views.

    Args:
        shares: columns of a sweep of mixtures, which has no view of loss against N and D: its
            runs differ in their shares.
    """
    states = {"observations": _observations(shares), "training": _training()}
    if not shares:
        states["scaling"] = _scaling()
    return {
        f"{TAG}{view}": json.dumps(
            {
                "name": name,
                "createdAt": _CREATED_MS[view],
                "updatedAt": _CREATED_MS[view],
                "state": json.dumps(states[view], separators=(",", ":")),
            }
        )
        for view, name in _NAMES.items()
        if view in states
    }


def _scaling() -> dict[str, Any]:
    charts = [
        _line("Loss against parameters (step: N)", "scaling", AGAINST_PARAMS),
        _line("Loss against tokens (step: D)", "scaling", AGAINST_TOKENS),
    ]
    return _state(f"{_KIND} = 'curve'", ["verdict"], {"scaling": charts})


def _observations(shares: Sequence[str]) -> dict[str, Any]:
    # Three columns are on the screen beside MLflow's assistant: what mixtures differ in is first.
    columns = dict.fromkeys(("val_loss", *shares, *COLUMNS)) if shares else COLUMNS
    state = _state(f"{_KIND} = 'observation'", ["verdict"], {}, tuple(columns))
    # Sorted by anything but the date, MLflow lists observations without the curves they belong to.
    return {**state, "orderByKey": "metrics.`val_loss`", "orderByAsc": True}


def _training() -> dict[str, Any]:
    charts = {
        "loss": [
            _line("Training loss (step)", "loss", "loss/train_loss"),
            _line("Validation loss (step)", "loss", "loss/val_loss"),
        ],
        "optimizer": [
            _line(name, "optimizer", f"optimizer/{name}") for name in ("lr", "grad_norm")
        ],
        "speed": [_line("tokens_per_s", "speed", "speed/tokens_per_s")],
    }
    return _state(f"{_KIND} = 'training'", [], charts)


def _state(
    kind: str,
    tags: list[str],
    charts: dict[str, list[dict[str, Any]]],
    numbers: Sequence[str] = COLUMNS,
) -> dict[str, Any]:
    metrics = [f"metrics.`{name}`" for name in numbers]
    columns = [*metrics, *(f"tags.`{name}`" for name in tags)]
    return {
        "searchFilter": kind,
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsHiddenMode": "SHOW_ALL",
        "runListHidden": True,
        "compareRunCharts": [
            *(chart for section in charts.values() for chart in section),
            *map(_left_out, numbers),
        ],
        "compareRunSections": [_section(name) for name in charts],
        "isAccordionReordered": True,
    }


def _section(name: str) -> dict[str, Any]:
    return {
        "uuid": _uuid(name),
        "name": name,
        "display": True,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
        "columns": 2,
        "cardHeight": 440,
    }


def _line(title: str, section: str, metric: str) -> dict[str, Any]:
    """A chart of a metric against its step, both axes log."""
    return {
        "uuid": _uuid(metric),
        "type": "LINE",
        "metricSectionId": _uuid(section),
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": True,
        "displayName": title,
        "metricKey": metric,
        "lineSmoothness": 0,
        "useGlobalLineSmoothing": False,
        "useGlobalXaxisKey": False,
        "xAxisKey": "step",
        "xAxisScaleType": "log",
        "scaleType": "log",
        "yAxisKey": "metric",
        "range": {},
    }


def _left_out(metric: str) -> dict[str, Any]:
    """No chart of a metric, which MLflow would add by itself."""
    return {**_line(metric, "", metric), "deleted": True}


def _uuid(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"isoflop/{name}"))
