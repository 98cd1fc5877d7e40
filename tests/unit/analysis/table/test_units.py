"""Units that cannot be are doubted by column and cause; what is merely unusual is not."""

import math
from collections.abc import Sequence

import polars as pl
import pytest

from analysis.table.columns import normalise
from analysis.table.observations import Doubt
from tests.others_tables import BASE

Rows = Sequence[Sequence[float | None]]


def _doubts(header: Sequence[str], rows: Rows, **mapping: str) -> tuple[Doubt, ...]:
    frame = pl.DataFrame(list(rows), schema=list(header), orient="row", strict=False)
    return normalise(frame, mapping=mapping).doubts


@pytest.mark.parametrize(
    ("n_unit", "d_unit", "column", "cause", "mends"),
    [
        (1e6, 1, "N ('N')", "N in millions", ("n_params=N*1e6",)),
        (1, 1e9, "D ('D')", "D in billions", ("tokens=D*1e9",)),
        (1, 1e6, "D ('D')", "D in millions", ("tokens=D*1e6",)),
        (1e6, 1e6, "N ('N')", "N in millions and D in millions", ("n_params=N*1e6", "D*1e6")),
        (1e6, 1e9, "N ('N')", "N in millions and D in billions", ("n_params=N*1e6", "D*1e9")),
        (1e9, 1e12, "N ('N')", "N in billions and D in trillions", ("N*1e9", "tokens=D*1e12")),
        (1, 1e-9, "D ('D')", "D 1e9 too large", ("tokens=D*1e-9",)),
    ],
)
def test_counts_in_other_units_are_named_with_the_map_that_mends_them(
    n_unit: float, d_unit: float, column: str, cause: str, mends: tuple[str, ...]
) -> None:
    [doubt] = _doubts(("N", "D", "loss"), [(N / n_unit, D / d_unit, loss) for N, D, loss in BASE])
    assert doubt.bars_optimum
    assert doubt.sentence.startswith(column)
    assert f"Is {cause}?" in doubt.sentence
    assert all(mend in doubt.sentence for mend in mends)


@pytest.mark.parametrize(
    ("unit", "cause"),
    [
        (1e9, "GFLOPs"),
        (1e15, "PFLOPs"),
        (1e18, "EFLOPs"),
        (8.64e19, "PF-days"),
        (1e21, "ZFLOPs"),
    ],
)
def test_compute_is_held_against_6nd(unit: float, cause: str) -> None:
    rows = [(N, D, 6.0 * N * D / unit, loss) for N, D, loss in BASE]
    [doubt] = _doubts(("N", "D", "C", "loss"), rows)
    assert doubt.bars_optimum
    assert f"Is C in {cause}?" in doubt.sentence
    # Rows without C, and a table without any, have nothing to hold against it.
    some = [(*row[:2], row[2] if k % 2 else None, row[3]) for k, row in enumerate(rows)]
    assert cause in _doubts(("N", "D", "C", "loss"), some)[0].sentence
    none = [(N, D, None, loss) for N, D, _, loss in rows]
    assert not _doubts(("N", "D", "C", "loss"), none)


def test_log10_of_flops_is_told_from_a_unit_by_how_it_follows_6nd() -> None:
    power = [(N, D, round(math.log10(6.0 * N * D * 1.3), 2), loss) for N, D, loss in BASE]
    exa = [(N, 2 * D, 12.0 * N * D / 1e18, loss) for N, D, loss in BASE]
    header = ("N", "D", "C", "loss")
    assert _doubts(header, power)[0].sentence.endswith(
        "Is C log10 of the FLOPs? Then --map 'train_flops=pow(10,C)'"
    )
    assert _doubts(("N", "D", "budget", "loss"), power)[0].sentence.endswith(
        "Are they log10 of the FLOPs? Then --map 'flops_budget=pow(10,budget)'"
    )
    # 20 EFLOPs are 2e19, not far from 10^20.
    small = [row for row in exa if 19 < row[2] < 21]
    assert small
    assert "Is C in EFLOPs?" in _doubts(header, small)[0].sentence
    assert "log10" not in _doubts(header, small)[0].sentence
    # Without D nothing tells the two apart.
    [doubt] = _doubts(("N", "C", "loss"), [(N, C, loss) for N, _, C, loss in power])
    assert "--map 'train_flops=C*1e" in doubt.sentence
    assert doubt.sentence.endswith(" If C is log10 of the FLOPs: --map 'train_flops=pow(10,C)'")


def test_flops_that_are_right_tell_which_of_n_and_d_is_not() -> None:
    header = ("N", "D", "C", "loss")
    for n_unit, d_unit, cause in (
        (1e6, 1, "N in millions"),
        (1, 1e9, "D in billions"),
        (1e6, 1e9, "N in millions and D in billions"),
    ):
        rows = [(N / n_unit, D / d_unit, 6.0 * N * D, loss) for N, D, loss in BASE]
        assert f"Is {cause}? Then" in _doubts(header, rows)[0].sentence


def test_a_column_computed_from_flops_is_traced_to_its_unit() -> None:
    rows = [(N / 1e6, 6.0 * N * D, loss) for N, D, loss in BASE]
    assert "Is N in millions? Then --map 'n_params=N*1e6'" in (
        _doubts(("N", "C", "loss"), rows)[0].sentence
    )
    rows = [(N, 6.0 * N * D / 8.64e19, loss) for N, D, loss in BASE]
    assert "--map 'train_flops=C*8.64e19'" in _doubts(("N", "C", "loss"), rows)[0].sentence


def test_budgets_in_another_unit_are_named_beside_n_and_d_that_are_right() -> None:
    rows = [(N, D, 6.0 * N * D / 1e18, loss) for N, D, loss in BASE]
    [doubt] = _doubts(("N", "D", "budget", "loss"), rows)
    assert "Then --map 'flops_budget=budget*1e18'" in doubt.sentence


def test_mapped_arithmetic_is_mended_in_brackets() -> None:
    [doubt] = _doubts(("N", "D", "loss"), BASE, tokens="D/1e9")
    assert "--map 'tokens=(D/1e9)*1e9'" in doubt.sentence


def test_a_row_in_another_unit_than_the_others_is_named() -> None:
    rows = [(N / 1e6 if k == 3 else N, D, loss) for k, (N, D, loss) in enumerate(BASE)]
    [doubt] = _doubts(("N", "D", "loss"), rows)
    assert doubt.sentence == (
        "N ('N') mixes units: 50 beside a median of 8e+07. Row 4 (counted from 1)."
    )


def test_a_row_far_from_the_median_that_can_be_is_no_mixture_of_units() -> None:
    # Ladders from a toy to a large model.
    assert not _doubts(("N", "D", "loss"), [*BASE, (5e3, 1e9, 6.0), (7e12, 1e14, 1.5)])


def test_sizes_with_fractions_below_any_model_are_in_millions() -> None:
    # 7.0B on 140B tokens and the like, written in millions: each number alone could be.
    rows = [(round(N / 1e5, 1) + 0.1, round(D / 1e5), loss) for N, D, loss in BASE]
    [doubt] = _doubts(("N", "D", "loss"), rows)
    assert doubt.bars_optimum
    assert doubt.sentence.startswith("N ('N') is 80.1 in a row, and parameters are whole.")
    assert "--map 'n_params=N*1e6'" in doubt.sentence
    # Sizes computed from FLOPs have fractions, and so may simulated ones of real models.
    sizes = zip((1e3, 3e3, 1e4, 3e4), (1e6, 3e6, 1e7, 3e7), strict=True)
    computed = [(D, 6 * (N + 0.5) * D, 4.0) for N, D in sizes]
    assert not _doubts(("D", "C", "loss"), computed)
    assert not _doubts(("N", "D", "loss"), [(N + 0.5, D, loss) for N, D, loss in BASE])


def test_exchanged_columns_are_told_from_a_unit() -> None:
    [doubt] = _doubts(("N", "D", "loss"), [(D, N, loss) for N, D, loss in BASE])
    assert doubt.sentence.endswith(
        "Are N and D exchanged? Then --map 'n_params=D' --map 'tokens=N'"
    )


def test_steps_times_another_batch_do_not_count_sequences() -> None:
    rows = [(N, D, loss, D / 2048 / 32, 32.0) for N, D, loss in BASE]
    assert not _doubts(("N", "D", "loss", "steps", "batch"), rows)
    sequences = [(N, D, loss, D / 32, 32.0) for N, D, loss in BASE]
    [doubt] = _doubts(("N", "D", "loss", "steps", "batch"), sequences)
    assert "so it seems to count sequences" in doubt.sentence


def test_points_that_mark_thousands_are_told_from_decimals() -> None:
    german = [(N, float(f"{round(D / 1e8):,}".replace(",", ".")), loss) for N, D, loss in BASE]
    [doubt] = _doubts(("N", "D", "loss"), german)
    assert "'D' holds 833 and 2.778: does the point mark thousands?" in doubt.sentence
    decimals = [(N, D / 1e8, loss) for N, D, loss in BASE]
    assert "thousands" not in _doubts(("N", "D", "loss"), decimals)[0].sentence


def test_a_perplexity_is_told_by_its_size_or_its_name() -> None:
    rows = [(N, D, math.exp(loss)) for N, D, loss in BASE]
    [doubt] = _doubts(("N", "D", "loss"), rows)
    assert "more nats than a token of any vocabulary costs" in doubt.sentence
    assert "--map 'val_loss=ln(loss)'" in doubt.sentence
    # A perplexity of 3 to 5 may be a loss by its size.
    [doubt] = _doubts(("N", "D", "val/ppl"), BASE, val_loss="val/ppl")
    assert """--map 'val_loss=ln("val/ppl")'""" in doubt.sentence
    assert not _doubts(("N", "D", "ppl"), rows, val_loss="ln(ppl)")


def test_every_doubt_about_a_unit_bars_an_optimum() -> None:
    for rows in (
        [(N, D / 1e9, loss) for N, D, loss in BASE],
        [(N, D, math.exp(loss)) for N, D, loss in BASE],
    ):
        assert all(doubt.bars_optimum for doubt in _doubts(("N", "D", "loss"), rows))


def _small(sizes: Sequence[float], tokens: Sequence[float]) -> list[tuple[float, float, float]]:
    return [(N, D, 2.1 + 20 / N**0.3 + 40 / D**0.28) for N in sizes for D in tokens]


def _vocabulary(width: int) -> int:
    """Parameters of a head over a vocabulary of 32,000."""
    return 32_000 * width


UNUSUAL: dict[str, tuple[Sequence[str], Rows]] = {
    "models of a few thousand parameters": (
        ("N", "D", "loss"),
        _small((1500, 4000, 15_000, 60_000), (1e5, 3e6, 1e8, 1e9)),
    ),
    "a run that saw little": (("N", "D", "loss"), _small((2e4, 1e5), (8e3, 1e6, 3e6))),
    "tokens repeated many times": (
        ("N", "D", "loss", "U"),
        [(*row, 1e5) for row in _small((1e6, 1e7), (1e6, 1e8, 1e9))],
    ),
    "fewer tokens than parameters": (
        ("N", "D", "loss"),
        [(N, N * ratio, 4.0) for N in (1e6, 1e7, 1e8) for ratio in (0.03, 0.1, 0.3, 1.0)],
    ),
    "N without the head of a large vocabulary": (
        ("params_no_embed", "tokens", "C", "loss"),
        [
            (48 * w * w, D, 6.0 * (48 * w * w + _vocabulary(w)) * D, 4.0)
            for w in (8, 32, 128, 512)
            for D in (1e7, 1e8)
        ],
    ),
    "FLOPs of few active experts among many": (
        ("active_params", "total_params", "tokens", "C", "loss"),
        [(N, 64 * N, D, 6.0 * N * D, loss) for N, D, loss in BASE],
    ),
    "FLOPs counted otherwise": (
        ("N", "D", "C", "loss"),
        [(N, D, 6 * N * D * (2.9 if k % 2 else 0.4), loss) for k, (N, D, loss) in enumerate(BASE)],
    ),
    "the largest models": (
        ("N", "D", "loss"),
        [(7e9, 1.5e13, 1.9), (7e10, 1.5e13, 1.7), (2e12, 1e14, 1.5)],
    ),
    "a diverged run": (("N", "D", "loss"), [*BASE, (1e8, 2e9, 14.0)]),
    "guesses of a large vocabulary": (("N", "D", "loss"), [(N, D, 12.2) for N, D, _ in BASE]),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual_but_can_be_is_not_doubted(name: str) -> None:
    assert not _doubts(*UNUSUAL[name])
