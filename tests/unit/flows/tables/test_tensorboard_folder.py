"""The runs of a TensorBoard folder are the rows of a table."""

import sys
import warnings
from pathlib import Path

import pytest

from analysis.table.observations import TableError
from flows.tables.tensorboard_folder import has_events, read_folder

pytest.importorskip("tensorboard")


def _write(folder: Path, losses: list[float], hparams: dict[str, object] | None = None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.utils.tensorboard import SummaryWriter
    with SummaryWriter(str(folder)) as writer:
        for step, loss in enumerate(losses):
            writer.add_scalar("val/loss", loss, 100 * step)
        if hparams:
            writer.add_hparams(hparams, {"hparam/final": losses[-1]})


def test_a_run_has_its_last_scalars_and_its_hyperparameters(tmp_path: Path) -> None:
    for k in range(2):
        hparams = {"n_params": 10**8 * (k + 1), "optimizer": "adam", "tied": True}
        _write(tmp_path / f"run{k}", [4.0, 3.5 - k], hparams)
    frame = read_folder(tmp_path).frame
    columns = ("run", "val/loss", "last_step", "n_params", "optimizer", "tied", "status")
    assert frame.select(columns).rows() == [
        ("run0", 3.5, 100, 1e8, "adam", True, "success"),
        ("run1", 2.5, 100, 2e8, "adam", True, "success"),
    ]


def test_the_folder_of_one_run_and_lightnings_settings_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "version_0"
    _write(folder, [3.0])
    (folder / "hparams.yaml").write_text("n_params: 100000000\nlayers: [1, 2]\n")
    frame = read_folder(folder).frame
    assert frame.select("run", "n_params", "val/loss").row(0) == ("version_0", 10**8, 3.0)
    (folder / "hparams.yaml").write_text("a: !!python/object:os.system {}\n")
    with pytest.raises(TableError, match="not plain YAML"):
        read_folder(folder)


def test_scalars_written_as_tensors_are_read(tmp_path: Path) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="scalars"))
    writer = EventFileWriter(str(tmp_path))
    for step, loss in ((1, 4.0), (2, 3.0)):
        tensor = TensorProto(dtype=1, float_val=[loss])
        value = Summary.Value(tag="val/loss", metadata=metadata, tensor=tensor)
        writer.add_event(Event(step=step, summary=Summary(value=[value])))
    writer.close()
    assert read_folder(tmp_path).frame.select("val/loss", "last_step").row(0) == (3.0, 2)


def test_folders_without_scalars_are_refused(tmp_path: Path) -> None:
    assert not has_events(tmp_path)
    _write(tmp_path / "run", [])
    assert has_events(tmp_path)
    with pytest.raises(TableError, match="hold no scalars"):
        read_folder(tmp_path)


def test_without_its_reader_the_message_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, [3.0])
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing", None)
    with pytest.raises(TableError, match=r"isoflop\[tensorboard\]"):
        read_folder(tmp_path)
