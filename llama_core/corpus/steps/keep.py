"""Keep what is new in a part, split into training and validation."""

from typing import Literal

from llama_core.config import Frozen
from llama_core.corpus.cleaning import Parts, in_validation
from llama_core.corpus.left_out import LeftOut
from llama_core.corpus.steps.clean import clean_file
from llama_core.corpus.steps.repeats import repeats_of
from llama_core.corpus.steps.tasks import Task
from llama_core.corpus.steps.texts import Texts


class Kept(Frozen):
    """A part without repeats.

    Attributes:
        characters: every character of its text, once.
        train: number of training documents; `val`, of validation documents.
        train_bytes: of training text.
    """

    counts: LeftOut
    characters: str
    train: int
    val: int
    train_bytes: int


class Keep(Task[Kept]):
    """Drop what repeats earlier text; write training and validation texts.

    Attributes:
        short_is_new: whether a short paragraph can be what is new in a document.
    """

    kind: Literal["keep"] = "keep"
    part: int
    source: str
    short_is_new: bool
    val_fraction: float
    seed: int

    @property
    def name(self) -> str:
        return f"keep-{self.part:06d}"

    def run(self) -> Kept:
        counts, characters = LeftOut(source=self.source), set[str]()
        splits: dict[str, list[str]] = {"train": [], "val": []}
        repeated, start = repeats_of(self.work, self.part), 0
        clean = Texts(self.work / clean_file(self.part))
        for document in clean.read():
            parts = Parts.of(document)
            marks = repeated[start : start + parts.count()]
            start += len(marks)
            text = parts.without_repeats(marks, counts, short_is_new=self.short_is_new)
            if text is None:
                continue
            characters.update(text)
            held_out = in_validation(text, self.val_fraction, self.seed)
            splits["val" if held_out else "train"].append(text)
        train_bytes, _ = (
            Texts(self.work / split_file(split, self.part)).write(texts)
            for split, texts in splits.items()
        )
        return Kept(
            counts=counts,
            characters="".join(sorted(characters)),
            train=len(splits["train"]),
            val=len(splits["val"]),
            train_bytes=train_bytes,
        )

    def discard(self) -> None:
        (self.work / clean_file(self.part)).unlink(missing_ok=True)


def split_file(split: str, part: int) -> str:
    """A part's texts of one split."""
    return f"{split}-{part:06d}.texts"
