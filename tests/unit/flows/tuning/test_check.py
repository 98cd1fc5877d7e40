"""A sweep takes a fitted law as numbers, and shows how far its runs are from it."""

import json
import shlex

import polars as pl
import pytest

from analysis.page import Page
from analysis.tuning.regret import left_on_table
from analysis.tuning.study_law import StudyLaw, StudyLawError
from flows.files import write_whole
from flows.plans.fitted_law import fitted_laws, with_fitted_law
from flows.runs.directory import Observation, RunDir, RunResult
from flows.settings import Home
from flows.tuning.check import Tuned, _cells, _inside, add_tuned, tuned, tuned_lines
from sweeps.choices import FittedLaw, LawRecipe
from sweeps.load import load_spec
from sweeps.plan import plan
from sweeps.rate_checks import check_command, check_runs, extremes
from sweeps.recipe import rates
from sweeps.spec import DataRef

DATA = DataRef(digest="d" * 64)
KNOWN = {"intervals": {}, "points": 4, "reasons": []}
LR = {"coef": 2.0, "exponent_N": -0.5, "exponent_D": 0.0, **KNOWN}
BATCH = {"coef": 0.5, "exponent_D": 0.5, **KNOWN}
LAW = {
    "study": "lr-batch",
    "data": DATA.digest,
    "lr": LR,
    "batch": BATCH,
    "recipe": {"lr": LR, "batch": BATCH, "published": {}},
    "level": 0.9,
    "optima": [
        {
            "N": 40_000.0,
            "D": 1e6,
            "loss": 3.0,
            "noise": 0.01,
            "trials": 12,
            "axes": ["lr", "batch_tokens"],
            "curvature": [[0.06, -0.01], [-0.01, 0.04]],
        }
    ],
    "support": {"N": [15_000.0, 42_000.0], "D": [2e5, 4e5]},
    "refusals": [],
    "advice": [],
}


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "tunes" / "lr-batch"
    folder.mkdir(parents=True)
    (folder / "law.json").write_text(json.dumps(LAW))
    return Home(tmp_path)


def by_law(home, *overrides):
    overrides = ("recipe={kind: law, study: lr-batch}", *overrides)
    return plan(with_fitted_law(load_spec("demo", overrides), home), DATA)


def test_a_run_holds_the_laws_numbers_at_the_middle_of_its_budgets(home):
    planned = by_law(home)
    for run in planned.runs:
        N = run.n_params
        assert run.run.train.optimizer.lr == pytest.approx(2 * N**-0.5)
        middle = (run.cells[0].tokens * run.cells[-1].tokens) ** 0.5
        # The batch is rounded to whole sequences of 128, budgets afterwards to whole batches.
        assert run.run.train.batch_tokens == pytest.approx(0.5 * middle**0.5, abs=70)
        assert "fitted by study lr-batch" in run.lr_source
    assert planned.spec.recipe.fitted.lr_coef == 2.0


def test_a_plan_read_back_needs_no_study(home):
    planned = by_law(home)
    again = type(planned).model_validate_json(planned.model_dump_json())
    assert plan(again.spec, DATA).runs == planned.runs


def test_a_cosine_run_takes_the_law_at_its_own_budget(home):
    planned = by_law(home, "schedule=cosine", "ladder.widths=[48]")
    batches = [run.run.train.batch_tokens for run in planned.runs]
    assert len(set(batches)) > 2
    assert batches == sorted(batches)


def test_sizes_outside_the_study_are_named_in_a_warning(home):
    [sizes] = [warning for warning in by_law(home).warnings if "sizes N lie outside" in warning]
    assert sizes.startswith("5 of 8 sizes N lie outside the 15,000 to 42,000 that study lr-batch")


def test_an_unknown_study_is_refused_with_the_known_ones(home):
    spec = load_spec("demo", ["recipe={kind: law, study: other}"])
    with pytest.raises(ValueError, match=r"no fitted study of that name.*Studies there: lr-batch"):
        with_fitted_law(spec, home)


@pytest.mark.parametrize(
    "content", ["{", '{"study": "lr-batch"}', json.dumps(LAW | {"level": "x"})]
)
def test_a_damaged_law_is_refused_with_its_study_and_the_command_that_repairs_it(home, content):
    (home.tunes / "lr-batch" / "law.json").write_text(content)
    with pytest.raises(StudyLawError, match=r"study lr-batch.*isoflop tune lr-batch"):
        by_law(home)


def test_a_damaged_law_of_another_study_hides_no_law(home, caplog):
    other = home.tunes / "other"
    other.mkdir()
    (other / "law.json").write_text("{")
    assert list(fitted_laws(home)) == ["lr-batch"]
    assert "isoflop tune other" in caplog.text


def test_a_study_from_before_recipes_is_refused_with_the_command_that_adds_one(home, caplog):
    (home.tunes / "lr-batch" / "law.json").write_text(
        json.dumps({key: value for key, value in LAW.items() if key != "recipe"})
    )
    with pytest.raises(StudyLawError, match=r"recipe: Field required.*: isoflop tune lr-batch"):
        by_law(home)
    assert fitted_laws(home) == {}
    assert "isoflop tune lr-batch" in caplog.text


def test_a_law_without_a_batch_is_refused_unless_the_recipe_sets_one():
    law = FittedLaw(lr_coef=1.0, N=(1e4, 1e5), D=(1e5, 1e6))
    model = plan(load_spec("smoke"), DATA).runs[0].run.model
    with pytest.raises(ValueError, match=r"has no law for the batch. Set recipe.batch_tokens"):
        rates(LawRecipe(study="s", fitted=law), model, tokens=1e5, seq_len=128)
    given = LawRecipe(study="s", fitted=law, batch_tokens=512)
    assert rates(given, model, tokens=1e5, seq_len=128).batch_tokens == 512


def test_loss_left_is_the_curvature_times_half_the_squared_distance():
    runs = pl.DataFrame(
        {
            "name": ["best", "twice"],
            "n_params": [40_000, 40_000],
            "tokens": [1_000_000, 1_000_000],
            "lr": [0.01, 0.02],
            "batch_tokens": [500, 500],
        }
    )
    best, twice = left_on_table(runs, StudyLaw.model_validate(LAW)).iter_rows(named=True)
    assert best["loss_left"] == pytest.approx(0.0)
    assert twice["lr_ratio"] == pytest.approx(2.0)
    assert twice["loss_left"] == pytest.approx(0.06 * 0.6931**2 / 2, rel=1e-3)
    assert best["outside"]  # its tokens are beyond the study's


def test_every_run_of_a_report_is_compared_with_the_law(home):
    planned = plan(load_spec("demo"), DATA)
    found = tuned(planned, home)
    assert found.rows.height == planned.observations
    page = Page("x")
    add_tuned(page, found)
    assert "Against the laws of study lr-batch" in page.html()
    assert any("predicts at most" in line for line in tuned_lines(found))


def test_an_extreme_that_was_not_checked_is_named_with_two_runs(home):
    found = tuned(plan(load_spec("demo"), DATA), home)
    # The smallest size lies in the study's range, the largest does not.
    assert len(found.warnings) == 1
    assert "d112" in found.warnings[0]
    assert len(found.checks) == 2


def test_without_a_study_both_extremes_are_unchecked(tmp_path):
    found = tuned(plan(load_spec("demo"), DATA), Home(tmp_path))
    assert len(found.warnings) == 2
    page = Page("x")
    add_tuned(page, found)
    assert "isoflop tune lr-batch" in page.html()


def test_a_dear_check_is_priced_and_a_cheaper_size_offered_or_none(tmp_path):
    planned, home = plan(load_spec("demo", ["weight_decay=0.2"]), DATA), Home(tmp_path)
    [middle] = [run for run in planned.runs if run.name == "d80"]
    found = tuned(planned, home, given="demo --set weight_decay=0.2")
    assert "d112" in found.warnings[1]
    assert found.warnings[1].endswith(
        "would cost 15 % of the sweep's FLOPs; for 4.5 %, d80 (N = "
        f"{middle.n_params:,}) can be checked."
    )
    words = "isoflop sweep demo --set weight_decay=0.2 --set name=demo-"
    assert [command.split(" --set 'ladder")[0] for command in found.checks] == [
        f"{words}{name}" for name in ("d16-lr-x0_5", "d16-lr-x2", "d80-lr-x0_5", "d80-lr-x2")
    ]
    alone = tuned(planned.model_copy(update={"runs": planned.runs[-1:]}), home)
    assert alone.checks == ()
    assert alone.warnings[0].endswith("and no size can be checked for 5 % or less.")


def test_the_commands_train_exactly_the_check_runs():
    planned = plan(load_spec("demo"), DATA)
    largest = extremes(planned)[-1]
    for check in check_runs(largest):
        words = shlex.split(check_command(planned, check))
        assert words[:3] == ["isoflop", "sweep", "demo"]
        [run] = plan(load_spec("demo", words[4::2]), DATA).runs
        assert run.id == check.id


def test_finished_checks_say_whether_the_rate_is_bracketed(home):
    planned = plan(load_spec("demo"), DATA)
    largest = extremes(planned)[-1]
    for run, loss in zip([largest, *check_runs(largest)], (3.0, 3.01, 3.02), strict=True):
        with_losses(home, run, loss)
    found = tuned(planned, home)
    assert found.warnings == ()
    assert found.checked == (
        f"d112 at D = {largest.cells[0].tokens:,}: x0.5 +0.0100, x2 +0.0200 nats per token; "
        "its learning rate is bracketed.",
    )


def with_losses(home, run, loss, *, tokens=None):
    """A result of the run with this loss at each of its horizons, or at one of them."""
    directory = RunDir(home.runs / run.id)
    directory.create(run)
    result = RunResult(
        run_id=run.id,
        status="finished",
        observations=tuple(
            Observation(tokens=cell.tokens, val_loss=loss, val_bpb=2, weights_sha256="0")
            for cell in run.cells
            if tokens is None or cell.tokens == tokens
        ),
        train_s=1,
        device="cpu",
        finished_at=1,
    )
    write_whole(directory.result_path, result.model_dump_json())


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ((3.0, 3.01, 2.99), "x0.5 +0.0100, x2 -0.0100 nats per token; a better learning rate is"),
        ((3.0, 2.9, 3.02), "x0.5 -0.1000, x2 +0.0200 nats per token; a better learning rate is"),
        ((3.0, 3.0, 3.02), "x0.5 +0.0000, x2 +0.0200 nats per token; a better learning rate is"),
        ((3.0, 3.01, None), "x0.5 +0.0100 nats per token; its learning rate is bracketed"),
        ((None, 3.01, 3.02), "d112: its checks are finished, the run itself is not."),
    ],
)
def test_a_rate_is_bracketed_where_half_and_twice_of_it_are_worse(home, losses, verdict):
    planned = plan(load_spec("demo"), DATA)
    largest = extremes(planned)[-1]
    for run, loss in zip([largest, *check_runs(largest)], losses, strict=True):
        if loss is not None:
            with_losses(home, run, loss)
        elif run is not largest:
            # Finished without the loss that is compared.
            with_losses(home, run, 3.0, tokens=0)
    [told] = tuned(planned, home).checked
    assert verdict in told


def test_checks_that_are_not_finished_are_asked_for_one_by_one(home):
    planned = plan(load_spec("demo"), DATA)
    largest = extremes(planned)[-1]
    half, twice = check_runs(largest)
    with_losses(home, half, 3.0)
    found = tuned(planned, home)
    assert found.checks == (check_command(planned, twice),)
    lr = largest.run.train.optimizer.lr
    assert found.warnings[0].startswith(
        f"the learning rate of d112 (N = {largest.n_params:,}), {lr:.2e}, was not checked"
    )
    document = found.as_json()
    assert (document["study"], document["warnings"]) == ("lr-batch", list(found.warnings))
    assert len(document["runs"]) == planned.observations


@pytest.mark.parametrize(
    ("low", "high", "inside"),
    [(1.19, 9.0, True), (1.21, 9.0, False), (0.1, 1 / 1.19, True), (0.1, 1 / 1.21, False)],
)
def test_a_size_counts_as_studied_up_to_a_fifth_beyond_the_study(low, high, inside):
    run = extremes(plan(load_spec("demo"), DATA))[0]
    N = run.n_params
    law = StudyLaw.model_validate(LAW | {"support": {"N": [low * N, high * N], "D": [1.0, 2.0]}})
    assert _inside(run, law) is inside


def test_a_plan_is_compared_with_the_study_it_names_or_the_newest_on_its_corpus(home):
    assert tuned(plan(load_spec("demo"), DATA), home).study == "lr-batch"
    assert tuned(plan(load_spec("demo"), DataRef(digest="e" * 64)), home).study == ""
    named = by_law(home)
    elsewhere = named.model_copy(update={"data": DataRef(digest="e" * 64)})
    assert tuned(elsewhere, home).study == "lr-batch"


def rows_of(**columns):
    rows = {
        "name": ["a", "b", "c"],
        "n_params": [1_000, 2_000, 3_000],
        "tokens": [10_000, 20_000, 30_000],
        "lr": [0.01, 0.02, 0.03],
        "lr_ratio": [1.0, 2.0, None],
        "batch_tokens": [1024, 1024, 2048],
        "batch_ratio": [0.5, None, 1.25],
        "loss_left": [0.001, 0.02, None],
        "outside": [False, True, True],
    }
    return pl.DataFrame(rows | columns, schema_overrides={"loss_left": pl.Float64})


def test_a_terminal_gets_the_worst_run_that_is_known():
    found = Tuned("s", rows_of(), ("w",), ("isoflop sweep x",), ("checked",))
    assert tuned_lines(found) == [
        "advice: w",
        "  isoflop sweep x",
        "checked",
        "study s predicts at most 0.0200 nats per token left on the table by learning rate and "
        "batch (b at D = 20,000)",
    ]
    unknown = Tuned("s", rows_of(loss_left=[None] * 3), (), (), ())
    assert tuned_lines(unknown) == []


def test_a_page_has_a_row_for_every_run_with_dashes_for_what_is_unknown():
    page = Page("x")
    add_tuned(page, Tuned("s", rows_of(), ("the rate",), (), ()))
    html = page.html()
    assert "The rate" in html
    assert "at most 0.0200 nats per token are predicted" in html
    rows = [_cells(row) for row in rows_of().iter_rows(named=True)]
    assert rows == [
        ["a", "1,000", "10,000", "1.00e-02", "1.00", "1,024", "0.50", "0.0010", ""],
        ["b", "2,000", "20,000", "2.00e-02", "2.00", "1,024", "–", "0.0200", "outside"],
        ["c", "3,000", "30,000", "3.00e-02", "–", "2,048", "1.25", "–", "outside"],
    ]
    bare = Page("x")
    add_tuned(bare, Tuned("s", rows_of(loss_left=[None] * 3), (), (), ()))
    assert "at most" not in bare.html()
