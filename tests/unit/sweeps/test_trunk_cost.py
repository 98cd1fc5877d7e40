"""A trunk's cost is told by its rule, and horizons split where it is more than a spec allows."""

import math

import polars as pl
import pytest

from bench.curvature import pooled
from sweeps.load import load_spec
from sweeps.plan import plan
from sweeps.recipe import rates, warmup_tokens
from sweeps.spec import DataRef
from sweeps.trunk_cost import BATCH_CURVATURE, CROSS_CURVATURE, LR_CURVATURE, left_by_run
from tests.conftest import ROOT

DATA = DataRef(digest="test")
GRID = "grid={kind: tokens, tokens: [102400, 409600, 1638400]}"


def planned(*overrides, recipe="steplaw"):
    # Step Law's batch of these budgets is 400 to 2,000 tokens: sequences of 8 hardly round it.
    overrides = [GRID, f"recipe={{kind: {recipe}}}", "seq_len=8", *overrides]
    return plan(load_spec("smoke", ["ladder.widths=[48]", *overrides]), DATA)


def test_a_horizon_loses_half_its_squared_distance_from_the_rules_own_values():
    together = planned()
    first, middle, last = left_by_run(together.spec, together.runs[0])
    lr, batch = 0.307 * math.log(4), 0.571 * math.log(4)
    expected = (
        LR_CURVATURE * lr**2 + BATCH_CURVATURE * batch**2
    ) / 2 + CROSS_CURVATURE * lr * batch
    # A batch is rounded by up to a sixteenth, and its logarithm is squared.
    assert (first, last) == (pytest.approx(expected, rel=0.15), pytest.approx(expected, rel=0.15))
    assert middle < expected / 100


def test_a_rule_without_a_budget_cannot_tell():
    for recipe in ("width", "olmo", "porian", "llama, batch_tokens: 1024"):
        told = planned(recipe=recipe)
        assert left_by_run(told.spec, told.runs[0]) is None


def test_horizons_stay_together_without_a_limit_and_split_beyond_it():
    together = planned()
    assert [len(run.cells) for run in together.runs] == [3]
    cost = max(left_by_run(together.spec, together.runs[0]))
    assert cost > 0.003
    assert "Several trunks cost no more than 0.3%" in " ".join(together.warnings)

    loose = planned(f"max_trunk_cost={cost * 1.05}")
    assert [run.id for run in loose.runs] == [run.id for run in together.runs]

    split = planned("max_trunk_cost=0.003")
    assert sorted(len(run.cells) for run in split.runs) == [1, 2]
    assert all(max(left_by_run(split.spec, run)) <= 0.003 for run in split.runs)
    assert "Several trunks" not in " ".join(split.warnings)
    names = {f"d48-D{run.cells[-1].tokens}" for run in split.runs}
    assert {run.name for run in split.runs} == names

    apart = planned("max_trunk_cost=0.0001")
    assert [len(run.cells) for run in apart.runs] == [1, 1, 1]


def test_each_trunk_has_the_rate_and_warm_up_of_its_own_horizons():
    apart = planned("max_trunk_cost=0.0001")
    for run in apart.runs:
        assert left_by_run(apart.spec, run) == [0.0]
        train, D = run.run.train, run.cells[0].tokens
        own = rates(apart.spec.recipe, run.run.model, tokens=D, seq_len=8)
        assert train.optimizer.lr == pytest.approx(own.lr, rel=0.001)
        assert train.warmup_tokens == warmup_tokens(D, train.batch_tokens)
    short, long = sorted(planned("max_trunk_cost=0.003").runs, key=lambda run: run.cells[0].tokens)
    assert short.run.train.optimizer.lr < long.run.train.optimizer.lr
    assert short.run.train.batch_tokens < long.run.train.batch_tokens


@pytest.mark.parametrize("recipe", ["width", "olmo"])
def test_a_rule_without_a_budget_never_splits(recipe):
    limited, free = planned("max_trunk_cost=1e-9", recipe=recipe), planned(recipe=recipe)
    assert [run.id for run in limited.runs] == [run.id for run in free.runs]


def test_the_curvature_is_that_of_the_recorded_trainings():
    names = ("grid_d48", "study", "trunk_horizons")
    tables = [pl.read_csv(ROOT / "tests" / "data" / "tuning" / f"{name}.csv") for name in names]
    (lr, batch, both), errors = pooled(tables)
    assert pytest.approx(lr, abs=5e-5) == LR_CURVATURE
    assert pytest.approx(batch, abs=5e-5) == BATCH_CURVATURE
    assert pytest.approx(both, abs=5e-5) == CROSS_CURVATURE
    # A surface whose curvature is known comes back, with no error where there is no noise.
    grid = [
        {
            "n_params": 1, "tokens": tokens, "lr": math.exp(x), "batch_tokens": math.exp(y),
            "val_loss": math.exp((0.02 * (x - tokens) ** 2 + 0.03 * y**2) / 2 - 0.01 * x * y),
        }
        for tokens in (0, 1)
        for x in (-0.5, 0, 0.5, 1)
        for y in (-0.5, 0, 0.5)
    ]  # fmt: skip
    known, none = pooled([pl.DataFrame(grid)])
    assert known == pytest.approx([0.02, 0.03, -0.01])
    assert none == pytest.approx([0, 0, 0], abs=1e-9)
    assert all(errors > 0)
