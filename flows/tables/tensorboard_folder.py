"""The runs of a TensorBoard folder as a table: the last value of every scalar, and hparams."""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from analysis.table.files import Contents, described
from analysis.table.observations import TableError

_EVENTS = "*tfevents*"
# The folder, named by an instant, into which PyTorch's `add_hparams` writes beside a run.
_OF_HPARAMS = re.compile(r"\d{9,}(\.\d+)?")


def has_events(folder: Path) -> bool:
    """Whether TensorBoard's event files lie in a folder or below."""
    return next(folder.rglob(_EVENTS), None) is not None


def read_folder(folder: Path) -> Contents:
    """Every folder with event files as a run, one a row, named by its path.

    Raises:
        TableError: the extra is not installed, or the files hold no scalar.
    """
    folders = sorted({path.parent for path in folder.rglob(_EVENTS)})
    runs: dict[Path, dict[str, Any]] = {}
    for place in folders:
        values = dict(_values(place))
        if _OF_HPARAMS.fullmatch(place.name) and place.parent in runs:
            runs[place.parent] |= values
        else:
            runs[place] = {"run": _name(place, folder), **values}
    if not any(len(values) > 1 for values in runs.values()):
        raise TableError(f"the event files in {folder} hold no scalars.")
    return described(pl.from_dicts(list(runs.values()), infer_schema_length=None, strict=False))


def _name(place: Path, folder: Path) -> str:
    return place.relative_to(folder).as_posix() if place != folder else place.absolute().name


def _values(folder: Path) -> Iterator[tuple[str, Any]]:
    """A run's hyperparameters, its last step, and the last value of each scalar."""
    accumulator, tensor_util = _open(folder)
    yield from _hparams(accumulator, folder)
    tags, steps = accumulator.Tags(), []
    for tag in tags["scalars"]:
        last = accumulator.Scalars(tag)[-1]
        steps.append(last.step)
        yield tag, last.value
    # TensorFlow 2 and JAX write scalars as tensors.
    for tag in tags["tensors"]:
        if accumulator.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            last = accumulator.Tensors(tag)[-1]
            steps.append(last.step)
            yield tag, float(tensor_util.make_ndarray(last.tensor_proto).item())
    if max(steps, default=0):
        yield "last_step", max(steps)


def _open(folder: Path) -> tuple[Any, Any]:
    """TensorBoard's reader of a run, with the events read, and its module of tensors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from tensorboard.backend.event_processing import event_accumulator
            from tensorboard.util import tensor_util
        except ImportError:
            raise TableError(
                f"{folder} holds event files of TensorBoard, which need an extra: "
                "pip install 'isoflop[tensorboard]'"
            ) from None
        # One of each: the last.
        guidance = dict.fromkeys(event_accumulator.DEFAULT_SIZE_GUIDANCE, 1)
        accumulator = event_accumulator.EventAccumulator(str(folder), size_guidance=guidance)
        accumulator.Reload()
    return accumulator, tensor_util


def _hparams(accumulator: Any, folder: Path) -> Iterator[tuple[str, Any]]:
    """Hyperparameters and state as the hparams plugin or Lightning writes them."""
    from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

    try:
        contents = accumulator.PluginTagToContent("hparams")
    except KeyError:
        contents = {}
    for content in contents.values():
        data = plugin_data_pb2.HParamsPluginData.FromString(content)
        for name, value in data.session_start_info.hparams.items():
            kind = value.WhichOneof("kind")
            yield name, getattr(value, kind) if kind else None
        if data.HasField("session_end_info"):
            status = api_pb2.Status.Name(data.session_end_info.status)
            yield "status", status.removeprefix("STATUS_").lower()
    path = folder / "hparams.yaml"
    if path.is_file():
        try:
            settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise TableError(f"{path} is not plain YAML: {str(error).splitlines()[0]}") from error
        if isinstance(settings, dict):
            for name, value in settings.items():
                if isinstance(value, int | float | str):
                    yield str(name), value
