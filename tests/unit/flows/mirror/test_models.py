"""Exported weights as models that MLflow's page offers to register."""

import json
import logging
import os
import time

import pytest

from flows.mirror.models import TAG, local_folder
from flows.runs.exports import Export, exports, modified_ns, record
from tests.fakes import finished_run, planned_run


def exported(folder, tokens):
    """What `export-hf` writes and records, its weights a few bytes."""
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        (folder / name).write_text(name)
    return Export(
        tokens=tokens, folder=folder, architecture="LlamaForCausalLM", weights_sha256="0" * 64,
        modified_ns=modified_ns(folder), at=time.time(),
    )  # fmt: skip


def logged(tracker, planned):
    """The run in MLflow."""
    return tracker._client.get_run(tracker._look_up(planned.sweep, planned.id)[0])


def artifacts(tracker, planned):
    """The folder of its artifacts."""
    return local_folder(logged(tracker, planned).info.artifact_uri)


def test_exports_of_a_run_are_its_models_in_mlflow_once_and_their_weights_are_linked(
    mlflow_tracker, sweep, tmp_path, monkeypatch
):
    planned = planned_run(sweep=sweep)
    run = finished_run(tmp_path, planned)
    for tokens in (40_960, 20_480):
        record(run, exported(tmp_path / f"hf-{tokens}", tokens))
        mlflow_tracker.publish(run, planned)
    assert [export.tokens for export in exports(run)] == [20_480, 40_960]
    models = json.loads(logged(mlflow_tracker, planned).data.tags[TAG])
    assert [model["artifact_path"] for model in models] == ["model_40960", "model_20480"]
    [flavor] = models[0]["flavors"].values()
    assert flavor["pipeline_model_type"] == "LlamaForCausalLM"
    folder = artifacts(mlflow_tracker, planned)
    files = {str(path.relative_to(folder)) for path in folder.glob("model_*/**/*.*")}
    assert "model_20480/components/tokenizer/tokenizer.json" in files
    assert "flavors" in (folder / "model_20480" / "MLmodel").read_text()
    weights = folder / "model_20480" / "model" / "model.safetensors"
    assert weights.samefile(tmp_path / "hf-20480" / "model.safetensors")
    assert not weights.is_symlink()
    monkeypatch.setattr(mlflow_tracker, "_log_model", lambda *_: pytest.fail("sent again"))
    mlflow_tracker.publish(run, planned)


def test_an_export_whose_weights_are_gone_or_others_is_named_until_it_is_made_again(
    mlflow_tracker, sweep, tmp_path, caplog
):
    planned = planned_run(sweep=sweep)
    run = finished_run(tmp_path, planned)
    export = exported(tmp_path / "hf", 20_480)
    record(run, export)
    weights = tmp_path / "hf" / "model.safetensors"
    for change in (lambda: os.utime(weights, (1, 1)), weights.unlink):
        change()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            mlflow_tracker.publish(run, planned)
        assert f"isoflop export-hf {run.id} DIR --horizon 20480" in caplog.text
        assert TAG not in logged(mlflow_tracker, planned).data.tags
    record(run, exported(tmp_path / "again", 20_480))
    mlflow_tracker.publish(run, planned)
    assert TAG in logged(mlflow_tracker, planned).data.tags


def test_a_server_elsewhere_gets_the_files_themselves(mlflow_tracker, sweep, tmp_path, monkeypatch):
    planned = planned_run(sweep=sweep)
    run = finished_run(tmp_path, planned)
    record(run, exported(tmp_path / "hf", 20_480))
    with monkeypatch.context() as patched:
        patched.setattr("flows.mirror.tracker.local_folder", lambda uri: None)
        mlflow_tracker.publish(run, planned)
    weights = artifacts(mlflow_tracker, planned) / "model_20480" / "model" / "model.safetensors"
    assert weights.read_text() == "model.safetensors"
    assert not weights.samefile(tmp_path / "hf" / "model.safetensors")
