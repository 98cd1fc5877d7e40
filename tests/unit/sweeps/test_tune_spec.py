"""The ranges a study searches, and the run of one trial."""

import pytest

from flows.tuning.ranges import search_box
from llama_core.config import Muon
from sweeps.load import SpecError, load_tune_spec
from sweeps.shapes import shape
from sweeps.spec import DataRef
from sweeps.tune_plan import trial_run
from sweeps.tune_spec import Dimension, TuneSpec, box

DATA = DataRef(digest="d" * 64)


def spec(*overrides):
    return load_tune_spec("lr-batch", ["tokens=[204800, 409600]", *overrides])


def model_of(tune, width=32):
    return shape(tune.ladder, width, tune.make)


def test_muon_on_split_matrices_is_refused_when_the_study_is_read():
    with pytest.raises(SpecError, match=r"Use placement\.sharding=replicate"):
        spec("optimizer=muon", "placement.sharding=shard")
    assert spec("optimizer=muon").optimizer.kind == "muon"


def test_ranges_lie_four_times_around_the_lowest_published_rule():
    lr, batch = search_box(spec(), model_of(spec()))
    # DeepSeek's lr at C = 6·41,696·409,600 and Step Law's batch at 204,800 tokens.
    assert lr.low == pytest.approx(0.3118 * (6 * 41_696 * 409_600) ** -0.125 / 4)
    assert batch.high == pytest.approx(0.58 * 204_800**0.571 * 4)
    assert lr.high / lr.low == pytest.approx(16)


def test_only_searched_settings_have_a_dimension():
    tune = spec("search.batch_tokens=1024", "search.beta2=published")
    names = [dimension.name for dimension in search_box(tune, model_of(tune))]
    assert names == ["lr", "beta2_gap"]
    run = trial_run(tune, model_of(tune), DATA, 0, {"lr": 0.01, "beta2_gap": 0.02})
    assert run.run.train.optimizer.beta2 == pytest.approx(0.98)
    assert run.run.train.batch_tokens == 1024


def test_a_trial_trains_whole_sequences_and_whole_steps():
    run = trial_run(spec(), model_of(spec()), DATA, 3, {"lr": 0.01, "batch_tokens": 700.0})
    train = run.run.train
    assert train.batch_tokens == 640
    assert all(tokens % 640 == 0 for tokens in train.schedule.horizons)
    assert train.schedule.horizons == pytest.approx((204_800, 409_600), rel=0.002)
    assert run.name == "d32-t003"


def test_ranks_share_the_sequences_of_every_batch_that_is_searched():
    tune = spec("placement.ranks=4")
    for tokens, batch in ((700.0, 512), (800.0, 1024), (1.0, 512)):
        train = trial_run(tune, model_of(tune), DATA, 0, {"lr": 0.01, "batch_tokens": tokens}).run
        assert train.train.batch_tokens == batch
    [_, batch] = boxed("placement.ranks=4", batch=(300.0,))
    assert (batch.low, batch.high) == (512, 1200.0)
    with pytest.raises(ValueError, match=r"seq_len=128 for each of placement\.ranks=4\. Raise"):
        boxed("placement.ranks=4", batch=(127.0,))
    # Which batches are trained follows from the ranks, unless the spec fixes the batch.
    assert tune.identity != spec().identity
    fixed = "search.batch_tokens=1024"
    assert spec(fixed, "placement.ranks=4").identity == spec(fixed).identity


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("search.batch_tokens=700",),
            r"search\.batch_tokens=700 is not whole sequences of seq_len=128\. Use 640 or 768\.",
        ),
        (("search.batch_tokens=100",), r"Use 128\.$"),
        (
            ("search.batch_tokens=384", "placement.ranks=2"),
            r"batch_tokens=384 .* 2 ranks cannot share equally\. Make it a multiple of 256",
        ),
    ],
)
def test_a_fixed_batch_is_trained_as_it_is_or_refused(overrides, message):
    tune = spec(*overrides)
    with pytest.raises(ValueError, match=message):
        trial_run(tune, model_of(tune), DATA, 0, {"lr": 0.01})


def test_a_searched_warm_up_is_a_share_of_the_shortest_budget():
    tune = spec("search.warmup_fraction=published")
    params = {"lr": 0.01, "batch_tokens": 1024.0, "warmup_fraction": 0.1}
    train = trial_run(tune, model_of(tune), DATA, 0, params).run.train
    assert train.warmup_tokens == 20 * 1024


def test_name_trials_and_slots_do_not_change_a_studys_identity():
    plain = spec()
    moved = plain.model_copy(update={"trials": 40, "slots": 7, "name": "other"})
    assert moved.identity == plain.identity
    assert spec("ladder.widths=[16, 32, 48]").identity == plain.identity
    assert spec("placement.threads=1", "cap={kind: hours, hours: 1}").identity == plain.identity
    assert spec("seed=1").identity != plain.identity
    assert spec("ladder.n_layers=3").identity != plain.identity


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.lr={low: 0.1, high: 0.01}", "low=0.1 is not below high=0.01"),
        ("search.beta2=1.5", "1.5 is not below 1"),
        ("tokens=[1000, 1000]", "names a value twice"),
        ("trails=3", "did you mean trials"),
    ],
)
def test_a_search_out_of_range_is_refused(override, message):
    with pytest.raises(SpecError, match=message):
        spec(override)


def test_budgets_that_round_together_are_refused():
    tune = spec("tokens=[200000, 200100]")
    with pytest.raises(ValueError, match="same number of steps of 2,048 tokens"):
        trial_run(tune, model_of(tune), DATA, 0, {"lr": 0.01, "batch_tokens": 2048.0})


def test_a_spec_comes_back_from_json():
    assert TuneSpec.model_validate_json(spec().model_dump_json()) == spec()


def test_a_budget_of_a_trial_is_rounded_to_the_nearest_step_and_has_one_at_least():
    tune = spec("search.batch_tokens=1024", "tokens=[100, 3500, 6700]")
    train = trial_run(tune, model_of(tune), DATA, 0, {"lr": 0.01}).run.train
    assert train.schedule.horizons == (1024, 3 * 1024, 7 * 1024)


def test_a_warm_up_has_one_step_at_least():
    tune = spec("search.batch_tokens=1024", "search.warmup_fraction=published")
    params = {"lr": 0.01, "warmup_fraction": 1e-4}
    assert trial_run(tune, model_of(tune), DATA, 0, params).run.train.warmup_tokens == 1024


def test_settings_that_are_not_searched_have_the_specs_values():
    tune = spec("search.batch_tokens=1024", "search.beta2=0.9", "search.weight_decay=0.05")
    optimizer = trial_run(tune, model_of(tune), DATA, 0, {"lr": 0.01}).run.train.optimizer
    assert (optimizer.beta2, optimizer.weight_decay, optimizer.lr) == (0.9, 0.05, 0.01)


def boxed(*overrides, lr=(0.01, 0.02), batch=(4096.0, 2048.0)):
    return box(spec(*overrides), lr_rules=lr, batch_rules=batch)


def test_a_given_range_is_searched_as_it_is_and_a_published_one_four_times_around_its_centre():
    assert boxed() == [Dimension("lr", 0.0025, 0.04), Dimension("batch_tokens", 512.0, 8192.0)]
    assert boxed(
        "search.lr={low: 0.1, high: 0.3}", "search.batch_tokens={low: 600, high: 900}"
    ) == [
        Dimension("lr", 0.1, 0.3),
        Dimension("batch_tokens", 600.0, 900.0),
    ]
    others = boxed(
        "search.batch_tokens=1024", "search.warmup_fraction=published", "search.beta2=published",
        "search.weight_decay=published",
    )[1:]  # fmt: skip
    assert others == [
        Dimension("warmup_fraction", 0.0125, 0.2),
        Dimension("beta2_gap", 0.0125, 0.2),
        Dimension("weight_decay", 0.025, 0.4),
    ]


def test_a_batch_is_searched_from_one_sequence_on():
    [_, batch] = boxed(batch=(300.0,))
    assert (batch.low, batch.high) == (128, 1200.0)
    [_, batch] = boxed("search.batch_tokens={low: 64, high: 900}")
    assert (batch.low, batch.high) == (128, 900.0)


def test_a_range_of_batches_below_one_sequence_is_refused():
    for settings, batch in (((), 31.9), (("search.batch_tokens={low: 64, high: 127}",), 2048.0)):
        with pytest.raises(ValueError, match=r"ends at 12\d tokens, below one sequence .* Raise"):
            boxed(*settings, batch=(batch,))
    [_, batch] = boxed(batch=(32.0,))
    assert (batch.low, batch.high) == (128, 128)


def test_a_range_of_beta2_is_searched_as_its_distance_from_one():
    found = boxed("search.batch_tokens=1024", "search.beta2={low: 0.9, high: 0.99}")[1]
    assert found.name == "beta2_gap"
    assert (found.low, found.high) == (pytest.approx(0.01), pytest.approx(0.1))


@pytest.mark.parametrize(
    ("override", "refused"),
    [
        ("search.beta2=1.0", True),
        ("search.beta2=0.999", False),
        ("search.warmup_fraction={low: 0.1, high: 1.0}", True),
        ("search.warmup_fraction={low: 0.1, high: 0.9}", False),
        ("search.lr={low: 0.1, high: 0.1}", True),
    ],
)
def test_a_share_is_below_one_and_a_range_is_not_a_point(override, refused):
    if refused:
        with pytest.raises(SpecError, match="is not below"):
            spec(override)
    else:
        spec(override)


def test_a_fixed_warm_up_is_a_share_of_the_shortest_budget_and_the_recipes_is_not():
    for fraction, steps in (("0.05", 10), ("0.1", 20), ("recipe", 10)):
        tune = spec("search.batch_tokens=1024", f"search.warmup_fraction={fraction}")
        train = trial_run(tune, model_of(tune), DATA, 0, {"lr": 0.01}).run.train
        assert train.warmup_tokens == steps * 1024


def test_muon_is_searched_further_around_adamws_rates_and_trained():
    adamw, muon = spec(), spec("optimizer=muon", "block=gpt3")
    plain, wide = (search_box(each, model_of(adamw))[0] for each in (adamw, muon))
    assert wide.low * wide.high == pytest.approx(plain.low * plain.high)
    assert wide.high / wide.low == pytest.approx(64)
    run = trial_run(muon, model_of(muon), DATA, 0, {"lr": 0.01, "batch_tokens": 1024}).run
    assert run.train.optimizer == Muon(lr=0.01, weight_decay=0.1)
    assert run.model.block.ffn == "gelu"
    assert "optimizer" not in adamw.identity
    assert '"block":"gpt3"' in muon.identity
    with pytest.raises(SpecError, match=r"a study has it as search\.beta2"):
        spec("optimizer={beta2: 0.99}")
