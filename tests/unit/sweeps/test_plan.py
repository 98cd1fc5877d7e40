"""Grids meet their budgets in counted FLOPs, or say why they cannot."""

import pytest

from llama_core.config import ModelConfig
from llama_core.counting import count_params, train_flops
from sweeps.grid import cells, shape
from sweeps.load import SpecError, load_spec, presets
from sweeps.plan import plan
from sweeps.recipe import rates, warmup_tokens
from sweeps.spec import (
    DataRef,
    FittedLaw,
    FixedRecipe,
    IsoflopGrid,
    Ladder,
    LawRecipe,
    LlamaRecipe,
    WidthRecipe,
)

DATA = DataRef(digest="x")


@pytest.mark.parametrize("preset", ["demo", "chinchilla"])
def test_every_cell_meets_its_budget_within_half_a_step(preset):
    for run in plan(load_spec(preset), DATA).runs:
        train = run.run.train
        step = train_flops(run.run.model, train.seq_len, train.batch_tokens)
        for cell in run.cells:
            assert abs(cell.train_flops - cell.flops_budget) <= step / 2
            assert cell.train_flops == train_flops(run.run.model, train.seq_len, cell.tokens)


@pytest.mark.parametrize("preset", ["demo", "chinchilla"])
def test_a_real_preset_plans_what_an_isoflop_fit_needs(preset):
    planned = plan(load_spec(preset), DATA)
    budgets = sorted({cell.flops_budget for run in planned.runs for cell in run.cells})
    assert len(budgets) >= 5
    assert budgets[-1] / budgets[0] > 10
    assert planned.observations >= 30
    assert len(planned.runs) <= 12
    assert planned.warnings == ()


def test_cells_outside_the_bounds_of_the_ratio_are_skipped():
    spec = load_spec("demo")
    low, high = spec.grid.tokens_per_param
    for run in plan(spec, DATA).runs:
        N = run.n_params
        assert all(low <= cell.tokens / N <= high for cell in run.cells)


def test_a_budget_no_model_can_meet_is_refused_with_remedies():
    spec = load_spec("demo", ["grid.budgets=[1e12, 1e18]"])
    with pytest.raises(ValueError, match=r"1e\+18 FLOPs.*add widths"):
        plan(spec, DATA)


def test_a_width_that_is_not_a_multiple_of_eight_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="Use 40 or 48"):
        shape(Ladder(widths=(44,)), 44, 512)


def test_heads_cover_a_width_they_do_not_divide():
    model = shape(Ladder(widths=(40,)), 40, 512)
    assert (model.n_heads, model.head_dim) == (3, 16)


@pytest.mark.parametrize(
    "override", ["ladder.widths=[32, 32]", "seeds=[0, 0]", "grid.budgets=[1e12, 1e12]"]
)
def test_a_value_named_twice_is_refused(override):
    with pytest.raises(SpecError, match="names a value twice"):
        load_spec("demo", [override])


def test_cells_below_the_minimum_token_count_are_skipped():
    spec = load_spec("demo")
    least = min(cell.tokens for run in plan(spec, DATA).runs for cell in run.cells)
    assert least >= spec.grid.min_tokens > 0


@pytest.mark.parametrize("override", ["grid.budgets=[1e12", "grid.budgets=[.inf]"])
def test_an_override_that_is_not_a_number_is_refused_in_words(override):
    with pytest.raises(SpecError, match="budgets"):
        load_spec("demo", [override])


def test_a_token_grid_gives_every_size_every_count():
    spec = load_spec("smoke", ["grid={kind: tokens, tokens: [102400, 204800]}"])
    planned = plan(spec, DATA)
    assert {tuple(cell.tokens for cell in run.cells) for run in planned.runs} == {
        (102_400, 204_800)
    }
    assert all(cell.flops_budget is None for run in planned.runs for cell in run.cells)


def test_cosine_trains_every_cell_on_its_own():
    spec = load_spec("demo", ["schedule=cosine"])
    planned = plan(spec, DATA)
    assert len(planned.runs) == planned.observations
    assert len({run.name for run in planned.runs}) == len(planned.runs)


def test_seeds_repeat_every_run_under_its_own_id():
    once, twice = plan(load_spec("smoke"), DATA), plan(load_spec("smoke", ["seeds=[0, 1]"]), DATA)
    assert len(twice.runs) == 2 * len(once.runs)
    assert len({run.id for run in twice.runs}) == len(twice.runs)


def test_repeated_data_and_thin_valleys_are_warned_about():
    spec = load_spec("demo", ["ladder.widths=[32, 48]"])
    warnings = " ".join(plan(spec, DATA, source_tokens={"environment": 1_000_000}).warnings)
    assert "a valley needs" in warnings
    assert "times the corpus of 1,000,000" in warnings


def test_width_recipe_falls_as_one_over_width_below_its_cap():
    ladder = Ladder(widths=(16, 64))
    narrow, wide = (
        rates(WidthRecipe(), shape(ladder, width, 512), tokens=1, seq_len=128) for width in (16, 64)
    )
    assert narrow.lr == 0.016
    assert wide.lr == 0.256 / 64


def test_fixed_and_llama_recipes_give_their_own_rates():
    model = shape(Ladder(widths=(64,)), 64, 512)
    assert rates(FixedRecipe(lr=1e-3, batch_tokens=2048), model, tokens=1, seq_len=128).lr == 1e-3
    assert rates(LlamaRecipe(), model, tokens=1, seq_len=128).lr == 3e-4


@pytest.mark.parametrize(("steps", "expected"), [(50, 10), (1000, 50), (10_000, 100)])
def test_warm_up_is_five_per_cent_within_ten_and_a_hundred_steps(steps, expected):
    assert warmup_tokens(steps * 1024, 1024) == expected * 1024


def test_all_presets_load_and_state_their_own_name():
    assert presets() == ["chinchilla", "demo", "smoke"]
    for name in presets():
        assert load_spec(name).name == name


def test_an_unknown_key_is_refused_with_the_nearest_known_one():
    with pytest.raises(SpecError, match=r"ladder\.width \(did you mean widths\?\)"):
        load_spec("demo", ["ladder.width=[16]"])


def test_an_unknown_spec_names_the_presets():
    with pytest.raises(SpecError, match="chinchilla, demo, smoke"):
        load_spec("dmeo")


def test_an_override_without_a_value_is_refused():
    with pytest.raises(SpecError, match=r"a\.b=c"):
        load_spec("demo", ["seq_len"])


def test_exponents_without_a_dot_are_numbers():
    spec = load_spec("demo", ["grid.budgets=[2e11, 4e11]"])
    assert spec.grid.budgets == (2e11, 4e11)


def test_a_spec_that_is_not_a_mapping_or_lacks_a_field_is_refused(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("- 1\n")
    with pytest.raises(SpecError, match=r"holds \[1\]; it should hold settings"):
        load_spec(str(path))
    path.write_text("name: x\n")
    with pytest.raises(SpecError, match="is missing"):
        load_spec(str(path))


def test_bounds_of_a_grid_are_still_within_it():
    model = shape(Ladder(widths=(32,)), 32, 512)
    N, step = count_params(model).n_params, train_flops(model, 128, 1024)
    tokens, budget = 100 * 1024, 100.0 * step
    exact = {"tokens_per_param": (tokens / N, tokens / N), "min_tokens": tokens}
    for changes, kept in (({}, 1), ({"min_tokens": tokens + 1}, 0)):
        grid = IsoflopGrid(budgets=(budget,), **(exact | changes))
        planned = cells(grid, model, seq_len=128, batch_tokens=1024)
        assert [cell.tokens for cell in planned] == [tokens] * kept
    for low, high in ((tokens / N * 1.0001, 1e6), (1e-6, tokens / N * 0.9999)):
        grid = IsoflopGrid(budgets=(budget,), tokens_per_param=(low, high))
        assert cells(grid, model, seq_len=128, batch_tokens=1024) == []


@pytest.mark.parametrize(("steps", "rounded"), [(100.4, 100), (100.6, 101), (0.4, None), (0.6, 1)])
def test_a_budget_is_rounded_to_the_nearest_step(steps, rounded):
    model = shape(Ladder(widths=(32,)), 32, 512)
    budget = steps * train_flops(model, 128, 1024)
    grid = IsoflopGrid(budgets=(budget,), tokens_per_param=(1e-9, 1e9))
    planned = cells(grid, model, seq_len=128, batch_tokens=1024)
    assert [cell.tokens for cell in planned] == ([rounded * 1024] if rounded else [])


def test_runs_train_with_the_settings_of_their_spec():
    spec = load_spec(
        "smoke", ["weight_decay=0.3", "cooldown_fraction=0.4", "eval_tokens=2048", "seq_len=64"]
    )
    for run in plan(spec, DATA).runs:
        train = run.run.train
        assert train.optimizer.weight_decay == 0.3
        assert train.schedule.cooldown_fraction == 0.4
        assert (train.eval_tokens, train.seq_len) == (2048, 64)
        # One trunk serves all horizons, so the shortest decides.
        assert train.warmup_tokens == warmup_tokens(run.cells[0].tokens, train.batch_tokens)
        assert [cell.tokens for cell in run.cells] == list(train.schedule.horizons)


def test_llamas_rate_halves_between_its_13b_and_its_33b():
    small = ModelConfig(
        vocab_size=32_000, d_model=5_120, n_layers=40, n_heads=40, n_kv_heads=40, head_dim=128,
        d_ffn=13_824,
    )  # fmt: skip
    large = small.model_copy(update={"n_layers": 60, "d_model": 6_656, "d_ffn": 17_920})
    assert count_params(small).total == pytest.approx(13.0e9, rel=0.01)
    assert rates(LlamaRecipe(), small, tokens=1, seq_len=2048).lr == 3e-4
    assert rates(LlamaRecipe(), large, tokens=1, seq_len=2048).lr == 1.5e-4


def law(**changes):
    fitted = FittedLaw(
        lr_coef=2.0, lr_exponent_N=-0.25, lr_exponent_D=-0.125, batch_coef=0.5,
        batch_exponent_D=0.5, N=(1e4, 1e7), D=(1e6, 1e9), **changes,
    )  # fmt: skip
    return LawRecipe(study="s", fitted=fitted)


def test_a_fitted_law_gives_rate_and_batch_by_its_own_exponents():
    model = shape(Ladder(widths=(32,)), 32, 512)
    N = count_params(model).n_params
    rate = rates(law(), model, tokens=2.0**24, seq_len=128)
    assert rate.lr == pytest.approx(2.0 * N**-0.25 * 2.0 ** (-24 / 8))
    # Half of 4,096 is 16 sequences of 128.
    assert rate.batch_tokens == 2048
    # 2,204 tokens are 17.2 sequences of 128, and 2,245 are 17.5.
    for tokens, sequences in (((2 * 2204) ** 2, 17), ((2 * 2245) ** 2, 18), (1.0, 1)):
        assert rates(law(), model, tokens=tokens, seq_len=128).batch_tokens == sequences * 128


def test_a_law_is_evaluated_at_the_geometric_middle_of_a_runs_budgets():
    spec = load_spec("smoke", ["grid={kind: tokens, tokens: [1048576, 16777216]}"])
    spec = spec.model_copy(update={"recipe": law()})
    for run in plan(spec, DATA).runs:
        wanted = rates(law(), run.run.model, tokens=2.0**22, seq_len=spec.seq_len)
        assert run.run.train.optimizer.lr == pytest.approx(wanted.lr)
        assert run.run.train.batch_tokens == wanted.batch_tokens == 1024


def test_seeds_are_named_where_there_are_several():
    assert all("-s" not in run.name for run in plan(load_spec("smoke"), DATA).runs)
    names = [run.name for run in plan(load_spec("smoke", ["seeds=[0, 1]"]), DATA).runs]
    assert {name.rpartition("-")[2] for name in names} == {"s0", "s1"}
    assert len(set(names)) == len(names)
