"""Where a run's weights were exported to, kept beside the run."""

from pathlib import Path

from flows.files import read_or_warn, write_whole
from flows.runs.directory import RunDir
from llama_core.config import Frozen

FOLDER = "exports"
_WEIGHTS = "model.safetensors"


class Export(Frozen):
    """The weights of a horizon in a folder that transformers reads.

    Attributes:
        tokens: the horizon.
        architecture: the class of transformers.
        weights_sha256: of the run's weights, as its curve has it.
        modified_ns: when the exported weights were written.
    """

    tokens: int
    folder: Path
    architecture: str
    weights_sha256: str
    modified_ns: int
    at: float

    def is_whole(self) -> bool:
        """Whether the folder still has the weights as they were exported."""
        try:
            return modified_ns(self.folder) == self.modified_ns
        except OSError:
            return False


def modified_ns(folder: Path) -> int:
    """When the weights in the folder of an export were written."""
    return (folder / _WEIGHTS).stat().st_mtime_ns


def record(run: RunDir, export: Export) -> None:
    """Keep an export beside its run, in place of an earlier one of the same horizon."""
    (run.path / FOLDER).mkdir(exist_ok=True)
    write_whole(run.path / FOLDER / f"{export.tokens}.json", export.model_dump_json())


def exports(run: RunDir) -> list[Export]:
    """A run's exports, in rising order of horizon."""
    paths = (run.path / FOLDER).glob("*.json")
    whole = filter(None, (read_or_warn(path, Export, "skipped") for path in paths))
    return sorted(whole, key=lambda export: export.tokens)
