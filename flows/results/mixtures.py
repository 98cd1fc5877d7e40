"""The results of a sweep of mixtures: its law of the shares, and the shares of least loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis.mixtures.answer import Answer, mix
from analysis.mixtures.document import mix_json
from analysis.mixtures.page import mix_page
from analysis.mixtures.question import Question
from analysis.mixtures.rows import read_mixtures
from analysis.mixtures.text import first_lines, law_line, verdict
from analysis.page import Page
from analysis.table.files import Contents
from analysis.table.observations import TableError
from flows.settings import Home
from llama_core.corpus.prepared import find_corpus
from sweeps.plan import Plan
from sweeps.repetition import stocks


@dataclass(frozen=True, slots=True)
class Mixed:
    """What the runs of a sweep of mixtures say.

    Attributes:
        answer: None where they carry no law; then `reason` says why.
    """

    answer: Answer | None
    reason: str = ""

    @property
    def sentences(self) -> list[str]:
        """The answer in lines for a terminal: what must be read first, then the best shares."""
        if self.answer is None:
            return [f"There is no law of the shares. {self.reason}"]
        answer = self.answer
        shares = zip(answer.table.sources, answer.best.shares, answer.intervals, strict=True)
        listed = ", ".join(
            f"{name} {share:.3f} [{low:.3f}, {high:.3f}]" for name, share, (low, high) in shares
        )
        return [*first_lines(answer), verdict(answer), f"Best shares: {listed}.", law_line(answer)]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be read before the answer."""
        return tuple(self.sentences[:1] if self.answer is None else first_lines(self.answer))

    @property
    def document(self) -> dict[str, Any]:
        """The answer as `isoflop mix --json` has it."""
        return {} if self.answer is None else mix_json(self.answer)

    @property
    def numbers(self) -> dict[str, float]:
        """The best shares and how well the law foretells, for the tracker."""
        if self.answer is None:
            return {}
        answer = self.answer
        best = zip(answer.table.sources, answer.best.shares.tolist(), strict=True)
        return {
            **{f"best_share_{name}": share for name, share in best},
            "best_loss": answer.best.pooled.value,
            "held_out_rank": answer.score.pooled_rank,
            "held_out_r2": answer.score.pooled_r2,
        }

    def page(self, name: str, facts: Sequence[str]) -> Page:
        """The page of the sweep."""
        title = f"Sweep {name}"
        if self.answer is not None:
            page = mix_page(self.answer, title=title)
        else:
            page = Page(title)
            page.text(self.sentences[0], role="lead")
        page.heading("How it was made")
        for fact in facts:
            page.text(fact)
        return page


def repetition_sentences(planned: Plan) -> list[str]:
    """What a sweep's runs read more than once; nothing where its spec asks for no repetition."""
    spec, mixtures = planned.spec, planned.spec.mixtures
    if spec.unique_tokens:
        parts = ", ".join(f"{count:,}" for count in spec.unique_tokens)
        return [
            f"Beside runs on all text there are some on parts of {parts} tokens, which they read "
            "over and over; a smaller part lies within a larger one."
        ]
    if mixtures is None or mixtures.target_tokens is None:
        return []
    return [
        f"Every run read a part of each source, and so as often as a training of "
        f"{mixtures.target_tokens:,.0f} tokens reads the whole; the losses have that repetition."
    ]


def asked(planned: Plan, home: Home) -> Question:
    """What a sweep's spec asks: target, stocks, epochs and tokens of the training to mix for.

    Raises:
        CorpusError: its corpus is not in the home.
    """
    mixtures = planned.spec.mixtures
    assert mixtures is not None
    corpus = find_corpus(home.root, planned.data.digest)
    tokens = mixtures.target_tokens or max(run.cells[-1].tokens for run in planned.runs)
    stock = stocks(mixtures, corpus.source_tokens)
    return Question(mixtures.target, stock, mixtures.max_epochs, tokens=tokens)


def mixed(planned: Plan, frame: pl.DataFrame, home: Home) -> Mixed:
    """The law of a sweep's mixtures, and the best shares for what its spec asks."""
    question = asked(planned, home)
    try:
        return Mixed(mix(read_mixtures(Contents(frame), mapping={}), question))
    except TableError as error:
        return Mixed(None, str(error))
