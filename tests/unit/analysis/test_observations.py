"""What becomes an observations table, and what is refused with which rows."""

from pathlib import Path

import polars as pl
import pytest

from analysis.observations import (
    SCHEMA,
    Duplicate,
    TableError,
    check,
    duplicates,
    name_rows,
    normalise,
    pooled_groups,
    read_table,
)


def _frame(**columns: object) -> pl.DataFrame:
    base: dict[str, object] = {
        "N": [1e8, 2e8, 4e8, 8e8, 16e8, 32e8],
        "D": [2e9, 4e9, 8e9, 16e9, 32e9, 64e9],
        "loss": [3.4, 3.2, 3.0, 2.9, 2.8, 2.7],
    }
    return pl.DataFrame({**base, **columns})


@pytest.mark.parametrize(
    ("names"),
    [
        ("params", "tokens", "loss"),
        ("n_params", "tokens", "val_loss"),
        ("N", "D", "L"),
        ("Parameters", "Training Tokens", "Validation Loss"),
    ],
)
def test_the_fields_usual_spellings_are_understood(names: tuple[str, str, str]) -> None:
    frame = _frame().rename(dict(zip(("N", "D", "loss"), names, strict=True)))
    table = normalise(frame)
    assert table["n_params"].to_list() == frame[names[0]].to_list()
    assert table["val_loss"].to_list() == frame[names[2]].to_list()
    assert table["flops_6nd"][0] == 6 * 1e8 * 2e9


def test_small_letters_are_not_the_symbols() -> None:
    with pytest.raises(TableError, match="no column for val_loss"):
        normalise(_frame().rename({"loss": "l"}))


def test_house_names_say_what_n_counts_and_aliases_do_not() -> None:
    assert normalise(_frame())["n_counts"][0] == "unknown"
    assert normalise(_frame().rename({"N": "n_params"}))["n_counts"][0] == "n_params"
    told = normalise(_frame(), mapping={"n_params_total": "N"})
    assert told["n_counts"][0] == "n_params_total"


def test_the_third_of_n_d_and_c_is_computed_and_said() -> None:
    table = normalise(_frame(C=[1.2e18] * 6).drop("D"))
    assert table["tokens"][0] == pytest.approx(2e9)
    assert "tokens = train_flops" in table["derived"][0]


def test_n_is_computed_from_c_and_d() -> None:
    table = normalise(_frame(C=[1.2e18] * 6).drop("N"))
    assert table["n_params"].to_list() == pytest.approx([1.2e18 / 6 / D for D in _frame()["D"]])
    assert table["derived"][0] == "n_params = train_flops/(6·tokens)"
    assert table["flops_6nd"].to_list() == pytest.approx([1.2e18] * 6)


def test_counted_flops_come_before_6nd_and_the_budget() -> None:
    frame = _frame(C=[2.4e18] * 6, flops_6nd=[1.2e18] * 6, budget=[1e18] * 6)
    assert normalise(frame.drop("D"))["tokens"][0] == pytest.approx(2.4e18 / 6 / 1e8)
    assert normalise(frame.drop("D", "C"))["tokens"][0] == pytest.approx(1.2e18 / 6 / 1e8)


def test_a_tables_own_6nd_is_kept_only_where_n_is_ours() -> None:
    theirs = _frame(flops_6nd=[1.0] * 6)
    assert normalise(theirs)["flops_6nd"][0] == pytest.approx(6 * 1e8 * 2e9)
    assert normalise(theirs.rename({"N": "n_params"}))["flops_6nd"][0] == 1.0


def test_n_above_the_count_without_input_embedding_in_every_row_is_the_total() -> None:
    N = _frame()["N"].to_list()
    for smaller, counts in (
        ([0.9 * n for n in N], "n_params_total"),
        ([N[0], *(0.9 * n for n in N[1:])], "unknown"),
    ):
        table = normalise(_frame(params_no_input_embed=smaller))
        assert table["n_counts"][0] == counts


@pytest.mark.parametrize("name", ["C", "budget", "weight"])
def test_a_number_that_no_fit_can_use_is_refused_in_optional_columns_too(name: str) -> None:
    with pytest.raises(TableError, match="not positive") as caught:
        check(normalise(_frame(**{name: [1e18, 1e18, 0.0, 1e18, 1e18, 1e18]})))
    assert caught.value.rows == (2,)


def test_a_misspelt_column_gets_the_nearest_name() -> None:
    with pytest.raises(TableError, match="Did you mean 'tokns'"):
        normalise(_frame().rename({"D": "tokns"}))
    with pytest.raises(TableError, match="Did you mean 'loss'"):
        normalise(_frame(), mapping={"val_loss": "los"})
    with pytest.raises(TableError, match="Did you mean 'val_loss'"):
        normalise(_frame(), mapping={"val_los": "loss"})


@pytest.mark.parametrize(
    ("value", "words"),
    [(float("nan"), "NaN"), (None, "missing"), (-1.0, "not positive"), (0.0, "not positive")],
)
def test_a_bad_loss_is_named_with_its_row(value: float | None, words: str) -> None:
    with pytest.raises(TableError, match=words) as caught:
        check(normalise(_frame(loss=[3.4, 3.2, value, 2.9, 2.8, 2.7])))
    assert caught.value.rows == (2,)
    assert "Row 2" in str(caught.value)


def test_an_infinite_token_count_is_named() -> None:
    with pytest.raises(TableError, match="infinite"):
        check(normalise(_frame(D=[1e9, float("inf"), 1e9, 1e9, 1e9, 1e9])))


def test_text_in_a_number_column_is_named_with_its_row() -> None:
    with pytest.raises(TableError, match="'7B'") as caught:
        normalise(_frame(N=["1e8", "7B", "4e8", "8e8", "16e8", "32e8"]))
    assert caught.value.rows == (1,)


def test_an_ambiguous_name_asks_which() -> None:
    with pytest.raises(TableError, match="--map"):
        normalise(_frame(params=[1.0] * 6))


def test_several_loss_units_are_refused() -> None:
    with pytest.raises(TableError, match="several units"):
        check(normalise(_frame(loss_unit=["nats", "nats", "bits", "bits", "bits", "bits"])))


def test_a_failed_run_stays_with_its_reason() -> None:
    table = check(
        normalise(_frame(status=["finished"] * 5 + ["failed"], loss=[3.4, 3.2, 3, 2.9, 2.8, None]))
    )
    assert table["excluded_reason"].to_list() == [None] * 5 + ["status is failed"]


def test_experiments_are_seen_as_groups_and_run_names_are_not() -> None:
    frame = _frame(experiment=["a", "a", "a", "b", "b", "b"], name=list("uvwxyz"))
    assert pooled_groups(check(normalise(frame))) == [("experiment", ["a", "b"])]


def test_duplicates_are_named_and_kept() -> None:
    N = [1e8, 1e8, 4e8, 4e8 * (1 + 1e-6), 16e8, 32e8]
    frame = _frame(N=N, D=[2e9, 2e9, 8e9, 8e9, 32e9, 64e9], loss=[3.4, 3.4, 3.0, 3.0, 2.8, 2.7])
    assert duplicates(check(normalise(frame))) == [Duplicate(1, 0, True), Duplicate(3, 2, False)]


@pytest.mark.parametrize("column", ["N", "D", "loss"])
@pytest.mark.parametrize(("off", "found"), [(0.9e-4, 1), (1.2e-4, 0)])
def test_rows_are_one_run_read_twice_when_n_d_and_loss_agree_to_a_ten_thousandth(
    column: str, off: float, found: int
) -> None:
    frame = _frame()
    values = {name: frame[name].to_list() for name in frame.columns}
    for name in values:
        values[name][1] = values[name][0] * (1 + off if name == column else 1)
    hits = duplicates(check(normalise(pl.DataFrame(values))))
    assert hits == [Duplicate(1, 0, False)][:found]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "json"])
def test_files_of_each_kind_hold_the_same_table(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"runs.{suffix}"
    frame = _frame()
    if suffix == "parquet":
        frame.write_parquet(path)
    elif suffix == "json":
        frame.write_json(path)
    else:
        frame.write_csv(path, separator="\t" if suffix == "tsv" else ",")
    assert read_table(path)["val_loss"].to_list() == frame["loss"].to_list()


def test_unreadable_files_are_table_errors(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="is not a file"):
        read_table(tmp_path / "none.csv")
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"not parquet")
    with pytest.raises(TableError, match="cannot be read"):
        read_table(broken)
    empty = tmp_path / "empty.csv"
    empty.write_text("N,D,loss\n")
    with pytest.raises(TableError, match="no rows"):
        read_table(empty)


def test_the_trackers_table_passes_unchanged() -> None:
    row = {name: None for name in SCHEMA} | {
        "run_id": "r1", "name": "a", "n_params": 2**40 + 1, "n_params_total": 2**41,
        "n_params_non_embedding": 2**39, "tokens": 10**10, "train_flops": 1e21,
        "flops_6nd": 6e21, "val_loss": 3.0, "loss_unit": "nats_per_token", "status": "finished",
    }  # fmt: skip
    table = check(pl.DataFrame([row], schema=SCHEMA))
    assert int(table["n_params"][0]) == 2**40 + 1
    assert (table["n_counts"][0], table["c_counts"][0]) == ("n_params", "train_flops")
    assert table["excluded_reason"][0] is None


def test_semicolons_and_blank_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(_frame().write_csv(separator=";") + "\n\n")
    assert read_table(path).height == 6


def test_c_counts_what_its_column_says_and_6nd_without_one() -> None:
    frame = _frame(C=[1.2e18] * 6)
    assert normalise(_frame())["c_counts"][0] == "flops_6nd"
    assert normalise(frame)["c_counts"][0] == "unknown"
    assert normalise(frame.rename({"C": "train_flops"}))["c_counts"][0] == "train_flops"


def test_a_count_without_the_input_embedding_is_our_n() -> None:
    for theirs, counts in (
        ("params_no_input_embed", "n_params"),
        ("params_no_embed", "n_params_non_embedding"),
        ("total_params", "n_params_total"),
    ):
        table = normalise(_frame().rename({"N": theirs}))
        assert table["n_counts"][0] == counts
        assert table["n_params"].to_list() == _frame()["N"].to_list()


def test_bits_per_byte_are_a_loss_in_their_own_unit() -> None:
    table = normalise(_frame().rename({"loss": "bpb"}))
    assert table["val_loss"].to_list() == _frame()["loss"].to_list()
    assert table["loss_unit"].unique().to_list() == ["bits_per_byte"]
    assert normalise(_frame())["loss_unit"].unique().to_list() == ["unknown"]


def test_a_status_counts_as_finished_in_any_case_and_an_excluded_row_may_hold_anything() -> None:
    table = check(
        normalise(
            _frame(
                status=["Finished", "DONE", None, "ok", "running", "finished"],
                loss=[3.4, 3.2, 3.0, 2.9, float("nan"), 2.7],
            )
        )
    )
    reasons = table["excluded_reason"].to_list()
    assert reasons == [None, None, None, None, "status is running", None]


def test_twelve_rows_are_named_and_the_rest_counted() -> None:
    assert name_rows([4]) == "Row 4 (counted from 0)"
    assert name_rows(range(12)).startswith("Rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 (")
    assert name_rows(range(15)).endswith("10, 11 and 3 more (counted from 0)")
