"""Where the columns of an observations table come from, in words and as data."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# What a reader calls the columns of an answer, in the order of a sentence, and their units.
_SYMBOLS = {
    "n_params": ("N", "parameters"),
    "n_params_total": ("N", "parameters"),
    "n_params_no_input_embedding": ("N", "parameters"),
    "n_params_non_embedding": ("N", "parameters"),
    "tokens": ("D", "tokens"),
    "train_flops": ("C", "FLOPs"),
    "flops_budget": ("budget", "FLOPs"),
    "flops_6nd": ("6ND", "FLOPs"),
    "val_loss": ("loss", ""),
    "lr": ("lr", ""),
    "batch_tokens": ("batch", "tokens"),
    "unique_tokens": ("unique tokens", "tokens"),
    "weight": ("weight", ""),
    "run_id": ("runs", ""),
    "parent_run_id": ("parent runs", ""),
}


@dataclass(frozen=True, slots=True)
class Source:
    """What one of isoflop's columns was read from.

    Attributes:
        name: isoflop's.
        given: a column of the file, or arithmetic of its columns.
        arithmetic: whether `given` is arithmetic.
        written: a number as the file writes it; empty where it writes plain numbers.
    """

    name: str
    given: str
    arithmetic: bool = False
    written: str = ""

    def times(self, factor: str) -> str:
        """The option that reads the column in another unit: --map 'tokens=D*1e9'."""
        return option(self.name, f"{self.argument}*{factor}")

    @property
    def argument(self) -> str:
        """The column as a part of arithmetic: "Params (M)" or (size*1e6)."""
        return f"({self.given})" if self.arithmetic else quoted(self.given)

    def words(self) -> str:
        """For messages: 'Params (M)' for a column, size*1e6 for arithmetic."""
        return self.given if self.arithmetic else repr(self.given)


def read_words(sources: Sequence[Source]) -> str:
    """One sentence: N from 'size' (parameters), D from 'Tokens' (tokens, written as 300B)."""
    main = [source for name in _SYMBOLS for source in _main(sources) if source.name == name]
    if all(source.given == source.name and not source.written for source in main):
        return f"isoflop's own columns {', '.join(source.name for source in main)}".strip()
    parts = []
    for source in main:
        symbol, unit = _SYMBOLS[source.name]
        notes = [unit] if unit else []
        notes += [f"written as {source.written}"] if source.written else []
        parts.append(
            f"{symbol} from {source.words()}" + (f" ({', '.join(notes)})" if notes else "")
        )
    others = [source.words() for source in _other_counts(sources)]
    return ", ".join(parts) + (f"; other counts of N: {', '.join(others)}" if others else "")


def read_json(sources: Sequence[Source]) -> dict[str, dict[str, str]]:
    """By isoflop's name: `from`, `unit` where the name fixes one, `written` where not plain."""
    document = {}
    for source in sources:
        unit = _SYMBOLS.get(source.name, ("", ""))[1]
        entries = {"from": source.given, "unit": unit, "written": source.written}
        document[source.name] = {key: value for key, value in entries.items() if value}
    return document


def option(name: str, given: str) -> str:
    """The option that maps a name, as a shell takes it."""
    return f"--map {shlex.quote(f'{name}={given}')}"


def quoted(column: str) -> str:
    """A column's name as arithmetic takes it: quoted unless it is one word."""
    if re.fullmatch(r"[^\W\d]\w*", column):
        return column
    return '"' + column.replace('"', '""') + '"'


def _main(sources: Sequence[Source]) -> Iterator[Source]:
    """One source for each symbol: of several counts of N the first, which is the fit's."""
    others = set(map(id, _other_counts(sources)))
    return (source for source in sources if id(source) not in others)


def _other_counts(sources: Sequence[Source]) -> list[Source]:
    return [source for source in sources if _SYMBOLS.get(source.name, ("",))[0] == "N"][1:]
