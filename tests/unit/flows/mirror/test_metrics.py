"""What of a run MLflow is sent: points, parameters and tags."""

import itertools

import pytest

from flows.mirror.metrics import (
    Point,
    _kept_steps,
    benchmark_points,
    branch_metric,
    metric_points,
    provenance_tags,
    run_params,
)
from flows.runs.curve import CurveWriter
from flows.runs.directory import RunDir
from flows.runs.provenance import Provenance
from llama_core.counting import count_params
from llama_core.mixture import Mixture
from tests.fakes import (
    add_score,
    evaluation,
    finished_run,
    planned_run,
    step,
)


def long_run(folder, planned):
    """The trunk of a run, and its last cooldown, as far as it goes."""
    run = RunDir(folder / "runs" / planned.id)
    run.create(planned)
    curve, last = CurveWriter(run.curve_path), planned.run.train.total_steps
    for number in range(1, last + 1):
        curve.append(step(number))
    curve.append(evaluation(last))
    curve.close()
    return run


@pytest.mark.parametrize("total", [499, 500, 501, 777, 4_000])
def test_a_long_run_is_thinned_and_keeps_its_first_and_last_step(tmp_path, total):
    planned = planned_run(steps=(total,))
    points = list(metric_points(long_run(tmp_path, planned), planned))
    steps = [point.step for name, point in points if name == "loss/train_loss"]
    assert len(steps) == len(set(steps))
    # Of 500 points those that are dense at the start may coincide with the even ones.
    assert len(steps) == total if total <= 500 else 400 < len(steps) <= 500
    assert steps[:10] == list(range(1, 11))
    assert steps[-1] == total
    # Some 130 of the 500 go to the start, and what is left is even.
    gaps = [after - before for before, after in itertools.pairwise(steps)]
    assert max(gaps) <= total / 370 + 1
    assert [point.step for name, point in points if name == "loss/val_loss"] == [total]


def test_a_thinned_run_is_dense_at_its_start():
    # Powers of 1.06 in whole steps: all up to 16, then at most 6 % apart until the even ones.
    kept = sorted(_kept_steps(planned_run(steps=(100_000,))))
    assert kept[:16] == list(range(1, 17))
    assert all(after / before < 1.12 for before, after in itertools.pairwise(kept[9:]))
    assert _kept_steps(planned_run(steps=(500,))) == frozenset(range(1, 501))


def test_the_last_step_of_every_cooldown_is_mirrored(tmp_path):
    planned = planned_run(steps=(1_022, 2_048, 3_001))
    run = RunDir(tmp_path / "runs" / planned.id)
    run.create(planned)
    horizons = planned.run.train.schedule.horizons
    curve = CurveWriter(run.curve_path)
    for number in range(1, 3_002):
        curve.append(step(number))
    for horizon in horizons:
        for number in range(horizon // 1024 - 300, horizon // 1024 + 1):
            curve.append(step(number, horizon=horizon))
    curve.close()
    points = list(metric_points(run, planned))
    ends = {name: max(point.step for other, point in points if other == name) for name, _ in points}
    assert ends["loss_cooldown/D_1046528"] == 1_022
    assert ends["loss_cooldown/D_2097152"] == 2_048
    assert ends["loss/train_loss"] == 3_001


@pytest.mark.parametrize(("budget", "name"), [(1.6e11, "C_1.60e11"), (None, "D_20480")])
def test_a_branchs_metric_is_named_after_its_isoflop_or_its_tokens(budget, name):
    cell = planned_run().cells[0].model_copy(update={"flops_budget": budget})
    assert branch_metric(cell) == f"loss_cooldown/{name}"


def test_only_whole_benchmarks_of_known_horizons_are_points(tmp_path):
    run = finished_run(tmp_path, planned_run())
    add_score(run)
    add_score(run, tokens=40_960, answer_bpb=None, score=60.0, shots=0)
    add_score(run, limit=10)
    add_score(run, tokens=7)
    assert benchmark_points(run) == [
        ("tasks/arc_5shot", Point(20, 50.0, 7500)),
        ("tasks/arc_5shot_bpb", Point(20, 1.5, 7500)),
        ("tasks/arc_0shot", Point(40, 60.0, 7500)),
    ]


def test_parameters_are_those_of_the_run():
    planned = planned_run()
    counts = count_params(planned.run.model)
    assert run_params(planned) == {
        "n_params": str(counts.n_params),
        "n_params_total": str(counts.total),
        "n_params_non_embedding": str(counts.non_embedding),
        "d_model": "32",
        "n_layers": "2",
        "horizons": "20480,40960",
        "lr": "0.008",
        "lr_source": "test",
        "batch_tokens": "1024",
        "warmup_tokens": "4096",
        "schedule": "wsd",
        "seed": "0",
        "data_digest": "no such corpus",
    }
    mixed = Mixture(shares={"prose": 0.75, "code": 0.25})
    data = planned.run.data.model_copy(update={"mixture": mixed})
    run = planned.run.model_copy(update={"data": data})
    params = run_params(planned.model_copy(update={"run": run, "mixture": "m07"}))
    assert params.items() >= {"mixture": "m07", "share_prose": "0.75", "share_code": "0.25"}.items()


def test_tags_have_what_is_known_and_no_empty_ones(tmp_path):
    run = finished_run(tmp_path, planned_run())
    assert provenance_tags(run) == {}
    made = Provenance(git_commit="c0ffee", processor="a CPU", seed=0, spec={"b": 1, "a": 2})
    run.provenance_path.write_text(made.model_dump_json())
    assert provenance_tags(run) == {
        "mlflow.source.git.commit": "c0ffee",
        "isoflop.device": "a CPU",
        "isoflop.seed": "0",
        "isoflop.spec": '{"a": 2, "b": 1}',
    }
    gpu = made.model_copy(update={"device_name": "a GPU"})
    run.provenance_path.write_text(gpu.model_dump_json())
    assert provenance_tags(run)["isoflop.device"] == "a GPU"
