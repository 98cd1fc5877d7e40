"""The sources of a corpus while it is prepared."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from llama_core.corpus.config import CorpusConfig, EnvironmentText, FileText, TextSource
from llama_core.corpus.documents import hub_documents
from llama_core.corpus.kinds import kind_documents
from llama_core.corpus.left_out import LeftOut
from llama_core.corpus.reading import read_documents
from llama_core.corpus.steps.docstrings import docstring_documents
from llama_core.corpus.steps.progress import Meter, Progress, share_report
from llama_core.corpus.steps.tasks import Workers
from llama_core.corpus.steps.texts import Segment
from llama_core.corpus.text_files import files_size


@dataclass(frozen=True)
class Job:
    """A preparation: what is asked for, where it works, where the corpus goes, and who works."""

    config: CorpusConfig
    work: Path
    out: Path
    workers: Workers
    progress: Progress

    def meter(self, doing: str, total: int = 0) -> Meter:
        """A report of one step's progress."""
        return Meter(self.progress, doing, total)


@dataclass
class Source:
    """A source and what is known of it so far.

    Attributes:
        parts: the numbers of its parts.
        train: where its training documents lie, in order; `val`, its validation documents.
    """

    source: TextSource
    number: int
    counts: LeftOut
    parts: range = range(0)
    train: list[Segment] = field(default_factory=list)
    val: list[Segment] = field(default_factory=list)
    train_bytes: int = 0


def text_field(source: TextSource) -> str:
    return "text" if isinstance(source, EnvironmentText) else source.text_field


def size_of(source: TextSource) -> int:
    return files_size(Path(source.path)) if isinstance(source, FileText) else 0


def is_docstrings(source: TextSource) -> bool:
    """Whether a source is the default corpus's, which the first version's rules clean."""
    return isinstance(source, EnvironmentText) and source.installed is None


def documents_of(job: Job, source: TextSource, counts: LeftOut) -> Iterator[str]:
    match source:
        case EnvironmentText(installed=None):
            return docstring_documents(job.work, job.workers, job.progress)
        case EnvironmentText():
            report = share_report(job.progress, f"reading {source.name}")
            return kind_documents(source, counts, report)
        case FileText():
            return read_documents(Path(source.path), counts)
        case _:
            return hub_documents(source, counts)
