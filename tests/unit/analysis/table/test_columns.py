"""What of a file becomes an observations table, and what is refused with which rows."""

import polars as pl
import pytest

from analysis.table.columns import normalise
from analysis.table.observations import TableError
from tests.others_tables import six_runs


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
    frame = six_runs().rename(dict(zip(("N", "D", "loss"), names, strict=True)))
    rows = normalise(frame).frame
    assert rows["n_params"].to_list() == frame[names[0]].to_list()
    assert rows["val_loss"].to_list() == frame[names[2]].to_list()
    assert rows["flops_6nd"][0] == 6 * 1e8 * 2e9


def test_small_letters_are_not_the_symbols() -> None:
    with pytest.raises(TableError, match="no column for val_loss"):
        normalise(six_runs().rename({"loss": "l"}))


def test_house_names_say_what_n_counts_and_aliases_do_not() -> None:
    assert normalise(six_runs()).n_counts == "unknown"
    assert normalise(six_runs().rename({"N": "n_params"})).n_counts == "n_params"
    assert normalise(six_runs(), mapping={"n_params_total": "N"}).n_counts == "n_params_total"
    assert normalise(six_runs(), mapping={"n_params_total": "N*1"}).n_counts == "n_params_total"
    # Mapped to n_params, a column is only found; what it counts its own name may say.
    assert normalise(six_runs(), mapping={"n_params": "N"}).n_counts == "unknown"
    total = six_runs().rename({"N": "Total Params"})
    assert normalise(total, mapping={"n_params": "Total Params"}).n_counts == "n_params_total"
    no_input = {"n_params_no_input_embedding": "N"}
    assert normalise(six_runs(), mapping=no_input).n_counts == "n_params"
    assert normalise(six_runs(params_no_input_embed=[1e7] * 6)).n_counts == "n_params_total"


def test_a_mapped_count_is_the_fits_n_before_those_known_by_name() -> None:
    frame = six_runs(total_params=[9e9] * 6, body=[1e7] * 6).drop("N")
    table = normalise(frame, mapping={"n_params_non_embedding": "body"})
    assert table.n_counts == "n_params_non_embedding"
    assert table.frame["n_params"].to_list() == [1e7] * 6


def test_the_third_of_n_d_and_c_is_computed_and_said() -> None:
    table = normalise(six_runs(C=[1.2e18] * 6).drop("D"))
    assert table.frame["tokens"][0] == pytest.approx(2e9)
    assert table.derived == "tokens = train_flops/(6·n_params)"


def test_a_misspelt_column_gets_the_nearest_name() -> None:
    with pytest.raises(TableError, match="Did you mean 'tokns'"):
        normalise(six_runs().rename({"D": "tokns"}))
    with pytest.raises(TableError, match=r"Then --map 'tokens=train tokenz'\."):
        normalise(six_runs().rename({"D": "train tokenz"}))
    with pytest.raises(TableError, match="Did you mean 'loss'"):
        normalise(six_runs(), mapping={"val_loss": "los"})
    with pytest.raises(TableError, match="Did you mean 'val_loss'"):
        normalise(six_runs(), mapping={"val_los": "loss"})


def test_columns_in_sections_of_a_tracker_are_offered_at_once() -> None:
    exported = six_runs().rename({"N": "arch/params_M", "D": "data.tokens", "loss": "eval/nll"})
    exported = exported.with_columns(
        pl.lit(3.0).alias("train/loss"), pl.lit(20.0).alias("eval/ppl")
    )
    with pytest.raises(TableError) as caught:
        normalise(exported)
    offers = (
        "Did you mean 'eval/nll'? Then --map val_loss=eval/nll. "
        "'arch/params_M' names a unit: --map 'n_params=\"arch/params_M\"*1e6'. "
        "Did you mean 'data.tokens'? Then --map tokens=data.tokens."
    )
    assert str(caught.value).endswith(offers)
    mapped = {"val_loss": "eval/nll", "n_params": '"arch/params_M"*1e6', "tokens": "data.tokens"}
    assert normalise(exported, mapping=mapped).frame["val_loss"][0] == six_runs()["loss"][0]


@pytest.mark.parametrize("column", ["tokens/params", "D/N"])
def test_a_ratio_is_not_offered_as_what_it_is_divided_by(column: str) -> None:
    with pytest.raises(TableError) as caught:
        normalise(six_runs().rename({"N": column}))
    assert "Name it with --map n_params=COLUMN." in str(caught.value)


def test_text_in_a_number_column_is_named_with_its_row() -> None:
    with pytest.raises(TableError, match="'seven'") as caught:
        normalise(six_runs(N=["1e8", "seven", "4e8", "8e8", "16e8", "32e8"]))
    assert caught.value.rows == (1,)


def test_an_ambiguous_name_asks_which() -> None:
    with pytest.raises(TableError, match="--map"):
        normalise(six_runs(params=[1.0] * 6))


def test_a_frames_facts_are_no_columns_of_it() -> None:
    table = normalise(six_runs(C=[1.2e18] * 6, bpb=[1.0] * 6).drop("loss"))
    assert not {"n_counts", "c_counts", "derived", "loss_unit"} & set(table.frame.columns)
    assert (table.c_counts, table.loss_unit, table.derived) == ("flops_6nd", "bits_per_byte", "")


def test_only_the_house_name_says_that_flops_are_counted() -> None:
    frame = six_runs(train_flops=[1.2e18] * 6)
    assert normalise(frame).c_counts == "train_flops"
    assert normalise(frame.rename({"train_flops": "C"})).c_counts == "flops_6nd"
    mapped = normalise(frame.rename({"train_flops": "C"}), mapping={"train_flops": "C"})
    assert mapped.c_counts == "train_flops"


def test_a_mapped_column_goes_before_one_of_that_name() -> None:
    table = normalise(six_runs(val_loss=[9.0] * 6), mapping={"val_loss": "loss"})
    assert table.frame["val_loss"].to_list() == six_runs()["loss"].to_list()


def test_a_column_called_row_gives_way_to_the_position() -> None:
    table = normalise(six_runs(row=[9, 8, 7, 6, 5, 4]))
    assert table.frame["row"].to_list() == [0, 1, 2, 3, 4, 5]


def test_n_is_computed_from_c_and_d() -> None:
    table = normalise(six_runs(C=[1.2e18] * 6).drop("N"))
    N = [1.2e18 / 6 / D for D in six_runs()["D"]]
    assert table.frame["n_params"].to_list() == pytest.approx(N)
    assert table.derived == "n_params = train_flops/(6·tokens)"
    assert table.frame["flops_6nd"].to_list() == pytest.approx([1.2e18] * 6)


def test_counted_flops_come_before_6nd_and_the_budget() -> None:
    frame = six_runs(C=[2.4e18] * 6, flops_6nd=[1.2e18] * 6, budget=[1e18] * 6)
    assert normalise(frame.drop("D")).frame["tokens"][0] == pytest.approx(2.4e18 / 6 / 1e8)
    assert normalise(frame.drop("D", "C")).frame["tokens"][0] == pytest.approx(1.2e18 / 6 / 1e8)


def test_a_tables_own_6nd_is_kept_only_where_n_is_ours() -> None:
    theirs = six_runs(flops_6nd=[1.0] * 6)
    assert normalise(theirs).frame["flops_6nd"][0] == pytest.approx(6 * 1e8 * 2e9)
    assert normalise(theirs.rename({"N": "n_params"})).frame["flops_6nd"][0] == 1.0


def test_n_above_the_count_without_input_embedding_in_every_row_is_the_total() -> None:
    N = six_runs()["N"].to_list()
    for smaller, counts in (
        ([0.9 * n for n in N], "n_params_total"),
        ([N[0], *(0.9 * n for n in N[1:])], "unknown"),
    ):
        table = normalise(six_runs(params_no_input_embed=smaller))
        assert table.n_counts == counts


def test_c_counts_what_its_column_says_and_6nd_without_one() -> None:
    frame = six_runs(C=[1.2e18] * 6)
    assert normalise(six_runs()).c_counts == "flops_6nd"
    assert normalise(frame).c_counts == "flops_6nd"
    assert normalise(frame.rename({"C": "train_flops"})).c_counts == "train_flops"


def test_a_count_without_the_input_embedding_is_our_n() -> None:
    for theirs, counts in (
        ("params_no_input_embed", "n_params"),
        ("params_no_embed", "n_params_non_embedding"),
        ("total_params", "n_params_total"),
    ):
        table = normalise(six_runs().rename({"N": theirs}))
        assert table.n_counts == counts
        assert table.frame["n_params"].to_list() == six_runs()["N"].to_list()


def test_bits_per_byte_are_a_loss_in_their_own_unit() -> None:
    table = normalise(six_runs().rename({"loss": "bpb"}))
    assert table.frame["val_loss"].to_list() == six_runs()["loss"].to_list()
    assert table.loss_unit == "bits_per_byte"
    assert normalise(six_runs()).loss_unit == "unknown"


@pytest.mark.parametrize("kind", [pl.Categorical, pl.Enum(["1e8", "2e8"])])
def test_categories_are_text(kind: pl.DataType) -> None:
    frame = pl.DataFrame({"N": ["1e8", "2e8"], "D": [1e9, 2e9], "loss": [3.0, 2.9]})
    table = normalise(frame.with_columns(pl.col("N").cast(kind)))
    assert table.frame["n_params"].to_list() == [1e8, 2e8]
    assert table.frame.schema["N"] == pl.String


def test_weights_are_read_only_where_a_map_says_so() -> None:
    frame = six_runs(weights=[1e8, 2e8, 4e8, 8e8, 16e8, 32e8])
    table = normalise(frame)
    assert "row_weight" not in table.frame.columns
    [doubt] = table.doubts
    assert "--map weight=weights" in doubt.sentence
    assert not doubt.bars_optimum
    weighted = normalise(frame, mapping={"weight": "weights"})
    assert weighted.frame["row_weight"].to_list() == frame["weights"].to_list()
    assert not weighted.doubts


def test_a_column_called_as_weights_are_inside_weighs_where_a_map_says_so() -> None:
    frame = six_runs(row_weight=[1.0, 2, 4, 8, 16, 32])
    table = normalise(frame)
    assert "row_weight" not in table.used.columns
    assert "--map weight=row_weight" in table.doubts[0].sentence
    weighted = normalise(frame, mapping={"weight": "row_weight"})
    assert weighted.used["row_weight"].to_list() == frame["row_weight"].to_list()


def test_active_parameters_are_n_and_all_of_them_another_count() -> None:
    experts = six_runs(total_params=[8e8] * 6).rename({"N": "active_params"})
    table = normalise(experts)
    assert table.used["n_params"].to_list() == six_runs()["N"].to_list()
    assert table.n_counts == "unknown"
    assert "n_params_total" in table.used.columns
    assert (
        not normalise(experts, mapping={"n_params_total": "total_params"})
        .used.filter(pl.col("n_params") != 8e8)
        .height
    )


@pytest.mark.parametrize(
    ("theirs", "offer"),
    [
        ("log10N", "n_params=pow(10,log10N)"),
        ("log10(N)", 'n_params=pow(10,"log10(N)")'),
        ("log2 N", 'n_params=pow(2,"log2 N")'),
        ("ln_params", "n_params=exp(ln_params)"),
        ("params_log", "n_params=pow(10,params_log)"),
    ],
)
def test_a_logarithm_is_offered_with_its_base(theirs: str, offer: str) -> None:
    with pytest.raises(TableError) as caught:
        normalise(six_runs().rename({"N": theirs}))
    assert f"{theirs!r} is a logarithm: --map '{offer}'" in str(caught.value)


def test_a_log_loss_may_be_the_cross_entropy_itself() -> None:
    with pytest.raises(TableError) as caught:
        normalise(six_runs().rename({"loss": "log_loss"}))
    for offer in ("--map 'val_loss=log_loss';", "--map 'val_loss=exp(log_loss)'."):
        assert offer in str(caught.value)


@pytest.mark.parametrize("theirs", ["loss_bits", "val/loss (bits)", "bits_per_token"])
def test_a_loss_in_bits_is_offered_in_nats(theirs: str) -> None:
    with pytest.raises(TableError, match=r"is in bits: --map 'val_loss=.*\*ln\(2\)'"):
        normalise(six_runs().rename({"loss": theirs}))


def test_every_column_read_has_its_source() -> None:
    table = normalise(six_runs(C=[1.2e18] * 6).drop("D"))
    assert [(s.name, s.given) for s in table.read] == [
        ("n_params", "N"),
        ("train_flops", "C"),
        ("val_loss", "loss"),
        ("tokens", "train_flops/(6·n_params)"),
    ]


def test_arithmetic_is_mapped_and_a_plain_column_of_that_name_goes_before_it() -> None:
    table = normalise(
        six_runs(size=[100, 200, 400, 800, 1600, 3200]), mapping={"n_params": "size*1e6"}
    )
    assert table.frame["n_params"].to_list() == pytest.approx(six_runs()["N"].to_list())
    assert table.source("n_params").arithmetic
    odd = six_runs().rename({"N": "Params (M)"})
    assert normalise(odd, mapping={"n_params": "Params (M)"}).source("n_params").written == ""


def test_a_missing_column_that_names_its_unit_is_offered_with_the_factor() -> None:
    for theirs, offer in (
        ("Params (M)", """--map 'n_params="Params (M)"*1e6'"""),
        ("params_millions", "--map 'n_params=params_millions*1e6'"),
        ("N_b", "--map 'n_params=N_b*1e9'"),
    ):
        with pytest.raises(TableError) as caught:
            normalise(six_runs().rename({"N": theirs}))
        assert offer in str(caught.value)


def test_every_missing_column_that_names_its_unit_is_offered_at_once() -> None:
    theirs = {"N": "Params (M)", "D": "tokens_billions", "loss": "ppl"}
    with pytest.raises(TableError) as caught:
        normalise(six_runs().rename(theirs))
    offers = ("val_loss=ln(ppl)", 'n_params="Params (M)"*1e6', "tokens=tokens_billions*1e9")
    for offer in offers:
        assert f"--map '{offer}'" in str(caught.value)


@pytest.mark.parametrize(
    "theirs", ["tokens_per_param", "Tokens per parameter", "tokens/param", "D/N", "TPP"]
)
def test_tokens_per_parameter_are_offered_as_a_product(theirs: str) -> None:
    with pytest.raises(TableError) as caught:
        normalise(six_runs().rename({"D": theirs}))
    product = theirs if theirs in ("tokens_per_param", "TPP") else f'"{theirs}"'
    assert f"--map 'tokens=N*{product}'" in str(caught.value)


@pytest.mark.parametrize(
    ("theirs", "offer"),
    [
        ({"C": "train_petaflops"}, "train_flops=train_petaflops*1e15"),
        ({"C": "EFLOPs"}, "train_flops=EFLOPs*1e18"),
        ({"steps": "steps", "batch": "batch_size", "length": "seq_len"},
         "tokens=steps*batch_size*seq_len"),
        ({"steps": "max_steps", "batch": "global_batch_size"},
         "tokens=max_steps*global_batch_size*SEQUENCE_LENGTH"),
        ({"steps": "config/iters", "batch": "batch_size_tokens", "length": "ctx"},
         'tokens="config/iters"*batch_size_tokens'),
    ],
)  # fmt: skip
def test_tokens_are_offered_from_what_the_table_has_instead(
    theirs: dict[str, str], offer: str
) -> None:
    frame = six_runs(**{name: [1000.0] * 6 for name in theirs.values()}).drop("D")
    with pytest.raises(TableError, match="no column for tokens") as caught:
        normalise(frame)
    assert f"--map '{offer}'" in str(caught.value)


def test_mlflows_parameters_are_offered_by_their_own_names_and_no_other_parameter() -> None:
    frame = six_runs().rename({"N": "params.n_params", "loss": "metrics.val_loss"})
    frame = frame.with_columns(pl.lit(1e-3).alias("params.lr"))
    for columns, offered in ((frame, True), (frame.drop("params.n_params"), False)):
        with pytest.raises(TableError) as caught:
            normalise(columns)
        assert "--map val_loss=metrics.val_loss" in str(caught.value)
        assert ("--map n_params=params.n_params" in str(caught.value)) == offered
        assert "=params.lr" not in str(caught.value)


def test_a_perplexity_is_offered_as_its_logarithm() -> None:
    with pytest.raises(TableError, match=r"--map 'val_loss=ln\(eval_ppl\)'"):
        normalise(six_runs().rename({"loss": "eval_ppl"}))


def test_arithmetic_is_no_name_of_a_run() -> None:
    with pytest.raises(TableError, match="no column 'N\\*2'"):
        normalise(six_runs(), mapping={"run_id": "N*2"})


def test_a_map_to_an_unknown_name_is_shown_as_it_was_typed() -> None:
    with pytest.raises(TableError, match=r"^--map 'n_prams=N \+ 1': 'n_prams'.*'n_params'"):
        normalise(six_runs(), mapping={"n_prams": "N + 1"})
