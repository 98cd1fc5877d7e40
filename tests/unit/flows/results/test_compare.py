"""Two sweeps are compared by settings, provenance, states and cost."""

import json

import pytest

from flows.results.compare import Difference, _shown, sweep_differences
from flows.runs.attempts import recording_attempt
from flows.runs.directory import RunDir
from flows.runs.provenance import Environment, Provenance
from flows.settings import Home
from sweeps.load import load_spec
from sweeps.plan import Plan
from sweeps.spec import DataRef
from tests.fakes import finished_run, planned_run

SMALL, LARGE, OTHER = (planned_run(width=width) for width in (16, 32, 48))


def plan_of(name, *runs, digest="d" * 64, overrides=()):
    spec = load_spec("smoke", [f"name={name}", f"description={name}", *overrides])
    return Plan(spec=spec, data=DataRef(digest=digest), runs=runs, warnings=())


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path)
    home.runs.mkdir()
    return home


def test_sweeps_that_differ_in_name_alone_do_not_differ(home):
    found = sweep_differences(plan_of("a", SMALL), plan_of("b", SMALL), home)
    assert (found.spec, found.provenance, found.doubts) == ((), (), ())
    assert found.shared == ("d16",)


def test_every_setting_that_differs_has_its_path_and_both_values(home):
    first = plan_of("a", SMALL, overrides=["seeds=[0, 1]"])
    second = plan_of(
        "b", LARGE, digest="e" * 64,
        overrides=["eval_tokens=2048", "corpus.vocab_size=1024", "cap={kind: flops, flops: 1e12}"],
    )  # fmt: skip
    found = sweep_differences(first, second, home)
    wanted = [
        Difference("seeds", [0, 1], [0]),
        Difference("eval_tokens", 16_384, 2048),
        Difference("corpus.vocab_size", first.spec.corpus.vocab_size, 1024),
        Difference("cap.kind", None, "flops"),
        Difference("cap.flops", None, 1e12),
        Difference("data digest", "d" * 12, "e" * 12),
    ]
    assert sorted(found.spec, key=lambda difference: difference.path) == sorted(
        wanted, key=lambda difference: difference.path
    )
    assert ["seeds", "0, 1", "0"] in found.rows()["spec"]
    assert ["cap.flops", "–", "1e+12"] in found.rows()["spec"]
    assert [doubt.split()[1] for doubt in found.doubts] == ["sweeps", "losses"]
    assert found.shared == ()


def test_states_and_costs_are_of_each_sweeps_own_runs(home):
    finished_run(home.root, SMALL)
    run = RunDir(home.runs / LARGE.id)
    run.create(LARGE)
    run.place(run.placement().model_copy(update={"ranks": 3}))
    lines = [
        {"kind": "start", "number": 1, "at": 100.0, "steps": 0, "steps_before": 0,
         "environment": {}, "packages": None},
        {"kind": "end", "number": 1, "at": 1300.0, "how": "stopped", "steps": 7},
    ]  # fmt: skip
    run.attempts_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = sweep_differences(plan_of("a", SMALL, OTHER), plan_of("b", SMALL, LARGE), home)
    first, second = found.sides
    assert first.states == {"finished": 1, "planned": 1}
    assert (first.flops, first.device_s) == (SMALL.flops_spent, 1.0)
    assert second.states == {"finished": 1, "planned": 1}
    assert second.flops == SMALL.flops_spent + 7 * LARGE.flops_per_step
    assert second.device_s == 1.0 + 3 * 1200.0
    facts = {row[0]: row[1:] for row in found.facts()}
    assert facts["runs"] == ["1 finished, 1 planned"] * 2
    assert facts["device-hours spent on them"] == ["0.000278", "1"]
    assert facts["runs in both"] == ["d16", "d16"]
    assert facts["counted FLOPs spent on them"][0] == f"{first.flops:.2e}"
    assert json.loads(json.dumps(found.as_json()))["shared_runs"] == ["d16"]


def recorded(home, planned, packages, **environment):
    run = RunDir(home.runs / planned.id)
    run.create(planned)
    made = Provenance(packages=packages, python="3.11", **environment)
    run.provenance_path.write_text(made.model_dump_json())
    return run


def test_provenance_is_that_of_all_attempts(home, monkeypatch):
    recorded(home, SMALL, {"torch": "2.1", "numpy": "2"}, git_commit="a" * 40, host="one")
    later = recorded(home, LARGE, {"torch": "2.1", "polars": "1"}, git_commit="a" * 40, host="one")
    again = Environment(git_commit="b" * 40, host="two", python="3.11")
    monkeypatch.setattr("flows.runs.attempts.environment", lambda device: again)
    monkeypatch.setattr("flows.runs.attempts.packages", lambda: {"torch": "2.2"})
    with recording_attempt(later, home):
        pass
    found = sweep_differences(plan_of("a", SMALL, OTHER), plan_of("b", LARGE), home).provenance
    assert found == (
        Difference("commit", ["a" * 12], ["b" * 12]),
        Difference("host", ["one"], ["two"]),
        Difference("package numpy", ["2"], []),
        Difference("package polars", [], ["1"]),
    )


def test_a_package_that_changed_between_attempts_is_shown_with_both_versions(home, monkeypatch):
    recorded(home, SMALL, {"torch": "2.1"}, lock_sha256="1" * 64)
    later = recorded(home, LARGE, {"torch": "2.1"}, lock_sha256="1" * 64)
    again = Environment(python="3.11", lock_sha256="2" * 64)
    monkeypatch.setattr("flows.runs.attempts.environment", lambda device: again)
    monkeypatch.setattr("flows.runs.attempts.packages", lambda: {"torch": "2.2"})
    with recording_attempt(later, home):
        pass
    found = sweep_differences(plan_of("a", SMALL), plan_of("b", LARGE), home)
    assert Difference("package torch", ["2.1"], ["2.1", "2.2"]) in found.provenance
    assert ["package torch", "2.1", "2.1, 2.2"] in found.rows()["provenance"]
    assert Difference("lock of packages", ["1" * 12], ["2" * 12]) in found.provenance


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), ([], "–"), ([1, 2.5], "1, 2.5"), ("ab", "ab"), (1e12, "1e+12"), (True, "True")],
)
def test_a_value_is_shown_as_a_person_would_write_it(value, text):
    assert _shown(value) == text
