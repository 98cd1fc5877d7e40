"""A forecast is written down before its run, scored after it, and never changed."""

import json
import time

import pytest

from flows.files import write_whole
from flows.runs.directory import RunDir
from flows.settings import Home
from tests.fakes import finished_run, planned_run
from tests.others_tables import BASE, loss, write_table

N, D = 2e9, 4e11
TRUE = loss(N, D)


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path / "runs.csv", ("N", "D", "loss"), BASE)


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def register(run, table, name="big", *points):
    return run("forecast", table, "--at", *(points or (f"{N},{D}",)), "--register", name)


def listed(run):
    return json.loads(run("forecast", "--list", "--json", "-").stdout)


def our_run(home, at: float) -> RunDir:
    """A finished run of ours whose losses were recorded at this time."""
    run = finished_run(home.root, planned_run())
    lines = [json.loads(line) for line in run.curve_path.read_text().splitlines()]
    write_whole(run.curve_path, "".join(json.dumps(row | {"at": at}) + "\n" for row in lines))
    result = run.result().model_copy(update={"finished_at": at})
    write_whole(run.result_path, result.model_dump_json())
    return run


def test_a_forecast_is_registered_listed_and_scored(run, table, home):
    done = register(run, table)
    assert done.status == 0
    assert "registered big; when its run has finished: " in done.stderr
    assert "isoflop forecast --check big --loss L, or --run RUN" in done.stderr
    [row] = listed(run)
    assert row["outcome"] == "pending"
    assert row["lower"] < TRUE < row["upper"]
    assert row["level"] == 0.9
    shown = run("forecast", "--list").stdout
    assert "1 pending" in shown
    assert "big" in shown

    done = run("forecast", "--check", "big", "--loss", TRUE)
    assert done.status == 0
    assert f"reached {TRUE:.4f}: hit" in done.stdout
    [row] = listed(run)
    assert (row["outcome"], row["actual"]) == ("hit", TRUE)
    assert abs(row["error_percent"]) < 1
    assert "1 of 1 hit" in run("forecast", "--list").stdout


def test_a_miss_is_called_a_miss_and_costs_twenty_times_its_distance(run, table):
    register(run, table)
    done = run("forecast", "--check", "big", "--loss", 2 * TRUE, "--json", "-")
    [row] = json.loads(done.stdout)
    assert row["outcome"] == "miss"
    # ln 2 is 69 %, less half the interval's width, times 2/(1 - 0.9), and the width once.
    width = row["winkler"] / 20
    assert 60 < width < 70


def test_a_name_is_written_once(run, table, home):
    register(run, table)
    before = (home.forecasts / "big.json").read_bytes()
    done = register(run, table, "big", "3B,1T")
    assert done.status == 2
    assert "--register big: a forecast with this name exists" in done.stderr
    assert "isoflop forecast --check big" in done.stderr
    assert (home.forecasts / "big.json").read_bytes() == before


def test_the_digest_is_that_of_the_rows_in_any_order(run, table, home, tmp_path):
    turned = write_table(tmp_path / "turned.csv", ("loss", "D", "N"), [r[::-1] for r in BASE[::-1]])
    other = write_table(tmp_path / "other.csv", ("N", "D", "loss"), [*BASE[:-1], (9e8, 2e10, 3.2)])
    for name, source in (("a", table), ("b", turned), ("c", other)):
        assert register(run, source, name).status == 0
    written = [json.loads((home.forecasts / f"{name}.json").read_text()) for name in "abc"]
    first, second, third = (each["table_sha256"] for each in written)
    assert first == second != third
    assert written[0]["isoflop"]
    assert written[0]["written_at"].endswith("Z")


@pytest.mark.parametrize("by_name", [True, False])
def test_a_run_of_this_home_is_matched_by_its_n_and_d(run, table, home, by_name):
    planned = planned_run()
    points = [f"{planned.n_params},{cell.tokens}" for cell in planned.cells]
    register(run, table, "ours", *points)
    register(run, table, "theirs")
    trained = our_run(home, time.time() + 1)
    names = ["ours"] if by_name else []
    done = run("forecast", "--check", *names, "--run", trained.id)
    assert done.status == 0, done.stderr
    assert done.stdout.count("ours: ") == 2
    # Asked again, the first score stands.
    run("forecast", "--check", *names, "--run", trained.id)
    assert [(row["name"], row["run_id"]) for row in listed(run)] == [
        ("ours", trained.id), ("ours", trained.id), ("theirs", None),
    ]  # fmt: skip


def test_a_run_that_ended_before_the_forecast_is_refused(run, table, home):
    planned = planned_run()
    trained = our_run(home, time.time() - 60)
    register(run, table, "late", f"{planned.n_params},{planned.cells[-1].tokens}")
    for names in (["late"], []):
        done = run("forecast", "--check", *names, "--run", trained.id)
        assert done.status == 2
        assert "before late was written" in done.stderr
        assert "that is no forecast" in done.stderr
    assert listed(run)[0]["outcome"] == "pending"


def test_an_unfinished_run_is_refused(run, table, home):
    planned = planned_run()
    register(run, table, "ours", f"{planned.n_params},{planned.cells[-1].tokens}")
    RunDir(home.runs / planned.id).create(planned)
    for names in (["ours"], []):
        done = run("forecast", "--check", *names, "--run", planned.id)
        assert done.status == 2
        assert "has not finished" in done.stderr


def test_a_run_of_another_n_and_d_is_refused_with_what_was_foretold(run, table, home):
    register(run, table)
    trained = our_run(home, time.time() + 1)
    done = run("forecast", "--check", "big", "--run", trained.id)
    assert done.status == 2
    assert "big foretells N = 2B, D = 400B" in done.stderr
    done = run("forecast", "--check", "--run", trained.id)
    assert done.status == 2
    assert "no registered forecast is of its N and D" in done.stderr


def test_a_loss_goes_to_the_point_that_at_names(run, table):
    register(run, table, "two", f"{N},{D}", "3e9,4e11")
    done = run("forecast", "--check", "two", "--loss", 2.5)
    assert done.status == 2
    assert "Say which one reached it with --at N,D" in done.stderr
    assert run("forecast", "--check", "two", "--loss", 2.5, "--at", "3B,400B").status == 0
    assert [row["outcome"] == "pending" for row in listed(run)] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a table of finished runs, a sweep's name, --check or --list."),
        (["TABLE", "--register", "x"], "--register x writes foretold losses: add --at N,D"),
        (["TABLE", "--at", "2B,1T", "--register", "a/b"], "--register 'a/b': a name has"),
        (["TABLE", "--at", "2B,1T", "--loss", "2"], "--loss 2.0 scores a forecast: add --check"),
        (["TABLE", "--check"], "--check reads the home and takes no table"),
        (["--list", "--check"], "--list and --check are two questions"),
        (["--check", "x", "--loss", "2", "--run", "a"], "--run and --loss both give the loss"),
        (["--check", "--loss", "2"], "--loss 2.0 needs one forecast"),
        (["--check", "x", "--loss", "-2"], "--loss -2.0 must be positive"),
        (["--check", "x", "--loss", "2"], "--check x: no such forecast"),
        (["--check", "x", "--run", "abc"], "no run 'abc'"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(run, table, arguments, message):
    done = run("forecast", *(table if each == "TABLE" else each for each in arguments))
    assert done.status == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_home_without_forecasts_says_how_to_register_one(run):
    assert "--at N,D --register NAME" in run("forecast", "--list").stdout
    assert "nothing to score" in run("forecast", "--check").stdout


def test_a_damaged_forecast_is_skipped_and_its_name_stays_taken(run, table, home):
    register(run, table)
    register(run, table, "other")
    (home.forecasts / "big.json").write_text("{}")
    assert [row["name"] for row in listed(run)] == ["other"]
    assert register(run, table).status == 2
