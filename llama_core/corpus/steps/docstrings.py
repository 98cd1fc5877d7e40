"""Read the docstrings of the default corpus: to parse its files takes one core twenty seconds."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from llama_core.corpus.docstrings import prose
from llama_core.corpus.environment import environment_files
from llama_core.corpus.steps.progress import Meter, Progress
from llama_core.corpus.steps.tasks import Task, Workers, Written
from llama_core.corpus.steps.texts import Texts

_TASK_FILES = 256


class ReadDocstrings(Task[Written]):
    """Write the docstring prose of some Python files, a text for each."""

    kind: Literal["docstrings"] = "docstrings"
    number: int
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        return f"docstrings-{self.number:06d}"

    @property
    def texts(self) -> Texts:
        """The file of its texts."""
        return Texts(self.work / f"{self.name}.texts")

    def run(self) -> Written:
        # A syntax tree has no cycles, and looking for some takes a fifth of the time.
        gc.disable()
        try:
            self.texts.write("\n\n".join(prose(file.read_bytes())) for file in self.files)
        finally:
            gc.enable()
        return Written()


def docstring_documents(work: Path, workers: Workers, report: Progress) -> Iterator[str]:
    """One document for each source file with docstring prose, in the order of the files."""
    files = environment_files()
    tasks = [
        ReadDocstrings(
            work=work,
            number=number,
            files=tuple(some),
            size=sum(file.stat().st_size for file in some),
        )
        for number, start in enumerate(range(0, len(files), _TASK_FILES))
        if (some := files[start : start + _TASK_FILES])
    ]
    meter = Meter(report, f"parsing {len(files):,} Python files", sum(task.size for task in tasks))
    for _ in workers.map(tasks, meter):
        pass
    for task in tasks:
        yield from filter(None, task.texts.read())
