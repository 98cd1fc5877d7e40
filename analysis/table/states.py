"""How each run ended, as the trackers write it: words, flags and exit codes."""

import re
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from analysis.table.observations import Doubt, TableError, name_rows, name_words, words_of

_FINISHED = words_of(
    "finished finish completed complete done ok success succeeded successful passed published"
)
UNFINISHED = words_of("""
    running started starting initializing training active created planned unfinished incomplete
    partial scheduled waiting pending queued submitted paused suspended requeued
    crashed crash failed fail failure error errored broken killed cancelled canceled aborted
    interrupted stopped preempted preempting evicted revoked timeout pruned diverged nan inf oom
    oomkilled
    """) | {"in progress", "timed out", "out of memory", "node fail", "boot fail", "not finished"}
# Before "status" or "state" these say whose state it is.
_OWNERS = words_of("""
    run runs job trial training train final last current task experiment exp model slurm wandb
    mlflow optuna ray sys system info attributes process execution sweep end finish completion
    attempt flow prefect exit stop stopping
    """)
_ENDINGS = ("status", "state", "outcome")
# These are of a run only where every value is a known state.
_LOOSE_ENDINGS = ("result", "reason", "termination", "ending")
# Free text that may say that a run died.
_NOTES = words_of(
    "note notes comment comments remark remarks reason result termination flag flags tag tags"
)
_DIED = re.compile(
    r"\b(crashed|failed|killed|diverged|preempted|aborted|cancelled|canceled|oom|nan|unfinished"
    r"|out of memory|timed out|did not (?:finish|converge))\b",
    re.IGNORECASE,
)
# A flag's name, without is, has and the like: whether true means finished.
_FLAGS = dict.fromkeys(
    ("finished", "completed", "complete", "done", "success", "succeeded", "successful", "ok"), True
) | dict.fromkeys(
    (
        *("failed", "failure", "error", "crashed", "diverged", "killed", "oom", "nan", "pruned"),
        *("preempted", "aborted", "cancelled", "canceled", "errored", "interrupted", "running"),
        *("timeout", "timed out", "out of memory", "unfinished", "incomplete"),
    ),
    False,
)
_FLAG_PREFIXES = words_of("is has was did run job trial sys training train")
_TRUTH = {"true": True, "yes": True, "y": True, "t": True, "1": True, "x": True} | {
    "false": False,
    "no": False,
    "n": False,
    "f": False,
    "0": False,
}
_EXITS = ("exit code", "exitcode", "return code", "returncode", "exit status")
# The numbers of MLflow's RunStatus and of Optuna's TrialState.
_MLFLOW = {1: "running", 2: "scheduled", 3: "finished", 4: "failed", 5: "killed"}
_OPTUNA = {0: "running", 1: "complete", 2: "pruned", 3: "fail", 4: "waiting"}
# A column of more values than this does not hold states.
_MOST_STATES = 40


def exclude_unfinished(frame: pl.DataFrame, include: Sequence[str] = ()) -> pl.DataFrame:
    """The frame with `excluded_reason` set where a column says that the run did not finish.

    Rows that have a reason keep it.

    Args:
        include: states whose rows are used all the same, in any case.

    Raises:
        TableError: a state is unknown and `include` is empty, or no row has an included state.
    """
    taken = {_word(state) for state in include}
    open_rows = frame["excluded_reason"].is_null()
    seen: dict[str, str] = {}
    for name in frame.columns:
        states = _states(frame[name].filter(open_rows))
        if states is None:
            continue
        seen |= {_word(state): state for state in states.values()}
        unknown = [state for state in states.values() if not _known(_word(state))]
        if unknown and not include:
            shown = ", ".join(repr(state) for state in dict.fromkeys(unknown[:6]))
            raise TableError(
                f"column {name!r} holds the state of runs, and isoflop does not know {shown}. Take "
                f"rows of such a status with --include-status {_quoted(unknown[0])}; if the option "
                "is given, rows of the others are left out."
            )
        reasons = {
            value: f"status is {state}"
            for value, state in states.items()
            if _word(state) not in taken | _FINISHED
        }
        if reasons:
            text = pl.col(name).cast(pl.String)
            reason = text.replace_strict(reasons, default=None, return_dtype=pl.String)
            frame = frame.with_columns(
                pl.coalesce("excluded_reason", reason).alias("excluded_reason")
            )
    for state in include:
        if _word(state) not in seen:
            statuses = ", ".join(sorted(seen.values())) or "none"
            raise TableError(
                f"--include-status {_quoted(state)}: no row has this status. Statuses of the "
                f"table: {statuses}."
            )
    return frame


def left_out(frame: pl.DataFrame) -> list[tuple[str, int]]:
    """Each reason for which rows are left out, in order of rows, and how many."""
    out = frame.filter(pl.col("excluded_reason").is_not_null())
    return out.group_by("excluded_reason", maintain_order=True).len().rows()


def nothing_left(frame: pl.DataFrame) -> str:
    """Why a table without a used row has none, and the options that bring rows back."""
    counts = left_out(frame)
    reasons = "; ".join(f"{count} because {reason}" for reason, count in counts)
    states = [
        reason[len("status is ") :] for reason, _ in counts if reason.startswith("status is ")
    ]
    options = " ".join(f"--include-status {_quoted(state)}" for state in states)
    advice = f" Take such rows all the same with {options}." if options else ""
    return f"no row is left to fit. Left out: {reasons}.{advice}"


def ending_doubts(used: pl.DataFrame) -> Iterator[Doubt]:
    """Sentences about used rows whose run may not have finished."""
    for name in used.columns:
        column = used[name]
        states = _states(column)
        if states is not None:
            empty = used.filter(column.is_null())
            if empty.height and any(_word(state) in _FINISHED for state in states.values()):
                yield Doubt(
                    f"Column {name!r} is empty where others are finished; these rows are used. "
                    f"{name_rows(empty)}."
                )
        elif column.dtype == pl.String and not _NOTES.isdisjoint(name_words(name)):
            died = used.filter(column.str.contains(f"(?i){_DIED.pattern}"))
            if died.height:
                yield Doubt(
                    f"Column {name!r} says {died[name][0][:40]!r} of rows that are used; --where "
                    f"leaves them out. {name_rows(died)}."
                )


def is_state_column(column: pl.Series) -> bool:
    """Whether the column holds the final state of each run."""
    return _states(column) is not None


def _states(column: pl.Series) -> dict[str, str] | None:
    """The state in words for each value, which is written as text; None for other columns."""
    words = name_words(column.name)
    flag = " ".join(word for word in words if word not in _FLAG_PREFIXES)
    is_exit = " ".join(words[-2:]) in _EXITS
    loose = bool(words) and words[-1] in _LOOSE_ENDINGS
    if not (flag in _FLAGS or is_exit or loose or (words and words[-1] in _ENDINGS)):
        return None
    counts = column.drop_nulls().cast(pl.String, strict=False).rename("value").value_counts()
    values = counts.sort("count", "value", descending=[True, False])["value"].to_list()
    if not 0 < len(values) <= _MOST_STATES:
        return None
    if flag in _FLAGS:
        return _flags(values, flag)
    if loose:
        return _worded(values, ()) if all(_known(_word(value)) for value in values) else None
    numbers = {value: number for value in values if (number := _number(value)) is not None}
    if len(numbers) < len(values):
        return _worded(values, words)
    if is_exit:
        return {v: f"exit code {v}" if number else "finished" for v, number in numbers.items()}
    return _coded(numbers, words)


def _worded(values: Sequence[str], words: Sequence[str]) -> dict[str, str] | None:
    # "TrialState.PRUNED" is PRUNED.
    states = {value: re.sub(r"^\w+\.(?=\w+$)", "", value.strip()) for value in values}
    known = [_known(_word(state)) for state in states.values()]
    if not all(known) and all(len(state) == 2 for state in states.values()):
        # Of a country's states OK is one.
        return None
    is_of_run = set(words[:-1]) <= _OWNERS
    return states if (any(known) if is_of_run else all(known)) else None


def _flags(values: Sequence[str], flag: str) -> dict[str, str] | None:
    truth = {value: _TRUTH.get(value.strip().lower().removesuffix(".0")) for value in values}
    if any(true is None for true in truth.values()):
        return None
    otherwise = f"not {flag}" if _FLAGS[flag] else flag
    return {v: "finished" if true == _FLAGS[flag] else otherwise for v, true in truth.items()}


def _coded(numbers: Mapping[str, int], words: Sequence[str]) -> dict[str, str] | None:
    """States written as numbers, the most frequent first; those of unknown meaning stay numbers."""
    codes: dict[int, str] = {}
    if "trial" in words or "optuna" in words:
        codes = _OPTUNA
    elif "mlflow" in words or next(iter(numbers.values())) == 3:
        codes = _MLFLOW
    if set(numbers.values()) <= set(codes):
        return {value: codes[number] for value, number in numbers.items()}
    # A number that every row has tells no run from another.
    return {value: value for value in numbers} if len(numbers) > 1 else None


def _number(value: str) -> int | None:
    """A whole number; Slurm's exit codes have two, of the script and of the signal."""
    match = re.fullmatch(r"\s*(-?\d+)(?:\.0+)?(?::(\d+))?\s*", value)
    return None if match is None else int(match[1]) or int(match[2] or 0)


def _word(state: str) -> str:
    return re.sub(r"[\s_\-]+", " ", re.sub(r"^\W+|\W+$", "", state.lower()))


def _known(word: str) -> bool:
    if word in _FINISHED or word in UNFINISHED or word in _FLAGS:
        return True
    # A state with its reason: "failed (out of memory)", "CANCELLED by 1001".
    first = re.split(r"[^a-z]", word, maxsplit=1)[0]
    return first in UNFINISHED or word.startswith(("exit code ", "not "))


def _quoted(state: str) -> str:
    return f"'{state}'" if re.search(r"\W", state) else state
