"""A run's exported weights as a model that MLflow's page registers.

The page offers "Register model" for a folder of the run's artifacts with a file MLmodel that the
run's tag `TAG` names. The folder is laid out as MLflow's flavor `transformers` reads it.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from flows.mirror.client import model_document
from flows.runs.exports import Export

TAG = "mlflow.log-model.history"
_WEIGHTS, _TOKENIZER = "model", "components/tokenizer"


def artifact_path(export: Export) -> str:
    """The folder of the model among the run's artifacts."""
    return f"model_{export.tokens}"


@contextmanager
def laid_out(export: Export, mlflow_run: str, run: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A folder of links to the files of an export, as MLflow lays a model out, and its entry.

    Args:
        run: our id of the run, for the model's metadata.
    """
    flavor = {
        "task": "text-generation",
        "instance_type": "TextGenerationPipeline",
        "pipeline_model_type": export.architecture,
        "model_binary": _WEIGHTS,
        "components": ["tokenizer"],
        "tokenizer_type": "PreTrainedTokenizerFast",
    }
    document = model_document(
        artifact_path=artifact_path(export),
        run_id=mlflow_run,
        flavors={"transformers": flavor},
        metadata={
            "run": run, "tokens": export.tokens, "weights_sha256": export.weights_sha256,
        },
    )  # fmt: skip
    with TemporaryDirectory() as name:
        folder = Path(name)
        for part in (_WEIGHTS, _TOKENIZER):
            (folder / part).mkdir(parents=True)
        for file in export.folder.iterdir():
            (folder / _WEIGHTS / file.name).symlink_to(file)
            if file.name.startswith("tokenizer"):
                (folder / _TOKENIZER / file.name).symlink_to(file)
        (folder / "MLmodel").write_text(document.to_yaml())
        yield folder, document.get_tags_dict()


def local_folder(uri: str) -> Path | None:
    """The folder of artifacts on this machine; None where they are behind a server."""
    parts = urlsplit(uri)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def link_all(source: Path, target: Path) -> None:
    """Hard links to the files of a folder of links; copies where the file system has none."""
    shutil.copytree(source, target, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)
    try:
        # Into MLflow's folder, not from it: gigabytes are not written twice.
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)


def with_model(tags: Mapping[str, str], entry: dict[str, Any]) -> str:
    """The tag of a run's models with one more, or in place of one of the same folder."""
    models = json.loads(tags.get(TAG, "[]"))
    others = [model for model in models if model["artifact_path"] != entry["artifact_path"]]
    return json.dumps([*others, entry])
