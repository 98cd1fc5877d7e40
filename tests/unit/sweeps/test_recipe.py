"""Warm-up and weight decay follow the units and the timescale that a spec asks for."""

import pytest

from sweeps.choices import Timescale
from sweeps.load import SpecError, load_spec
from sweeps.plan import plan
from sweeps.rate_checks import check_command, check_runs
from sweeps.recipe import Rates, warmup_of, weight_decay_of
from sweeps.spec import DataRef

DATA = DataRef(digest="test")


@pytest.mark.parametrize(
    ("warmup", "steps"),
    [
        ("{unit: steps, amount: 500}", 500),
        ("{unit: tokens, amount: 1_000_000}", 977),
        ("{unit: share, amount: 0.05}", 49),
        ("{unit: n_params, amount: 1}", 78),
        ("{unit: tokens, amount: 1}", 1),
        ("null", 49),
    ],
)
def test_a_warm_up_is_whole_steps_of_its_unit(warmup, steps):
    spec = load_spec("smoke", [f"warmup={warmup}"])
    assert warmup_of(spec, 80_176, 1_003_520, 1024) == steps * 1024


def test_a_warm_up_of_the_whole_shortest_horizon_is_refused_with_its_numbers():
    spec = load_spec("smoke", ["warmup={unit: steps, amount: 979}"])
    assert warmup_of(spec, 80_176, 1_003_520, 1024) == 979 * 1024
    longer = load_spec("smoke", ["warmup={unit: steps, amount: 980}"])
    with pytest.raises(ValueError, match=r"980 steps is 1,003,520 tokens .* Lower warmup.amount"):
        warmup_of(longer, 80_176, 1_003_520, 1024)


def test_a_spec_without_a_warm_up_has_the_ids_it_had():
    bare, stated = (
        plan(load_spec("smoke", overrides), DATA)
        for overrides in ([], ["warmup=null", "weight_decay=0.1"])
    )
    assert [run.id for run in bare.runs] == [run.id for run in stated.runs]
    longer = plan(load_spec("smoke", ["warmup={unit: steps, amount: 11}"]), DATA)
    assert {run.run.train.warmup_tokens for run in longer.runs} == {11 * 1024}
    assert not {run.id for run in longer.runs} & {run.id for run in bare.runs}


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("warmup={unit: share, amount: 1}", "share of 1 is not below 1"),
        ("warmup={unit: epochs, amount: 1}", "'epochs' should be 'steps', 'tokens', 'share' or"),
        ("weight_decay=-1", "weight_decay.constant: -1 should be greater than or equal to 0"),
        ("weight_decay={kind: timescale, tau: 1}", "unknown key weight_decay.timescale.tau"),
    ],
)
def test_a_warm_up_or_decay_that_cannot_be_is_refused_in_words(override, fault):
    with pytest.raises(SpecError, match=fault):
        load_spec("smoke", [override])


def test_weight_decay_by_the_timescale_gives_that_share_of_the_run():
    spec = load_spec("smoke", ["weight_decay={kind: timescale}"])
    rate = Rates(lr=2e-3, batch_tokens=524_288, source="")
    for ratio, tau in ((1.0, 1.084), (20.0, 1.084 * 20**-0.527)):
        D = ratio * 1e9
        decay = weight_decay_of(spec, 1_000_000_000, rate, D)
        assert rate.batch_tokens / (rate.lr * decay * D) == pytest.approx(tau)
    assert weight_decay_of(load_spec("smoke"), 10**9, rate, 1e9) == 0.1
    own = spec.model_copy(update={"weight_decay": Timescale(coef=0.5, exponent=0.0)})
    decay = weight_decay_of(own, 10**9, rate, 2e10)
    assert decay == pytest.approx(524_288 / (2e-3 * 2e10 * 0.5))


def test_runs_train_with_the_decay_of_the_middle_of_their_budgets():
    overrides = ["grid={kind: tokens, tokens: [102400, 409600]}", "weight_decay={kind: timescale}"]
    planned = plan(load_spec("smoke", overrides), DATA)
    for run in planned.runs:
        train = run.run.train
        rate = Rates(train.optimizer.lr, train.batch_tokens, "")
        wanted = weight_decay_of(planned.spec, run.n_params, rate, 204_800)
        assert train.optimizer.weight_decay == pytest.approx(wanted)
    # The fit reaches from 20 to 1,280 tokens for each parameter; smoke has fewer at most sizes.
    assert "timescale was fitted at D/N 20 to 1,280" in " ".join(planned.warnings)


def test_the_command_of_a_check_keeps_the_decay_of_its_run():
    overrides = ["weight_decay={kind: timescale}", "recipe={kind: deepseek}"]
    spec = load_spec("smoke", overrides)
    run = plan(spec, DATA).runs[0]
    check = check_runs(run)[0]
    words = check_command(plan(spec, DATA), check).split("--set ")[1:]
    settings = [word.strip().strip("'") for word in words]
    [again] = plan(load_spec("smoke", [*overrides, *settings]), DATA).runs
    assert again.id == check.id
