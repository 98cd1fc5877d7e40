"""Settings of a corpus: where its text or tokens come from, and what is made of them."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from llama_core.config import Frozen

InstalledKind = Literal["python", "headers", "manuals", "readmes", "licences", "data"]
_NAME = "of the source, as tables and messages show it"
_WEIGHT = "share of the training tokens, relative to the other sources'"


def _above_zero(weight: object) -> object:
    if isinstance(weight, int | float) and weight <= 0:
        raise ValueError(
            f"{weight:g} is no share: the source would never be read. Remove the source, or give "
            "it a weight above 0."
        )
    return weight


_Weight = Annotated[PositiveFloat, BeforeValidator(_above_zero)]


class EnvironmentText(Frozen):
    """Text that is on every machine with isoflop, of one kind; the default is docstring prose.

    Available without a network, collected in seconds. Its content depends on the installed
    versions, so its digest differs between environments. A kind other than the default gives the
    source its name.
    """

    kind: Literal["environment"] = "environment"
    text: Literal["docstrings", InstalledKind] = Field(
        default="docstrings",
        exclude_if=lambda text: text == "docstrings",
        description="kind of text on this machine",
    )
    name: str = Field(default="environment", description=_NAME)
    weight: _Weight = Field(default=1.0, description=_WEIGHT)

    @model_validator(mode="before")
    @classmethod
    def _named_after_its_text(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("text", "docstrings") != "docstrings":
            return {"name": value["text"], **value}
        return value

    @property
    def installed(self) -> InstalledKind | None:
        """The kind of text; None of docstrings, which are read by rules of their own."""
        return None if self.text == "docstrings" else self.text


class FileText(Frozen):
    """A file or folder of .txt, .md, .jsonl, .json (also as .gz, .bz2, .xz, .zst) or .parquet."""

    kind: Literal["files"] = "files"
    path: str = Field(description="file or folder")
    name: str = Field(default="files", description=_NAME)
    text_field: str = Field(default="text", description="column or key of JSON and Parquet")
    weight: _Weight = Field(default=1.0, description=_WEIGHT)


class HubText(Frozen):
    """A Hugging Face dataset by name; needs the package `datasets`."""

    kind: Literal["hub"] = "hub"
    dataset: str = Field(description="its name on the Hub, as HuggingFaceFW/fineweb-edu")
    subset: str | None = Field(default=None, description="configuration of the dataset")
    split: str = Field(default="train", description="of the dataset")
    name: str = Field(default="hub", description=_NAME)
    text_field: str = Field(default="text", description="column of the text")
    max_bytes: PositiveInt | None = Field(
        default=None,
        exclude_if=lambda size: size is None,
        description="text after which no more is read; all of it if not given",
    )
    weight: _Weight = Field(default=1.0, description=_WEIGHT)


TextSource = EnvironmentText | FileText | HubText


class TokenFiles(Frozen):
    """Token ids that exist: a file, or a folder of such files.

    nanoGPT's and llm.c's `.bin`, Megatron's `.bin` with `.idx`, `.npy`, and Hugging Face datasets
    with a column of ids, as saved to disk or as `.parquet`.
    """

    kind: Literal["tokens"] = "tokens"
    path: str = Field(description="file or folder")
    name: str = Field(default="tokens", description=_NAME)
    tokenizer: str | None = Field(
        default=None,
        description="tokenizer.json or a SentencePiece model, for bits per byte; none without",
    )
    end: NonNegativeInt | None = Field(
        default=None,
        description="id after which a document ends, where a file does not say; the tokenizer's "
        "own if not given",
    )
    dtype: Literal["uint16", "uint32"] = Field(
        default="uint16", description="of a .bin without header or index, such as nanoGPT's"
    )
    column: str = Field(default="input_ids", description="of a dataset")
    weight: _Weight = Field(default=1.0, description=_WEIGHT)


Source = Annotated[EnvironmentText | FileText | HubText | TokenFiles, Field(discriminator="kind")]


class CorpusConfig(Frozen):
    """Text in, token shards out: everything that decides which tokens a run reads.

    `weight` of a source is its share of the training tokens, relative to the others; a small
    source with a large weight is read for several epochs.
    """

    sources: tuple[Source, ...] = Field(
        default=(EnvironmentText(),), min_length=1, description="where text or tokens come from"
    )
    vocab_size: int = Field(
        default=512, ge=300, le=1_000_000, description="pieces of the tokenizer trained on the text"
    )
    characters: Literal["ascii", "unicode"] = Field(
        default="ascii",
        description="ascii: other characters are folded, no byte pieces; "
        "unicode: kept, with LLaMA's byte fallback (256 pieces of the vocabulary)",
    )
    near_duplicates: Literal["keep", "drop"] = Field(
        default="keep",
        description="drop: keep one of the documents that are 80 % alike; for text from the web",
    )
    val_fraction: float = Field(
        default=0.05, gt=0, le=0.5, description="share of the documents kept for validation"
    )
    seed: NonNegativeInt = Field(
        default=0,
        description="decides which documents are kept for validation",
    )

    @property
    def token_sources(self) -> tuple[TokenFiles, ...]:
        """Sources that hold tokens: all of them, or none."""
        return tuple(source for source in self.sources if isinstance(source, TokenFiles))

    @property
    def text_sources(self) -> tuple[TextSource, ...]:
        """Sources that hold text: all of them, or none."""
        return tuple(source for source in self.sources if not isinstance(source, TokenFiles))

    @property
    def shares(self) -> dict[str, float]:
        """Each source's share of the training tokens: its weight over the sum of all."""
        total = sum(source.weight for source in self.sources)
        return {source.name: source.weight / total for source in self.sources}

    @model_validator(mode="after")
    def _sources_and_vocabulary(self) -> Self:
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError(f"sources are named {names}: give each a different name.")
        if nested := [name for name in names if "/" in name]:
            raise ValueError(
                f"source name {nested[0]!r} has a slash, and its files are named after it. "
                "Use another name."
            )
        if len(names) > 1 and "unit" in names:
            raise ValueError(
                "a source is named 'unit', and loss_unit, the column of its losses, is the unit "
                "of all losses. Use another name."
            )
        if self.characters == "unicode" and self.vocab_size < 512:
            raise ValueError(
                f"vocab_size={self.vocab_size} leaves too few pieces beside the 256 byte pieces "
                f"of characters='unicode'. Use 512 or more."
            )
        if 0 < len(self.token_sources) < len(self.sources):
            raise ValueError(
                "sources hold text and tokens. Use one kind: the tokens' vocabulary is not the "
                "one that would be trained on the text."
            )
        if len({source.tokenizer for source in self.token_sources}) > 1:
            raise ValueError("sources of tokens have different tokenizers. Give all the same one.")
        if self.token_sources and self.near_duplicates == "drop":
            raise ValueError(
                "near_duplicates='drop' compares texts, and the sources are tokens. Leave it out."
            )
        return self
