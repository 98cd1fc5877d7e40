"""Grids meet their budgets in counted FLOPs, or say why they cannot."""

import pytest

from llama_core.counting import train_flops
from sweeps.grid import shape
from sweeps.load import SpecError, load_spec, parse_spec, presets
from sweeps.plan import plan
from sweeps.recipe import rates, warmup_tokens
from sweeps.spec import DataRef, FixedRecipe, Ladder, LlamaRecipe, WidthRecipe

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


def test_cells_out_of_the_ratio_bounds_are_left_to_other_sizes():
    spec = load_spec("demo")
    low, high = spec.grid.tokens_per_param
    for run in plan(spec, DATA).runs:
        N = run.n_params
        assert all(low <= cell.tokens / N <= high for cell in run.cells)


def test_a_budget_no_model_can_meet_is_refused_with_the_ways_out():
    spec = load_spec("demo", ["grid.budgets=[1e12, 1e18]"])
    with pytest.raises(ValueError, match=r"1e\+18 FLOPs.*add widths"):
        plan(spec, DATA)


def test_a_width_that_is_no_multiple_of_eight_is_refused_with_the_nearest():
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


def test_cells_below_the_least_token_count_are_left_out():
    spec = load_spec("demo")
    least = min(cell.tokens for run in plan(spec, DATA).runs for cell in run.cells)
    assert least >= spec.grid.min_tokens > 0


@pytest.mark.parametrize("override", ["grid.budgets=[1e12", "grid.budgets=[.inf]"])
def test_an_override_that_is_no_number_is_refused_in_words(override):
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


def test_repeated_data_and_thin_valleys_are_told():
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


def test_fixed_and_llama_recipes_give_what_they_name():
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


def test_a_spec_that_is_no_mapping_is_refused(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("- 1\n")
    with pytest.raises(SpecError, match="not a mapping"):
        load_spec(str(path))
    with pytest.raises(SpecError, match="Field required"):
        parse_spec({"name": "x"}, origin="test")
