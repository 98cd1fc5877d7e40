"""A sweep of mixtures planned: its runs, and how often they read each source."""

import json

import jsonschema
import pytest

from sweeps.load import SpecError, load_spec
from sweeps.next_cells import NextCell, next_spec
from sweeps.plan import Plan, plan
from sweeps.rate_checks import check_command, check_runs, extremes
from sweeps.repetition import epochs
from sweeps.spec import DataRef, PlannedRun, SweepSpec

TOKENS = {"prose": 8_000_000, "code": 3_000_000, "data": 500_000}
BASE = {
    "name": "mine",
    "corpus": {"sources": [{"kind": "files", "path": "x", "name": name} for name in TOKENS]},
    "ladder": {"widths": [24, 32]},
    "grid": {"kind": "tokens", "tokens": [500_000, 1_000_000]},
}
LATTICE = {"kind": "lattice", "parts": 4, "at_most": {"data": 0.25}}


def planned(source_tokens=TOKENS, **mixtures) -> Plan:
    spec = SweepSpec(**BASE, mixtures={"shares": LATTICE, **mixtures})
    return plan(spec, DataRef(digest="x"), source_tokens=source_tokens)


def test_every_mixture_is_trained_at_every_size_and_one_trunk_serves_every_budget():
    whole = planned()
    assert len(whole.runs) == 9 * 2
    assert {run.mixture for run in whole.runs} == {f"m0{number}" for number in range(9)}
    run = next(run for run in whole.runs if run.name == "m04-d32")
    assert run.run.data.mixture.shares == {"prose": 0.5, "code": 0.25, "data": 0.25}
    assert [cell.tokens for cell in run.cells] == [499_712, 1_000_448]
    assert Plan.model_validate_json(whole.model_dump_json()) == whole


def test_runs_read_a_part_of_each_source_as_often_as_the_training_mixed_for_reads_it():
    whole = planned(target_tokens=8e6)
    # Unique tokens are of one length, so each budget is a run of its own.
    assert len(whole.runs) == 9 * 2 * 2
    for run in whole.runs:
        mixture, tokens = run.run.data.mixture, run.cells[-1].tokens
        wanted = epochs(whole.spec.mixtures, mixture.shares, TOKENS, tokens)
        for name, share in mixture.shares.items():
            # Rounded to whole windows of 128 tokens.
            own = share * tokens / mixture.unique_tokens[name]
            assert own == pytest.approx(wanted[name], rel=65 / mixture.unique_tokens[name])


def test_a_stock_larger_than_the_corpus_is_matched_as_far_as_a_run_reads():
    enough = planned(target_tokens=80e6, stock={"prose": 80e6, "code": 80e6, "data": 80e6})
    assert enough.runs[-1].run.data.mixture.unique_tokens == {"prose": 1_000_448, "code": 1_000_448}
    with pytest.raises(ValueError, match=r"reads 124,928 tokens of 'data'.*corpus 100,000"):
        planned(
            {**TOKENS, "data": 100_000},
            target_tokens=80e6,
            stock={"data": 80e6},
            max_epochs=40,
        )


def test_a_mixture_that_reads_a_source_too_often_is_refused_with_the_share_it_may_have():
    with pytest.raises(ValueError, match=r"6 of 9 mix.*'data' 10 times.*data 0.1, code 0.6\)"):
        planned(target_tokens=20e6)
    assert planned(target_tokens=20e6, max_epochs=40).runs
    with pytest.raises(ValueError, match="target_tokens=900,000 is less than the 1,000,448 tokens"):
        planned(target_tokens=0.9e6, max_epochs=40)
    assert planned(target_tokens=1_000_448, max_epochs=40).runs


def test_without_a_training_to_mix_for_the_longest_run_may_not_read_a_source_too_often():
    assert planned({**TOKENS, "data": 70_000}).runs
    with pytest.raises(
        ValueError, match=r"50,000 tokens of 'data' 5 times.*the tokens of the grid"
    ):
        planned({**TOKENS, "data": 50_000})


def test_ids_of_other_sweeps_have_no_mixture_and_mixtures_have_other_ids():
    alone = plan(SweepSpec(**BASE), DataRef(digest="x"))
    assert "mixture" not in alone.model_dump_json()
    ids = {run.id for run in (*alone.runs, *planned().runs, *planned(target_tokens=8e6).runs)}
    assert len(ids) == 2 + 18 + 36


def test_few_mixtures_are_warned_of_and_no_valley_is_missed():
    rows = {"kind": "rows", "rows": {"a": dict.fromkeys(TOKENS, 33.3), "b": {"prose": 1}}}
    assert planned(shares=rows).warnings[0].startswith("2 mixtures of 3 sources carry no law")
    isoflop = BASE | {"grid": {"kind": "isoflop", "budgets": [2e11]}}
    spec = SweepSpec(**isoflop, mixtures={"shares": LATTICE})
    assert not plan(spec, DataRef(digest="x")).warnings


def test_mixtures_with_variants_are_refused_when_the_spec_is_read(tmp_path):
    path = tmp_path / "both.yaml"
    path.write_text(
        "name: both\nladder: {widths: [24]}\ngrid: {kind: tokens, tokens: [1e6]}\n"
        "corpus: {sources: [{kind: files, path: a, name: a}, {kind: files, path: b, name: b}]}\n"
        "mixtures: {shares: {kind: lattice}}\n"
    )
    assert len(load_spec(str(path)).shares) == 5
    with pytest.raises(SpecError, match="and variants is given too: leave out one of the two"):
        load_spec(str(path), ["variants.gpt3={block: gpt3}"])


def test_runs_and_specs_with_mixtures_are_valid_under_the_schema_that_prefect_checks():
    [run, *_] = planned(target_tokens=8e6).runs
    jsonschema.validate(json.loads(run.model_dump_json()), PlannedRun.model_json_schema())
    for preset in ("mixture", "llama-mixture"):
        spec = json.loads(load_spec(preset).model_dump_json())
        jsonschema.validate(spec, SweepSpec.model_json_schema())


PARTS = {**BASE, "unique_tokens": [100_000, 800_000]}


def test_each_size_is_trained_again_on_each_part_up_to_the_tokens_beyond_it():
    whole = plan(SweepSpec(**PARTS), DataRef(digest="x"), source_tokens=TOKENS)
    fresh = {run.name: run for run in whole.runs if run.unique_tokens is None}
    alone = plan(SweepSpec(**BASE), DataRef(digest="x"))
    assert [run.id for run in fresh.values()] == [run.id for run in alone.runs]
    repeated = {run.name: run for run in whole.runs if run.unique_tokens is not None}
    assert {*repeated} == {f"d{d}-U{U}" for d in (24, 32) for U in (100_000, 800_000)}
    run = repeated["d24-U800000"]
    assert [cell.tokens for cell in run.cells] == [1_000_448]
    assert [cell.tokens for cell in repeated["d24-U100000"].cells] == [499_712, 1_000_448]
    # A part has every source by its weight, in whole windows of 128 tokens.
    assert run.run.data.mixture.unique_tokens == {
        "prose": 267_136, "code": 266_368, "data": 266_368,
    }  # fmt: skip
    assert run.unique_tokens == 799_872
    # The two differ in their text alone.
    other = fresh["d24"].run.train
    changed = run.run.train.model_copy(update={"schedule": other.schedule})
    assert changed == other
    assert run.run.train.schedule.horizons == (1_000_448,)
    assert Plan.model_validate_json(whole.model_dump_json()) == whole
    jsonschema.validate(json.loads(run.model_dump_json()), PlannedRun.model_json_schema())


def test_parts_that_nothing_repeats_or_that_are_compared_with_repeats_are_refused():
    def refused(match, tokens=TOKENS, **changes):
        with pytest.raises(ValueError, match=match):
            plan(SweepSpec(**(PARTS | changes)), DataRef(digest="x"), source_tokens=tokens)

    refused("unique_tokens=2,000,000: no run repeats them.*less than 980,831", unique_tokens=[2e6])
    refused(
        r"longest reads 333,157 tokens of 'data', which has 300,000", TOKENS | {"data": 300_000}
    )
    refused("unique_tokens repeats the runs.*variants is given", variants={"gpt3": {}})
    refused("mixtures is given too", mixtures={"shares": LATTICE})


def test_a_sweep_on_parts_of_the_text_is_on_no_isoflop_twice():
    grid = {"kind": "isoflop", "budgets": [5e10, 2e11], "tokens_per_param": [1, 500]}
    whole = plan(SweepSpec(**(PARTS | {"grid": grid})), DataRef(digest="x"))
    budgets = {cell.flops_budget for run in whole.runs if run.unique_tokens for cell in run.cells}
    assert budgets == {None}
    assert not [warning for warning in whole.warnings if "valley" in warning and "twice" in warning]


def test_the_preset_has_enough_runs_without_repeats_for_a_law():
    spec = load_spec("repetition")
    whole = plan(spec, DataRef(digest="x"))
    assert sum(len(run.cells) for run in whole.runs if run.unique_tokens is None) == 12
    assert whole.observations == 45
    jsonschema.validate(json.loads(spec.model_dump_json()), SweepSpec.model_json_schema())
    check = check_command(whole, check_runs(extremes(whole)[0])[0])
    assert "--set 'unique_tokens=[]'" in check
    assert (
        next_spec(whole, [NextCell(whole.runs[0].run.model, 1, 1_048_576, 1)]).unique_tokens == ()
    )
