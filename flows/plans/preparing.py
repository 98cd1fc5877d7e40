"""What preparing a corpus takes, known before anything of it is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.words import counted
from llama_core.corpus.config import (
    CorpusConfig,
    EnvironmentText,
    FileText,
    HubText,
    Source,
    TokenFiles,
)
from llama_core.corpus.installed import installed_files
from llama_core.corpus.kinds import HOLDS, MOST_BYTES
from llama_core.corpus.text_files import source_files
from llama_core.corpus.token_files import token_files

# Text that one core prepares in a second, tokenizer included, from some 100 MB of text on
# (docs/benchmarks/preparation_epyc_202611.md: 4.1 to 6.5 MB).
_BYTES_PER_S = 5e6
# Vocabularies that a published number of tokens is near to: a smaller one gives more.
_USUAL_VOCABULARY = range(30_000, 52_000)
# The default corpus: its text, and how long it takes (docs/core/corpus.md).
_ENVIRONMENT_BYTES, _ENVIRONMENT_S = 22e6, 20.0
# Endings of files that hold more text than they have bytes.
_PACKED = (".gz", ".bz2", ".xz", ".lzma", ".zst", ".zstd", ".parquet")


@dataclass(frozen=True, slots=True)
class Published:
    """A dataset of the Hub as its publisher describes it.

    Attributes:
        download: bytes of its files; None where they are not known.
        text: bytes of its text, about.
        tokens: with a vocabulary of 32,000 to 50,000 pieces.
    """

    download: float | None
    text: float
    tokens: float


# FineWeb-Edu's samples are named after their tokens by GPT-2's tokenizer; a BPE of 32,000 pieces
# gives the smaller one 10.03e9. Its 14 files are 13 of 2.16 GB and one of 0.54 GB. Text is taken at
# 4.5 bytes a token. (docs/real_scale.md)
PUBLISHED: dict[tuple[str, str | None], Published] = {
    ("HuggingFaceFW/fineweb-edu", "sample-10BT"): Published(28.5e9, 45e9, 10e9),
    ("HuggingFaceFW/fineweb-edu", "sample-100BT"): Published(285e9, 450e9, 100e9),
}

# Bytes a token of like text in LLaMA's corpus: disk size over unique tokens, which are the share of
# 1.4T tokens over the epochs (Touvron et al. 2023, table 1; 32,000 pieces).
_BYTES_PER_TOKEN: dict[str, float] = {
    "HuggingFaceFW/fineweb": 3.87,
    "allenai/c4": 3.95,
    "common-pile/stackv2_edu_filtered": 3.33,
    "wikimedia/wikipedia": 3.23,
    "sedthh/gutenberg_english": 3.01,
    "common-pile/arxiv_papers_filtered": 2.79,
    "common-pile/stackexchange_filtered": 2.87,
}


@dataclass(frozen=True, slots=True)
class SourceWork:
    """What one source takes.

    Attributes:
        share: of the training tokens.
        read: what is read, in words.
        seconds: of one core; None where the amount of text is not known.
        at_least: whether there is more text than `seconds` reckons with.
        download: bytes over the network; 0 for none, None where they are not known.
        tokens: training tokens it will give, about; None where they are not known.
    """

    name: str
    share: float
    read: str
    seconds: float | None
    at_least: bool = False
    download: float | None = 0.0
    tokens: float | None = None

    @property
    def network(self) -> str:
        """What goes over the network, in words."""
        if self.download is None:
            return "from the network, of a size not known here"
        return f"{size(self.download)} from the network" if self.download else "no network"


def preparing(config: CorpusConfig) -> list[SourceWork]:
    """What each source of a corpus takes.

    Raises:
        CorpusError: a file or folder has nothing to read.
    """
    shares = config.shares
    return [_work(source, shares[source.name], config) for source in config.sources]


def known_tokens(config: CorpusConfig) -> dict[str, int] | None:
    """Training tokens by source; None where those of one are not known."""
    tokens = {}
    for source in config.sources:
        published = _published(source) if isinstance(source, HubText) else None
        if published is None or (count := _train_tokens(published, config)) is None:
            return None
        tokens[source.name] = round(count)
    return tokens


def size(count: float) -> str:
    """Bytes in words."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count / 1e3:.3g} kB"


def _published(source: HubText) -> Published | None:
    """What a dataset holds as far as it is read; None of one not listed, or of another split."""
    if source.split != "train":
        return None
    whole, most = PUBLISHED.get((source.dataset, source.subset)), source.max_bytes
    if most is None or (whole is not None and whole.text <= most):
        return whole
    if whole is not None:
        return Published(None, most, whole.tokens * most / whole.text)
    per_token = _BYTES_PER_TOKEN.get(source.dataset)
    return Published(None, most, most / per_token) if per_token is not None else None


def _train_tokens(published: Published, config: CorpusConfig) -> float | None:
    usual = config.vocab_size in _USUAL_VOCABULARY
    return published.tokens * (1 - config.val_fraction) if usual else None


def _work(source: Source, share: float, config: CorpusConfig) -> SourceWork:
    match source:
        case EnvironmentText(installed=kind) if kind is not None:
            installed_bytes = sum(file.size for file in installed_files(kind))
            text_bytes = min(installed_bytes, MOST_BYTES)
            read = f"{size(text_bytes)} of {HOLDS[kind]}"
            return SourceWork(source.name, share, read, text_bytes / _BYTES_PER_S)
        case EnvironmentText():
            text = f"{size(_ENVIRONMENT_BYTES)} of the installed packages' text"
            return SourceWork(source.name, share, text, _ENVIRONMENT_S)
        case FileText():
            files, _ = source_files(Path(source.path))
            total = sum(path.stat().st_size for path in files)
            packed = any(path.suffix.lower() in _PACKED for path in files)
            read = f"{size(total)} in {_count(files)}"
            return SourceWork(source.name, share, read, total / _BYTES_PER_S, packed)
        case HubText():
            name = " ".join(filter(None, (source.dataset, source.subset)))
            published = _published(source)
            if published is None:
                return SourceWork(source.name, share, f"dataset {name}", None, download=None)
            return SourceWork(
                source.name,
                share,
                f"dataset {name}, {size(published.text)} of text",
                published.text / _BYTES_PER_S,
                download=published.download,
                tokens=_train_tokens(published, config),
            )
        case TokenFiles():
            files = token_files(source)
            total = sum(path.stat().st_size for path in files)
            return SourceWork(
                source.name, share, f"{size(total)} of token ids in {_count(files)}", None
            )


def _count(files: Sequence[Path]) -> str:
    return counted(len(files), "file")
