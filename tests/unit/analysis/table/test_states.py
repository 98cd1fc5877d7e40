"""How runs ended, under the names and in the types that trackers write."""

import polars as pl
import pytest

from analysis.table.observations import TableError
from analysis.table.states import exclude_unfinished, is_state_column, left_out, nothing_left


def _reasons(name: str, values: list, include: tuple[str, ...] = (), dtype=None) -> list:
    column = pl.Series(name, values, dtype=dtype)
    frame = pl.DataFrame({name: column}).with_columns(
        pl.lit(None, pl.String).alias("excluded_reason")
    )
    return exclude_unfinished(frame, include)["excluded_reason"].to_list()


@pytest.mark.parametrize(
    "name",
    [
        *("status", "State", "run_state", "Run Status", "job_status", "jobState", "sys/state"),
        *("trial_state", "info.status", "final outcome"),
    ],
)
def test_the_state_is_read_under_its_names(name: str) -> None:
    assert _reasons(name, ["finished", "crashed", None]) == [None, "status is crashed", None]


@pytest.mark.parametrize(
    "word",
    [
        *("running", "Crashed", "FAILED", "KILLED", "preempted", "SCHEDULED", "PRUNED", "FAIL"),
        *("WAITING", "diverged", "OOM", "nan", "OUT_OF_MEMORY", "Timed out", "in-progress"),
        *("CANCELLED by 1001", "failed (oom)", "interrupted", "planned", "training"),
    ],
)
def test_words_of_runs_that_did_not_finish(word: str) -> None:
    assert _reasons("status", ["done", word]) == [None, f"status is {word}"]
    # Alone they are known as well.
    assert _reasons("status", [word, word]) == [f"status is {word}"] * 2


@pytest.mark.parametrize(
    "word", ["finished", "FINISHED", "COMPLETE", "completed", "Done", "success", "ok", "Succeeded"]
)
def test_words_of_finished_runs(word: str) -> None:
    assert _reasons("State", [word, "failed"]) == [None, "status is failed"]


def test_an_enum_keeps_the_word_after_its_class() -> None:
    values = ["TrialState.COMPLETE", "TrialState.PRUNED"]
    assert _reasons("state", values) == [None, "status is PRUNED"]


@pytest.mark.parametrize(
    ("name", "values", "reasons"),
    [
        ("finished", [True, False], [None, "status is not finished"]),
        ("is_complete", [1, 0], [None, "status is not complete"]),
        ("failed", ["no", "yes"], [None, "status is failed"]),
        ("Crashed", ["False", "True"], [None, "status is crashed"]),
        ("has_diverged", [0.0, 1.0], [None, "status is diverged"]),
        ("oom", [False, None], [None, None]),
        ("exit_code", [0, 137], [None, "status is exit code 137"]),
        ("ExitCode", ["0:0", "0:9"], [None, "status is exit code 0:9"]),
        ("mlflow_status", [3, 4], [None, "status is failed"]),
        ("Status", [3, 3, 5], [None, None, "status is killed"]),
        ("trial_state", [1, 2], [None, "status is pruned"]),
    ],
)
def test_flags_and_numbers(name: str, values: list, reasons: list) -> None:
    assert _reasons(name, values) == reasons


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("state", ["Ohio", "Texas", "Utah"]),
        ("state", ["CA", "OK", "NY"]),
        ("status", ["red", "blue", "red"]),
        ("completed", [0.2, 1.0, 0.7]),
        ("status", [1, 1, 1]),
        ("eval_status", ["failed", "not run yet", "x"]),
        ("optimizer_state", ["fp32", "bf16", "fp32"]),
        ("qc_outlier", [True, False, True]),
        ("converged", [False, False, False]),
        ("loss_nan_steps", [0, 1, 0]),
    ],
)
def test_other_columns_exclude_nothing(name: str, values: list) -> None:
    assert _reasons(name, values) == [None] * 3
    assert not is_state_column(pl.Series(name, values))


def test_a_state_nobody_knows_is_asked_for_by_name() -> None:
    values = ["finished", "archived", "failed"]
    with pytest.raises(TableError, match=r"'status'.*'archived'.*--include-status archived"):
        _reasons("status", values)
    assert _reasons("status", values, ("archived",)) == [None, None, "status is failed"]
    # The option says which rows to take; the rest is left out by its own word.
    excluded = ["status is archived", "status is failed"]
    assert _reasons("status", values, ("finished",)) == [None, *excluded]


def test_numbers_that_may_mean_either_are_asked_for() -> None:
    with pytest.raises(TableError, match="does not know '0', '1'"):
        _reasons("status", [0, 0, 1])
    assert _reasons("status", [0, 0, 1], ("0",)) == [None, None, "status is 1"]


def test_an_included_state_is_used_in_any_case_and_must_be_there() -> None:
    assert _reasons("State", ["finished", "CRASHED", "failed"], ("crashed",)) == [
        None,
        None,
        "status is failed",
    ]
    with pytest.raises(TableError, match=r"--include-status crashd.*crashed, finished"):
        _reasons("State", ["finished", "crashed"], ("crashd",))


def test_of_two_columns_either_excludes_and_an_earlier_reason_stays() -> None:
    frame = pl.DataFrame(
        {
            "state": ["finished", "finished", "failed", None],
            "diverged": [False, True, True, True],
            "excluded_reason": [None, None, None, "not trained yet"],
        }
    )
    reasons = exclude_unfinished(frame)["excluded_reason"].to_list()
    assert reasons == [None, "status is diverged", "status is failed", "not trained yet"]
    # A row is used once none of its columns excludes it.
    reasons = exclude_unfinished(frame, ["diverged"])["excluded_reason"].to_list()
    assert reasons == [None, None, "status is failed", "not trained yet"]


def test_a_table_without_a_row_left_says_why_and_how_to_take_them() -> None:
    reasons = ["status is failed", "status is failed", "not where N > 1", "status is exit code 1"]
    frame = pl.DataFrame({"excluded_reason": reasons})
    assert left_out(frame)[0] == ("status is failed", 2)
    sentence = nothing_left(frame)
    assert "2 because status is failed; 1 because not where N > 1" in sentence
    assert "--include-status failed --include-status 'exit code 1'" in sentence
