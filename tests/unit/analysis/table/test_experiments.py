"""Rows of several experiments, told by a column's name or by the losses."""

import numpy as np
import polars as pl
import pytest

from analysis.table.columns import normalise
from analysis.table.experiments import (
    Experiments,
    named_experiments,
    refuse,
    shown_experiments,
)
from analysis.table.observations import TableError
from tests.others_tables import loss
from tests.simulated import grid

NOISE = 0.002


def _used(
    seed: int = 0, *, effect: object = 1.0, sizes: int = 6, **columns: object
) -> pl.DataFrame:
    N, D = grid(sizes, 5)
    noise = np.exp(NOISE * np.random.default_rng(seed).standard_normal(len(N)))
    losses = np.array([loss(n, d) for n, d in zip(N, D, strict=True)]) * noise * effect
    frame = pl.DataFrame({"n_params": N, "tokens": D, "val_loss": losses, **columns})
    return normalise(frame).used


def _random(values: tuple, seed: int = 1, rows: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array(values), rows)


def test_text_under_a_name_that_says_so_needs_no_losses() -> None:
    used = _used(experiment=["a", "b"] * 15, name=[f"r{k}" for k in range(30)])
    assert named_experiments(used) == [Experiments("experiment", ("a", "b"), None)]


def test_an_experiment_of_each_run_is_a_run() -> None:
    N, _ = grid(6, 5)
    used = _used(experiment=[f"exp-{n:.3g}" for n in N])
    assert named_experiments(used) == []


@pytest.mark.parametrize("kind", [str, int, float, bool])
@pytest.mark.parametrize("name", ["optimizer", "dedup", "Context Length", "variant"])
def test_a_column_of_any_type_and_name_is_seen_by_its_losses(name: str, kind: type) -> None:
    which = _random((0, 1))
    column = [kind(value) for value in which]
    [shown] = shown_experiments(_used(effect=np.where(which, 0.98, 1.0), **{name: column}))
    assert shown.column == name
    # Fifteen rows a value leave a noise of 0.2 % a tenth of the 2 %.
    assert shown.effect == pytest.approx(0.02, abs=0.004)


def test_a_vocabulary_that_grew_with_the_budget_is_seen() -> None:
    N, D = grid(6, 5)
    large = np.quantile(N * D, 0.6) < N * D
    vocab = np.where(large, 128000, 32000)
    used = _used(effect=np.where(large, 0.97, 1.0), vocab_size=vocab)
    assert [shown.column for shown in shown_experiments(used)] == ["vocab_size"]


def test_an_empty_cell_is_a_value_of_its_own() -> None:
    which = _random((0, 1))
    mup = pl.Series([True if value else None for value in which])
    [shown] = shown_experiments(_used(effect=np.where(which, 0.97, 1.0), mup=mup))
    assert shown.values == (True, None)
    with pytest.raises(TableError, match=r"\(True, empty\) .* Take one with --where .mup = true"):
        refuse([shown])


def test_columns_without_an_effect_are_silent() -> None:
    columns = {
        f"{name}{seed}": _random(values, seed)
        for name, values in (("vocab_size", (32000, 50000)), ("host", ("a", "b", "c")))
        for seed in range(5)
    }
    assert shown_experiments(_used(**columns)) == []


def test_one_of_many_columns_has_to_differ_by_more_than_one_alone() -> None:
    which = _random((0, 1))
    # Three times the noise of the other tables, so that half of it may be chance.
    more = np.exp(2 * NOISE * np.random.default_rng(0).standard_normal(30))
    effect = np.where(which, 0.988, 1.0) * more
    assert shown_experiments(_used(effect=effect, dedup=which))
    others = {f"host{k}": _random(("a", "b"), 10 + k) for k in range(12)}
    assert not shown_experiments(_used(effect=effect, dedup=which, **others))


def test_columns_that_follow_n_d_or_the_budget_are_silent_whatever_the_law_misses() -> None:
    N, D = grid(6, 5)
    step = (np.log(N) > np.log(N).mean()).astype(int)
    columns = {
        "n_layers": step * 6 + 6,
        "heads": np.searchsorted(np.unique(N), N) % 3 * 4 + 4,
        "lr": np.where(step, 1e-3, 3e-3),
        "batch": np.where(D > 1e10, 512, 128),
        "date": np.where(np.median(N * D) < N * D, "2025-02-01", "2025-01-01"),
        "epochs": _random((1, 2)),
        "qc_outlier": step == 1,
    }
    # A kink of 3 % in N, which no smooth law has.
    assert shown_experiments(_used(effect=np.where(step, 0.97, 1.0), **columns)) == []


def test_repeats_marks_and_results_are_silent() -> None:
    which = _random((0, 1))
    columns = {"seed": which, "is_outlier": which == 1, "acc_rounded": which * 0.1}
    assert shown_experiments(_used(effect=np.where(which, 0.97, 1.0), **columns)) == []


def test_two_validation_sets_are_seen_though_their_column_is_named_as_a_result() -> None:
    which = _random((0, 1))
    names = np.where(which, "c4", "pile")
    used = _used(effect=np.where(which, 0.97, 1.0), eval_set=names)
    assert [shown.column for shown in shown_experiments(used)] == ["eval_set"]


def test_a_single_outlier_makes_no_experiment() -> None:
    which = np.zeros(30, int)
    which[[3, 11, 20]] = 1
    effect = np.ones(30)
    effect[11] = 1.2
    assert shown_experiments(_used(effect=effect, host=which)) == []


def test_checkpoints_of_a_run_count_once() -> None:
    N, _ = grid(6, 5)
    size = np.searchsorted(np.unique(N), N)
    luck = np.array([0.98, 1.02, 0.98, 1.02, 1.02, 0.98])[size]
    which = np.array([0, 1, 0, 1, 1, 0])[size]
    used = _used(effect=luck, run_name=[f"r{k}" for k in size], vocab=which)
    assert shown_experiments(used) == []


@pytest.mark.parametrize(
    ("column", "values", "pick"),
    [
        ("vocab", (32000, 50000), '--where "vocab = 32000"'),
        ("mup", (False, True), '--where "mup = false"'),
        ("dataset", ("a", "b"), "--where \"dataset = 'a'\""),
        ("dataset", ("it's", "b"), "--where \"dataset = 'it''s'\""),
        ("seq len", (512, 1024), '--where "\\"seq len\\" = 512"'),
    ],
)
def test_the_refusal_names_the_values_and_the_ways_out(
    column: str, values: tuple, pick: str
) -> None:
    with pytest.raises(TableError) as refusal:
        refuse([Experiments(column, values, 0.031)])
    message = str(refusal.value)
    assert f"{column!r} holds 2 groups ({values[0]}, {values[1]})" in message
    assert "differ by 3.1 %" in message
    assert pick in message
    assert "--by" in message
    assert "--pool" in message


def test_nothing_is_refused_without_experiments() -> None:
    refuse([])
    assert shown_experiments(_used().head(6)) == []
