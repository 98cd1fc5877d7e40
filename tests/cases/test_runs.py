"""Tables whose rows are not all finished, independent runs of one experiment."""

import json
import math
import random
from pathlib import Path

import polars as pl
import pytest

from analysis.fit.answer import fit_table
from analysis.fit.options import FitOptions
from analysis.table.columns import normalise
from tests.cases.conftest import Run
from tests.others_tables import BASE, loss, write_table

HEADER = ("N", "D", "loss")
# Three runs of the same sizes that died after a fifth of their tokens.
DEAD = tuple((n, d, round(loss(n, d * 0.2), 4)) for n, d, _ in BASE[3::5])


def _answer(run: Run, table: Path, *options: object) -> dict:
    done = run("fit", table, "--bootstrap", 0, *options, "--json", "-")
    assert done.status == 0, done.stderr
    return json.loads(done.stdout)["groups"][0]


def _refusal(run: Run, command: str, table: Path, *options: object) -> str:
    done = run(command, table, *options)
    assert done.status == 2
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.fixture(scope="module")
def plain() -> float:
    """The exponent of the fifteen good rows."""
    frame = pl.DataFrame(BASE, schema=list(HEADER), orient="row")
    [group] = fit_table(normalise(frame), FitOptions(bootstrap=0))
    return group.fit.law.exponent_N


@pytest.mark.parametrize(
    ("column", "good", "bad", "reason"),
    [
        ("State", "finished", "crashed", "status is crashed"),
        ("Status", "FINISHED", "FAILED", "status is FAILED"),
        ("run_state", "done", "running", "status is running"),
        ("finished", "true", "false", "status is not finished"),
        ("diverged", "no", "yes", "status is diverged"),
        ("exit_code", 0, 137, "status is exit code 137"),
        ("mlflow_run_status", 3, 4, "status is failed"),
    ],
)
def test_runs_that_died_are_left_out_and_the_answer_says_so(
    run: Run, tmp_path: Path, plain: float, column: str, good: object, bad: object, reason: str
) -> None:
    rows = [(*row, good) for row in BASE] + [(*row, bad) for row in DEAD]
    table = write_table(tmp_path / "table.csv", (*HEADER, column), rows)
    done = run("fit", table, "--bootstrap", 0, "--json", tmp_path / "fit.json")
    [group] = json.loads((tmp_path / "fit.json").read_text())["groups"]
    assert group["exponents"]["N"] == plain
    assert f"left out 3 rows: {reason}" in done.stdout


def test_a_state_is_read_from_categories_as_from_text(
    run: Run, tmp_path: Path, plain: float
) -> None:
    frame = pl.DataFrame([*BASE, *DEAD], schema=list(HEADER), orient="row")
    states = pl.Series("state", ["finished"] * 15 + ["killed"] * 3, dtype=pl.Categorical)
    frame.with_columns(states).write_parquet(tmp_path / "table.parquet")
    assert _answer(run, tmp_path / "table.parquet")["exponents"]["N"] == plain


def test_a_table_of_failed_runs_names_the_reason_and_the_option_that_takes_them(
    run: Run, tmp_path: Path, plain: float
) -> None:
    rows = [(*row, "failed") for row in BASE]
    table = write_table(tmp_path / "table.csv", (*HEADER, "status"), rows)
    message = _refusal(run, "fit", table)
    assert "15 because status is failed" in message
    assert "--include-status failed" in message
    assert _answer(run, table, "--include-status", "failed")["exponents"]["N"] == plain


def test_an_unknown_state_is_asked_for_and_us_states_are_none(
    run: Run, tmp_path: Path, plain: float
) -> None:
    rows = [(*row, "finished") for row in BASE] + [(*row, "archived") for row in DEAD]
    table = write_table(tmp_path / "table.csv", (*HEADER, "state"), rows)
    assert "'archived'" in _refusal(run, "fit", table)
    assert _answer(run, table, "--include-status", "finished")["exponents"]["N"] == plain
    rows = [(*row, ("Ohio", "Utah")[k % 2]) for k, row in enumerate(BASE)]
    table = write_table(tmp_path / "states.csv", (*HEADER, "state"), rows)
    assert _answer(run, table)["exponents"]["N"] == plain


def test_pruned_trials_do_not_move_the_best_learning_rate(run: Run, tmp_path: Path) -> None:
    rng = random.Random(3)
    rows = []
    for _ in range(14):
        x, y = rng.uniform(-1.3, 1.3), rng.uniform(-1.3, 1.3)
        trial = (3e-3 * math.exp(x), round(65536 * math.exp(y)))
        value = 3.4 + 0.06 * x * x + 0.02 * y * y + rng.gauss(0, 0.001)
        rows.append((20_000_000, 400_000_000, *trial, value, "COMPLETE"))
    rows += [(20_000_000, 400_000_000, 1.17e-2, b, 3.36, "PRUNED") for b in (26000, 60000, 117000)]
    header = ("n_params", "tokens", "lr", "batch_tokens", "val_loss", "state")
    table = write_table(tmp_path / "trials.csv", header, rows)
    done = run("fit-lr", table)
    assert done.status == 0, done.stderr
    assert "left out 3 rows: status is PRUNED" in done.stdout
    lr = float(done.stdout.split("lr*    = ")[1].split()[0])
    assert lr == pytest.approx(3e-3, rel=0.05)
    table = write_table(tmp_path / "pruned.csv", header, rows[14:])
    assert "--include-status PRUNED" in _refusal(run, "fit-lr", table)


def _rates() -> list[tuple[object, ...]]:
    return [
        (n, d, lr, round(value + more * (n / 1e7) ** 0.35, 4))
        for n, d, value in BASE
        for lr, more in ((1e-3, 0), (2e-3, 0.01), (4e-3, 0.03))
    ]


def test_several_rates_at_one_n_and_d_are_refused_and_the_best_of_them_is_the_law(
    run: Run, tmp_path: Path, plain: float
) -> None:
    table = write_table(tmp_path / "table.csv", ("N", "D", "peak_lr", "loss"), _rates())
    message = _refusal(run, "fit", table)
    for words in ("15 pairs of N and D", "peak_lr", "--best-of peak_lr", "--where", "--pool"):
        assert words in message
    options = ("--bootstrap", 0, "--best-of", "peak_lr", "--json", tmp_path / "fit.json")
    text = run("fit", table, *options).stdout
    [group] = json.loads((tmp_path / "fit.json").read_text())["groups"]
    assert group["exponents"]["N"] == plain
    assert "left out 30 rows: not the best peak_lr of its N and D" in text
    assert "At 15 of 15 pairs of N and D the best peak_lr is the least" in text
    assert run("fit", table, "--bootstrap", 0, "--pool").status == 0
    assert "no such column" in _refusal(run, "fit", table, "--best-of", "lr")


def test_one_rate_for_each_size_and_seeds_are_silent(
    run: Run, tmp_path: Path, plain: float
) -> None:
    rows = [(*row, 0.1 * row[0] ** -0.3, row[1] // 10**5, k % 3) for k, row in enumerate(BASE)]
    table = write_table(tmp_path / "table.csv", (*HEADER, "lr", "batch", "seed"), rows)
    answer = _answer(run, table)
    assert answer["exponents"]["N"] == plain
    seeds = [(*row, seed) for row in BASE for seed in range(3)]
    table = write_table(tmp_path / "seeds.csv", (*HEADER, "seed"), seeds)
    assert run("fit", table, "--bootstrap", 0).status == 0


@pytest.mark.parametrize("name", ["vocab_size", "tokenizer_id", "seq_len"])
def test_an_experiment_that_changed_with_the_budget_is_refused(
    run: Run, tmp_path: Path, name: str
) -> None:
    rows = [
        (n, d, 1 if n * d < 2e18 else 2, value if n * d < 2e18 else round(value * 0.97, 4))
        for n, d, value in BASE
    ]
    table = write_table(tmp_path / "table.csv", ("N", "D", name, "loss"), rows)
    message = _refusal(run, "fit", table)
    for words in (name, "--by", "--where", "--pool"):
        assert words in message
    assert run("fit", table, "--bootstrap", 0, "--pool").status == 0


def test_columns_that_say_nothing_of_the_loss_are_silent(
    run: Run, tmp_path: Path, plain: float
) -> None:
    rng = random.Random(5)
    rows = [
        (n, d, value, 32000, 6 if n < 1e8 else 12, rng.choice("ab"), rng.choice((1, 2)), f"r{k}")
        for k, (n, d, value) in enumerate(BASE)
    ]
    header = (*HEADER, "vocab_size", "n_layers", "host", "gpus", "name")
    answer = _answer(run, write_table(tmp_path / "table.csv", header, rows))
    assert answer["exponents"]["N"] == plain


def test_data_sets_are_seen_in_categories_as_in_text(run: Run, tmp_path: Path) -> None:
    frame = pl.DataFrame([*BASE, *BASE], schema=list(HEADER), orient="row")
    sets = pl.Series("dataset", ["web"] * 15 + ["code"] * 15)
    messages = []
    for kind in (pl.String, pl.Categorical, pl.Enum(["web", "code"])):
        path = tmp_path / "table.parquet"
        frame.with_columns(sets.cast(kind)).write_parquet(path)
        messages.append(_refusal(run, "fit", path))
    assert "'dataset' holds 2 groups (code, web)" in messages[0]
    assert messages == [messages[0]] * 3


def _checkpoints(luck: float) -> list[tuple[object, ...]]:
    """Eight runs of ten checkpoints; luck moves all losses of a run alike."""
    rng = random.Random(1)
    rows = []
    for k in range(8):
        n, common = 10_000_000 * 2**k, rng.gauss(0, luck)
        for step in range(1, 11):
            d = n * 20 * step
            noisy = loss(n, d) * math.exp(common + rng.gauss(0, 0.001))
            rows.append((f"width-{k}", n, d, round(noisy, 4)))
    return rows


@pytest.mark.parametrize("name", ["run_name", "Name", "run", "exp"])
def test_checkpoints_are_resampled_by_run(run: Run, tmp_path: Path, name: str) -> None:
    table = write_table(tmp_path / "table.csv", (name, *HEADER), _checkpoints(0.01))
    text = run("fit", table, "--bootstrap", 20).stdout
    assert f"resampled by run, from column {name}: 8 runs" in text
    assert "bootstrap over runs" in text


def test_checkpoints_without_names_are_doubted_and_independent_rows_are_not(
    run: Run, tmp_path: Path
) -> None:
    def doubted(luck: float) -> bool:
        rows = [row[1:] for row in _checkpoints(luck)]
        table = write_table(tmp_path / "table.csv", HEADER, rows)
        doubts = " ".join(_answer(run, table)["doubts"])
        return "no column names runs" in doubts

    assert doubted(0.01)
    assert not doubted(0)


def test_a_name_for_each_row_changes_nothing(run: Run, tmp_path: Path) -> None:
    named = [(f"run-{k}", *row) for k, row in enumerate(BASE)]
    table = write_table(tmp_path / "table.csv", ("name", *HEADER), named)
    text = run("fit", table, "--bootstrap", 20).stdout
    table = write_table(tmp_path / "plain.csv", HEADER, BASE)
    assert text == run("fit", table, "--bootstrap", 20).stdout
    assert "bootstrap over rows" in text


@pytest.mark.parametrize("spread", [0.0, 0.003])
def test_budgets_that_differ_by_rounding_are_one(run: Run, tmp_path: Path, spread: float) -> None:
    rows = [
        (n, d, 6 * n * d * (1 + spread * (-1) ** k), value) for k, (n, d, value) in enumerate(BASE)
    ]
    table = write_table(tmp_path / "table.csv", ("N", "D", "budget", "loss"), rows)
    text = run("fit", table, "--bootstrap", 0).stdout
    assert "approach 2 (3 of 3 budgets)" in text
    assert "cannot show a minimum" not in text


def test_a_reason_of_stopping_is_a_state(run: Run, tmp_path: Path, plain: float) -> None:
    rows = [(*row, "finished") for row in BASE] + [(*row, "preempted") for row in DEAD]
    table = write_table(tmp_path / "table.csv", (*HEADER, "end_reason"), rows)
    assert _answer(run, table)["exponents"]["N"] == plain


@pytest.mark.parametrize(
    ("column", "good", "bad", "words"),
    [
        ("notes", "", "diverged at step 4000", "Column 'notes' says 'diverged at step 4000'"),
        ("status", "finished", "", "Column 'status' is empty where others are finished"),
    ],
)
def test_rows_that_may_have_died_are_used_with_a_doubt(
    run: Run, tmp_path: Path, column: str, good: str, bad: str, words: str
) -> None:
    rows = [(*row, good) for row in BASE] + [(*row, bad) for row in DEAD]
    table = write_table(tmp_path / "table.csv", (*HEADER, column), rows)
    printed = " ".join(run("fit", table, "--bootstrap", 0).stdout.split())
    assert words in printed
    assert "Lines 17, 18, 19." in printed


def test_notes_of_finished_runs_are_no_doubt(run: Run, tmp_path: Path) -> None:
    notes = ["", "déjà vu", "rerun on the new cluster", "baseline"]
    rows = [(*row, notes[k % 4]) for k, row in enumerate(BASE)]
    table = write_table(tmp_path / "table.csv", (*HEADER, "notes"), rows)
    assert "notes" not in run("fit", table, "--bootstrap", 0).stdout


def test_of_several_experiments_the_largest_is_offered(run: Run, tmp_path: Path) -> None:
    rows = [(*row, "web") for row in BASE] + [(*row, "code") for row in BASE[:4]]
    table = write_table(tmp_path / "table.csv", (*HEADER, "dataset"), rows)
    message = _refusal(run, "fit", table)
    assert "--where \"dataset = 'web'\"" in message
    # Two lines of 80 columns, and the path of a test's file is not in it.
    assert len(message) <= 160
