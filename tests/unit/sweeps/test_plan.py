"""Grids meet their budgets in counted FLOPs, or say why they cannot."""

import pytest

from llama_core.config import ModelConfig
from llama_core.counting import count_params, train_flops
from sweeps.cap import FlopsCap, HoursCap, MoneyCap, amount, in_words, option
from sweeps.choices import FittedLaw, FixedRecipe, LawRecipe, LlamaRecipe, WidthRecipe
from sweeps.grid import Cell, IsoflopGrid, cells, in_steps
from sweeps.ladder import Ladder
from sweeps.load import SpecError, load_spec
from sweeps.plan import plan
from sweeps.rate_checks import affordable, check_command, check_runs, extremes
from sweeps.recipe import measured_range, rates, warmup_tokens
from sweeps.shapes import Make, shape
from sweeps.spec import DataRef

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
    with pytest.raises(ValueError, match=r"1.00e\+18 FLOPs.*Add a size near N = \d"):
        plan(spec, DATA)


def test_a_batch_that_ranks_cannot_share_is_refused_when_it_is_planned():
    assert plan(load_spec("smoke", ["placement.ranks=8"]), DATA).runs
    with pytest.raises(ValueError, match=r"is 8 rows of seq_len=128, which 3 ranks cannot share"):
        plan(load_spec("smoke", ["placement.ranks=3"]), DATA)


@pytest.mark.parametrize(("width", "near"), [(44, "40 or 48"), (12, "8 or 16"), (7, "8")])
def test_a_width_that_is_not_a_multiple_of_eight_is_refused_with_the_nearest(width, near):
    with pytest.raises(ValueError, match=f"width {width} is not a multiple of 8. Use {near}.$"):
        shape(Ladder(widths=(width,)), width, Make(512))


@pytest.mark.parametrize(
    ("width", "per_kv_head", "heads"), [(40, 1, (3, 3)), (48, 1, (3, 3)), (40, 2, (4, 2))]
)
def test_heads_cover_a_width_they_do_not_divide_in_whole_groups(width, per_kv_head, heads):
    ladder = Ladder(widths=(width,), query_heads_per_kv_head=per_kv_head)
    model = shape(ladder, width, Make(512))
    assert (model.n_heads, model.n_kv_heads, model.head_dim) == (*heads, 16)


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


@pytest.mark.parametrize(
    ("recipe", "near"),
    [("width", "2,048"), ("steplaw, batch_tokens: 5000", "4,096 or 6,144")],
)
def test_a_batch_that_is_not_whole_sequences_is_refused_with_the_nearest(recipe, near):
    spec = load_spec("gpu-day", [f"recipe={{kind: {recipe}}}"])
    with pytest.raises(ValueError, match=f"recipe.batch_tokens=.* of seq_len=2,048. Use {near}"):
        plan(spec, DATA)


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
    for run in planned.runs:
        [cell] = run.cells
        assert run.run.train.schedule.tokens == cell.tokens
        assert run.name == f"d{run.run.model.d_model}-D{cell.tokens}"


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
        rates(WidthRecipe(), shape(ladder, width, Make(512)), tokens=1, seq_len=128)
        for width in (16, 64)
    )
    assert (narrow.lr, narrow.source) == (0.016, "0.256/d_model, measured")
    assert wide.lr == 0.256 / 64
    capped = rates(WidthRecipe(cap=0.015), shape(ladder, 16, Make(512)), tokens=1, seq_len=128)
    assert (capped.lr, capped.source) == (0.015, "0.256/d_model, capped at 0.015")


def test_fixed_and_llama_recipes_give_their_own_rates():
    model = shape(Ladder(widths=(64,)), 64, Make(512))
    assert rates(FixedRecipe(lr=1e-3, batch_tokens=2048), model, tokens=1, seq_len=128).lr == 1e-3
    assert rates(LlamaRecipe(), model, tokens=1, seq_len=128).lr == 3e-4


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(50, 10), (200, 10), (230, 12), (1000, 50), (1990, 100), (2020, 100), (10_000, 100)],
)
def test_warm_up_is_five_per_cent_within_ten_and_a_hundred_steps(steps, expected):
    assert warmup_tokens(steps * 1024, 1024) == expected * 1024


def test_bounds_of_a_grid_are_still_within_it():
    model = shape(Ladder(widths=(32,)), 32, Make(512))
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
    model = shape(Ladder(widths=(32,)), 32, Make(512))
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


def test_every_rule_names_where_it_was_measured():
    width, llama = measured_range(WidthRecipe()), measured_range(LlamaRecipe())
    assert (width.n_params, width.batch_tokens) == ((14_000, 720_000), (512, 2048))
    assert (llama.n_params, llama.batch_tokens) == ((6.5e9, 66e9), (4_000_000, 4_194_304))
    assert measured_range(FixedRecipe(lr=1e-3, batch_tokens=2048)) is None
    assert measured_range(law()) is None


def law(**changes):
    fitted = FittedLaw(
        lr_coef=2.0, lr_exponent_N=-0.25, lr_exponent_D=-0.125, batch_coef=0.5,
        batch_exponent_D=0.5, N=(1e4, 1e7), D=(1e6, 1e9), **changes,
    )  # fmt: skip
    return LawRecipe(study="s", fitted=fitted)


def test_a_fitted_law_gives_rate_and_batch_by_its_own_exponents():
    model = shape(Ladder(widths=(32,)), 32, Make(512))
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


def test_runs_are_planned_in_rising_order_of_cost_and_add_up():
    planned = plan(load_spec("demo"), DATA)
    # One trunk serves all budgets, so the largest model, at two of them, is not the dearest.
    assert [run.name for run in planned.runs] == [
        "d16", "d24", "d32", "d112", "d96", "d80", "d64", "d48",
    ]  # fmt: skip
    spent = [run.flops_spent for run in planned.runs]
    assert spent == sorted(spent)
    assert planned.flops_spent == sum(spent)
    assert planned.observations == 2 + 4 + 5 + 2 + 3 + 4 + 5 + 6


def test_budgets_in_any_order_give_the_same_runs():
    budgets = load_spec("smoke").grid.budgets
    for kind in ("grid.budgets={}", "grid={{kind: tokens, tokens: {}}}"):
        values = [int(budget) // 100_000 for budget in budgets] if "tokens" in kind else budgets
        one, other = (
            plan(load_spec("smoke", [kind.format(list(order))]), DATA)
            for order in (values, reversed(values))
        )
        assert [run.id for run in one.runs] == [run.id for run in other.runs]


def test_every_unmet_budget_is_listed_with_the_bounds():
    with pytest.raises(ValueError, match=r"1.00e\+18, 2.00e\+18 FLOPs") as refusal:
        plan(load_spec("demo", ["grid.budgets=[1e12, 1e18, 2e18]"]), DATA)
    assert "d112: D/N above 200" in str(refusal.value)
    assert "widen grid.tokens_per_param" in str(refusal.value)


def test_budgets_that_round_to_one_number_of_steps_are_refused():
    model = shape(Ladder(widths=(32,)), 32, Make(512))
    step = train_flops(model, 128, 1024)
    grid = IsoflopGrid(budgets=(10.1 * step, 10.4 * step), tokens_per_param=(1e-9, 1e9))
    with pytest.raises(ValueError, match="same number of steps of 1,024 tokens"):
        cells(grid, model, seq_len=128, batch_tokens=1024)
    apart = [Cell(tokens=tokens, flops_budget=None, train_flops=1) for tokens in (10_240, 10_752)]
    with pytest.raises(ValueError, match="same number of steps of 2,048 tokens"):
        in_steps(apart, model, seq_len=128, batch_tokens=2048)


def test_cells_of_a_law_are_rounded_to_the_nearest_of_its_steps_with_their_flops():
    model = shape(Ladder(widths=(32,)), 32, Make(512))
    given = [Cell(tokens=tokens, flops_budget=7.0, train_flops=1) for tokens in (100, 3500, 6700)]
    rounded = in_steps(given, model, seq_len=128, batch_tokens=1024)
    assert [cell.tokens for cell in rounded] == [1024, 3072, 7168]
    for cell in rounded:
        assert cell.flops_budget == 7.0
        assert cell.train_flops == train_flops(model, 128, cell.tokens)


def test_a_law_for_the_rate_alone_keeps_the_batch_of_the_recipe():
    model = shape(Ladder(widths=(32,)), 32, Make(512))
    given = law().model_copy(update={"batch_tokens": 768})
    rate = rates(given, model, tokens=2.0**24, seq_len=128)
    assert (rate.batch_tokens, rate.lr) == (768, rates(law(), model, tokens=2**24, seq_len=128).lr)
    assert rate.source == "2 N^-0.25 D^-0.125, fitted by study s"


@pytest.mark.parametrize(
    ("cap", "value", "words", "name"),
    [
        (FlopsCap(flops=3.0), 1.5e18, "1.50e+18 FLOPs", "--max-flops"),
        (HoursCap(hours=3.0), 0.25, "0.25 device-hours", "--max-hours"),
        (MoneyCap(usd=3.0, usd_per_hour=2.0), 1234.5, "$1,234.50", "--max-cost"),
        (MoneyCap(usd=3.0, usd_per_hour=2.0), 0.01, "$0.01", "--max-cost"),
        (MoneyCap(usd=3.0, usd_per_hour=2.0), 0.0042, "$0.0042", "--max-cost"),
        (MoneyCap(usd=3.0, usd_per_hour=2.0), 0.0, "$0.00", "--max-cost"),
    ],
)
def test_a_cap_is_read_in_its_own_unit(cap, value, words, name):
    assert (in_words(cap, value), option(cap), amount(cap)) == (words, name, 3.0)


def test_the_smallest_and_the_largest_model_are_checked_at_their_shortest_budget():
    planned = plan(load_spec("demo", ["schedule=cosine"]), DATA)
    found = extremes(planned)
    assert [run.run.model.d_model for run in found] == [16, 112]
    for run in found:
        same = [other for other in planned.runs if other.n_params == run.n_params]
        assert run.cells[0].tokens == min(other.cells[0].tokens for other in same)
    one = plan(load_spec("smoke", ["ladder.widths=[32]"]), DATA)
    assert extremes(one) == list(one.runs)


def test_a_check_is_the_shortest_budget_at_half_and_at_twice_the_rate():
    run = extremes(plan(load_spec("demo"), DATA))[0]
    half, twice = check_runs(run)
    lr = run.run.train.optimizer.lr
    assert (half.run.train.optimizer.lr, twice.run.train.optimizer.lr) == (lr / 2, lr * 2)
    assert (half.name, twice.name) == ("d16-lr-x0.5", "d16-lr-x2")
    for check in (half, twice):
        assert check.cells == run.cells[:1]
        assert check.run.train.schedule.horizons == (run.cells[0].tokens,)


def test_a_check_of_a_spec_of_ones_own_says_so():
    for overrides, spec in (([], "demo"), (["weight_decay=0.2"], "SPEC"), (["name=mine"], "SPEC")):
        planned = plan(load_spec("demo", overrides), DATA)
        command = check_command(planned, check_runs(planned.runs[0])[0])
        assert command.startswith(
            f"isoflop sweep {spec} --set name={planned.spec.name}-d16-lr-x0_5"
        )


def test_a_check_is_offered_at_the_nearest_size_where_it_costs_a_twentieth_or_less():
    planned = plan(load_spec("demo"), DATA)

    def cost(run):
        return sum(check.flops_spent for check in check_runs(run)) / planned.flops_spent

    small, large = extremes(planned)
    assert affordable(planned, small) == small
    chosen = affordable(planned, large)
    assert cost(chosen) <= 0.05
    nearer = [run for run in planned.runs if chosen.n_params < run.n_params]
    assert len(nearer) == 2
    assert all(cost(run) > 0.05 for run in nearer)
    assert affordable(planned.model_copy(update={"runs": (large,)}), large) is None


def test_llamas_rate_halves_at_twenty_billion_parameters():
    shape_of = {
        layers: ModelConfig(
            vocab_size=32_000, d_model=8_192, n_layers=layers, n_heads=64, n_kv_heads=64,
            head_dim=128, d_ffn=28_672,
        )
        for layers in (19, 20, 21, 22, 23)
    }  # fmt: skip
    for model in shape_of.values():
        lr = rates(LlamaRecipe(), model, tokens=1, seq_len=2048).lr
        assert lr == (3e-4 if count_params(model).total < 20e9 else 1.5e-4)
    totals = [count_params(model).total for model in shape_of.values()]
    assert totals[0] < 20e9 < totals[-1]
    assert totals[-1] - totals[0] < 4.5e9
