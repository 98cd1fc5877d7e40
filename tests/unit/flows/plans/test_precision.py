"""dtype auto becomes the faster precision of this machine, once, and stays so."""

import json

import pytest

from flows.plans import precision
from flows.plans.precision import fastest_dtype, measured_here, with_dtype
from flows.plans.stored import write_plan
from flows.settings import Home
from flows.tuning.plan import with_dtype as with_study_dtype
from llama_core.config import Placement
from sweeps.load import load_spec, load_tune_spec
from sweeps.plan import plan
from sweeps.spec import DataRef
from tests.fakes import planned_run

AUTO = load_spec("smoke", ("dtype=auto",))
CPU = Placement(device="cpu")


@pytest.fixture
def trials(monkeypatch):
    """Replaces the trials: how many times as fast bfloat16 is, and the difference in loss."""
    found, made = [1.3, 0.001], []

    def compare(model, cfg, placement):
        made.append((model.d_model, placement.threads))
        return tuple(found)

    monkeypatch.setattr(precision, "_compared", compare)
    monkeypatch.setattr("llama_core.machine.multiplies_bf16", lambda: True)
    return found, made


@pytest.mark.parametrize(
    ("speedup", "gap", "dtype"),
    [(1.3, 0.001, "bfloat16"), (1.04, 0.001, "float32"), (1.3, 0.03, "float32")],
)
def test_bfloat16_is_chosen_where_it_is_faster_and_its_losses_are_those_of_float32(
    tmp_path, trials, speedup, gap, dtype
):
    trials[0][:] = speedup, gap
    spec = with_dtype(AUTO, Home(tmp_path))
    assert spec == AUTO.model_copy(update={"dtype": dtype})
    # The smallest and the largest, on the thread of a slot.
    assert trials[1] == [(16, 1), (64, 1)]


def test_a_machine_is_measured_once_for_a_class_of_shapes(tmp_path, trials):
    home = Home(tmp_path)
    with_dtype(AUTO, home)
    trials[0][:] = 1.0, 0.0
    other = load_spec("smoke", ("dtype=auto", "ladder.widths=[24]", "name=other"))
    assert with_dtype(other, home).dtype == "bfloat16"
    assert len(trials[1]) == 2
    (file,) = (tmp_path / "timings").iterdir()
    assert json.loads(file.read_text())["speedup"] == 1.3
    longer = load_spec("smoke", ("dtype=auto", "seq_len=64"))
    assert with_dtype(longer, home).dtype == "float32"


def test_the_run_holds_what_was_chosen_and_the_plan_says_why(tmp_path, trials):
    home = Home(tmp_path)
    planned = plan(with_dtype(AUTO, home), DataRef(digest="x"))
    assert {run.run.train.dtype for run in planned.runs} == {"bfloat16"}
    given = plan(load_spec("smoke", ("dtype=bfloat16",)), DataRef(digest="x"))
    assert [run.id for run in planned.runs] == [run.id for run in given.runs]
    line = measured_here(planned, home)
    assert line.startswith("dtype bfloat16 on every machine of this sweep: on ")
    assert line.endswith("bfloat16 has 1.30 times the speed of float32")
    assert measured_here(plan(AUTO, DataRef(digest="x")), home) is None
    on_gpu = {"placement": planned.spec.placement.model_copy(update={"device": "cuda"})}
    elsewhere = planned.model_copy(update={"spec": planned.spec.model_copy(update=on_gpu)})
    assert measured_here(elsewhere, home) is None


def test_a_sweep_in_the_home_keeps_its_precision_and_so_does_a_study(tmp_path, trials):
    home = Home(tmp_path)
    old = plan(load_spec("smoke"), DataRef(digest="x"))
    write_plan(old, home)
    assert with_dtype(AUTO, home).dtype == "float32"
    study = load_tune_spec("lr-batch", ("dtype=auto",))
    assert with_study_dtype(study, home).dtype == "bfloat16"
    (home.tunes / study.name).mkdir(parents=True)
    kept = study.model_copy(update={"dtype": "float32"})
    (home.tunes / study.name / "spec.json").write_text(kept.model_dump_json())
    assert with_study_dtype(study, home).dtype == "float32"
    assert len(trials[1]) == 2


def test_variants_that_say_auto_have_the_same_precision(tmp_path, trials):
    variants = {"half": {"dtype": "auto"}, "full": {"dtype": "float32"}}
    spec = load_spec("smoke").model_copy(update={"variants": variants})
    chosen = with_dtype(spec, Home(tmp_path))
    assert chosen.dtype == "float32"
    assert chosen.variants == {"half": {"dtype": "bfloat16"}, "full": {"dtype": "float32"}}
    # Also when it is planned again.
    write_plan(plan(chosen, DataRef(digest="x")), Home(tmp_path))
    assert with_dtype(spec, Home(tmp_path)) == chosen


def test_a_processor_without_bf16_products_is_not_tried(tmp_path, trials, monkeypatch):
    monkeypatch.setattr("llama_core.machine.multiplies_bf16", lambda: False)
    assert with_dtype(AUTO, Home(tmp_path)).dtype == "float32"
    assert trials[1] == []


@pytest.mark.parametrize(("supported", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_a_gpu_takes_bfloat16_where_it_has_it(tmp_path, trials, monkeypatch, supported, dtype):
    import torch

    monkeypatch.setattr("llama_core.machine.resolve_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: supported)
    training = (planned_run().run.model, planned_run().run.train)
    assert fastest_dtype([training], CPU, Home(tmp_path)) == dtype
    assert trials[1] == []


def test_a_trial_compares_the_same_steps_in_both():
    run = planned_run(width=16).run
    speedup, gap = precision._compared(run.model, run.train, CPU.model_copy(update={"threads": 1}))
    # Rounded to bf16, the loss of the tenth step is another in the fourth digit.
    assert 0 < gap < 0.02
    assert 0.01 < speedup < 100
