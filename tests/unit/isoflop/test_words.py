"""Python's door answers what the command answers, and shows it as a person reads it."""

import json

import polars as pl
import pytest

import isoflop
from flows.cli import main
from flows.settings import Home
from tests.others_tables import BASE, write_table

HEADER = ["params", "D", "eval_nll"]
MAP = {"n_params": "params", "val_loss": "eval_nll"}


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path / "home"))
    return write_table(tmp_path / "base.csv", HEADER, BASE)


@pytest.fixture
def command(capsys):
    def run(*arguments):
        main([*map(str, arguments), "--json", "-"])
        return json.loads(capsys.readouterr().out)

    return run


def mapped(command, word, table, *options):
    pairs = [part for name, column in MAP.items() for part in ("--map", f"{name}={column}")]
    return command(word, table, *pairs, *options)


def plain(document):
    """As the command writes it and a program reads it."""
    return json.loads(json.dumps(document))


def test_fit_forecast_and_frontier_answer_as_the_commands_do(table, command):
    runs = isoflop.read(str(table), map=MAP)
    fit = isoflop.fit(runs, bootstrap=20, target_flops=1e23)
    options = ("--bootstrap", 20, "--target-flops", 1e23)
    assert plain(fit.json()) == mapped(command, "fit", table, *options)
    forecast = isoflop.forecast(runs, at=[(7e9, 2e12)], flops=1e23)
    options = ("--at", "7B,2T", "--flops", "1e23")
    assert plain(forecast.json()) == mapped(command, "forecast", table, *options)
    assert forecast.points[0].lower < forecast.points[0].loss < forecast.points[0].upper
    question = {"like": (7e9, 1e12), "prompt_tokens": (1e11, 1e12), "generated_tokens": 1e11}
    frontier = isoflop.frontier("besiroglu", **question, gpu="h100")
    options = ("--like", "7e9,1e12", "--prompt-tokens", "1e11:1e12", "--generated-tokens", 1e11)
    assert plain(frontier.json()) == command("frontier", *options, "--gpu", "h100")


def test_a_table_may_be_a_frame_or_columns_and_a_law_may_be_a_fit(table):
    frame = pl.DataFrame(dict(zip(HEADER, zip(*BASE, strict=True), strict=True)))
    runs = isoflop.read(str(table), map=MAP)
    for columns in (frame, frame.to_pandas(), frame.to_dict(as_series=False)):
        same = isoflop.read(columns, map=MAP)
        for name in ("n_params", "tokens", "val_loss"):
            assert same.used[name].cast(float).equals(runs.used[name].cast(float))
    assert repr(same).startswith("a data frame: 15 runs; N from 'params' (parameters), D from 'D'")
    fit = isoflop.fit(same, bootstrap=0)
    assert isoflop.frontier(fit, flops=1e21, inference_tokens=1e12).law == fit.law


def test_mix_and_compare_answer_as_the_commands_do(table, command, tmp_path):
    other = tmp_path / "other.csv"
    better = [(N, D, 0.98 * loss) for N, D, loss in BASE]
    write_table(other, HEADER, better)
    runs = [isoflop.read(str(path), map=MAP) for path in (table, other)]
    document = mapped(command, "compare", table, other, "--bootstrap", 5)
    assert plain(isoflop.compare(*runs, bootstrap=5).json()) == document
    frames = [isoflop.read(pl.read_csv(path), map=MAP) for path in (table, other)]
    of_frames = isoflop.compare(*frames, bootstrap=5).json()
    assert (of_frames["baseline"], of_frames["name"]) == ("data frame 1", "data frame 2")
    assert of_frames["speedup"]["compute"] == document["speedup"]["compute"]
    shares = [(a / 10, 1 - a / 10, 3 + a / 20, 4 - a / 10 + a**2 / 300) for a in range(1, 10)]
    mixtures = tmp_path / "mixtures.csv"
    write_table(mixtures, ["share_a", "share_b", "loss_a", "loss_b"], shares)
    mixed = isoflop.mix(str(mixtures), target={"a": 1, "b": 2})
    assert plain(mixed.json()) == command("mix", mixtures, "--target", "a=1,b=2")


def test_next_answers_and_writes_as_the_command_does(table, command, tmp_path):
    runs = isoflop.read(str(table), map=MAP)
    chosen = isoflop.next(runs, flops="1e22", budget=4e19, runs=2)
    options = ("--flops", "1e22", "--budget", "4e19", "--runs", 2, "--to", tmp_path / "to.csv")
    document = mapped(command, "next", table, *options)
    assert plain(chosen.json()) == document
    assert chosen.verdict == document["verdict"]
    chosen.to(tmp_path / "python.csv")
    assert (tmp_path / "python.csv").read_text() == (tmp_path / "to.csv").read_text()
    with pytest.raises(ValueError, match=r"name it \*\.csv"):
        chosen.to(tmp_path / "next.yaml")
    with pytest.raises(ValueError, match="--budget -1 should be a positive number"):
        isoflop.next(runs, flops=1e22, budget=-1)


def test_next_after_the_recorded_sweep_which_has_no_plan_chooses_around_its_table():
    chosen = isoflop.next(isoflop.sweep("demo", home=isoflop.RECORDED), flops=3e13, runs=1)
    assert chosen.frame.height == 1
    assert chosen.figures == ("next-runs",)


def test_retrodict_answers_as_the_command_does(command):
    assert plain(isoflop.retrodict().json()) == command("retrodict")
    with pytest.raises(ValueError, match="sweep nosuch has no law in"):
        isoflop.retrodict(experiment="nosuch")


def test_a_message_about_an_option_says_what_it_is_in_python():
    with pytest.raises(isoflop.TableError, match="--map val_loss=COLUMN") as refusal:
        isoflop.read({"N": [1e8, 2e8], "D": [1e9, 2e9]})
    assert "an option is a parameter" in refusal.value.__notes__[0]
    with pytest.raises(ValueError, match=r"--level 90 must lie between 0 and 1"):
        isoflop.frontier(loss=2.0, level=90)
    with pytest.raises(ValueError, match=r"no sweep 'nosuch' .* Sweeps there: demo\."):
        isoflop.sweep("nosuch", home=isoflop.RECORDED)


def test_an_answer_shows_what_its_page_begins_with_and_has_its_figures(table, tmp_path):
    fit = isoflop.fit(isoflop.read(str(table), map=MAP), bootstrap=5)
    text, html = repr(fit), fit._repr_html_()
    assert text.startswith("Loss law of base.csv")
    for shown in (text, html):
        assert f"{fit.law.E:.4f}" in shown
        assert "identified" in shown
    assert "<script" not in html
    assert {"isoflop", "fit", "profiles"} <= set(fit.figures)
    assert fit.figure("isoflop").data
    assert fit.data("isoflop").height
    with pytest.raises(ValueError, match=r"no figure 'valley'\. There are contours, fit, isoflop"):
        fit.figure("valley")
    fit.report(tmp_path / "page.html")
    assert text.splitlines()[0] in (tmp_path / "page.html").read_text()


def test_laws_of_several_groups_are_told_apart(tmp_path):
    rows = [(*row, half) for half in ("a", "b") for row in BASE]
    runs = isoflop.read(str(write_table(tmp_path / "t.csv", [*HEADER, "half"], rows)), map=MAP)
    fit = isoflop.fit(runs, by="half", bootstrap=0)
    assert set(fit.laws) == {"a", "b"}
    assert {"fit0-isoflop", "fit1-isoflop"} <= set(fit.figures)
    with pytest.raises(ValueError, match="there are 2 laws, of a, b: take one of groups"):
        _ = fit.law


def test_the_recorded_sweep_has_observations_curves_and_a_law():
    sweep = isoflop.sweep("demo", home=isoflop.RECORDED)
    assert repr(sweep).startswith(f"sweep demo: {sweep.runs.used.height} of")
    assert sweep.curves["train_loss"].is_not_null().all()
    assert sweep.home == Home(isoflop.RECORDED)


@pytest.mark.slow
def test_a_sweeps_law_and_figures_are_those_of_its_report():
    sweep = isoflop.sweep("demo", home=isoflop.RECORDED)
    [group] = isoflop.fit(sweep).groups
    same = {"name": "", "source": ""}
    assert sweep.law.model_copy(update=same) == group.fit.law.model_copy(update=same)
    assert {"isoflop", "fit", "frontier", "loss-curves"} <= set(sweep.figures)
    assert sweep.verdict.splitlines()[0] == sweep.findings.lead.sentence
    assert {"bill", "own"} <= set(isoflop.retrodict(experiment=sweep).figures)


def test_a_word_that_no_parameter_knows_is_refused_and_never_answered_by_another(table):
    runs = isoflop.read(str(table), map=MAP)
    for ask, known in (
        (lambda: isoflop.fit(runs, form="hoffmann"), "chinchilla, gamma"),
        (lambda: isoflop.fit(runs, objective="huber"), "huber_log, lad_log"),
        (lambda: isoflop.forecast(runs, form="tied"), "chinchilla, gamma"),
        (lambda: isoflop.compare(runs, runs, asymptote="own"), "shared, free"),
    ):
        with pytest.raises(ValueError, match=known):
            ask()


def test_one_pair_one_budget_as_text_and_whole_losses_are_taken_as_they_are_written(table):
    runs = isoflop.read(str(table), map=MAP)
    several = isoflop.forecast(runs, at=[(7e9, 2e12), "1B,20B"]).points
    for each, at in zip(several, ((7e9, 2e12), "1B,20B"), strict=True):
        [point] = isoflop.forecast(runs, at=at).points
        assert point.loss == pytest.approx(each.loss, rel=1e-9)
    frontiers = [isoflop.frontier("besiroglu", flops=flops).json() for flops in (1e23, "1e23")]
    assert frontiers[0] == frontiers[1]
    losses = isoflop.read({"N": [1e6, 2e6], "D": [10**9, 2e9], "loss": [3, 2.9]})
    assert losses.frame["val_loss"].to_list() == [3.0, 2.9]
