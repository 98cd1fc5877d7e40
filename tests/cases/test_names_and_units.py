"""What a table's columns are called and measured in: said, checked, and never assumed.

Units that cannot be are doubted before an optimum is read off them; units that are merely unusual
pass without a word.
"""

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from analysis.table.repeats import epochs
from flows.answers.runs import read_runs
from flows.answers.source import source_of
from tests.cases.conftest import Done, Run
from tests.others_tables import BASE, TRUE_N_AT_1E20, write_table

QUICK = ("--bootstrap", 0)


def _group(done: Done) -> dict[str, object]:
    assert done.status == 0, done.stderr
    [group] = json.loads(done.stdout)["groups"]
    return group


def _fit(run: Run, table: Path, *options: object) -> Done:
    return run("fit", table, *QUICK, "--target-flops", 1e20, *options)


def _n_star(group: dict) -> float:
    return group["optimal"][-1]["n_opt"]


def _unit_doubts(group: dict) -> list[str]:
    """Sentences about units, all of which offer a --map; without the one about N's count."""
    return [d for d in group["doubts"] if "--map" in d and "what its N counts" not in d]


def test_the_first_lines_say_which_columns_were_read(run: Run, tmp_path: Path) -> None:
    table = write_table(tmp_path / "base.csv", ("N", "D", "loss"), BASE)
    document = tmp_path / "base.json"
    done = _fit(run, table, "--json", document)
    first = "\n".join(done.stdout.splitlines()[:4])
    assert "N from 'N' (parameters), D from 'D' (tokens), loss from 'loss'" in first
    [group] = json.loads(document.read_text())["groups"]
    assert group["read"] == {
        "n_params": {"from": "N", "unit": "parameters"},
        "tokens": {"from": "D", "unit": "tokens"},
        "val_loss": {"from": "loss"},
    }
    assert not _unit_doubts(group)


def test_the_page_says_which_columns_were_read(run: Run, tmp_path: Path) -> None:
    table = write_table(tmp_path / "base.csv", ("N", "D", "L"), BASE)
    page = tmp_path / "page.html"
    assert _fit(run, table, "--report", page).status == 0
    assert "loss from &#x27;L&#x27;" in page.read_text()


MILLIONS = ("Params (M)", "Tokens (B)", "flops", "loss")


def _in_millions(path: Path) -> Path:
    rows = [(N / 1e6, D / 1e9, f"{6.0 * N * D:.4e}", loss) for N, D, loss in BASE]
    return write_table(path, MILLIONS, rows)


def test_flops_that_contradict_6nd_name_the_units_and_the_way_out(run: Run, tmp_path: Path) -> None:
    table = _in_millions(tmp_path / "millions.csv")
    plain = ("--map", "n_params=Params (M)", "--map", "tokens=Tokens (B)")
    [doubt] = _unit_doubts(_group(_fit(run, table, *plain, "--json", "-")))
    assert "C ('flops') is 1e+15 times 6·N·D" in doubt
    assert "N in millions and D in billions" in doubt
    mends = """--map 'n_params="Params (M)"*1e6' --map 'tokens="Tokens (B)"*1e9'"""
    assert mends in doubt


def test_arithmetic_of_columns_gives_the_law_of_the_plain_table(run: Run, tmp_path: Path) -> None:
    table = _in_millions(tmp_path / "millions.csv")
    mapped = ("--map", 'n_params="Params (M)"*1e6', "--map", 'tokens="Tokens (B)"*1e9')
    group = _group(_fit(run, table, *mapped, "--json", "-"))
    # The rows' noise of 0.2 % moves N* by a tenth.
    assert _n_star(group) == pytest.approx(TRUE_N_AT_1E20, rel=0.1)
    assert group["read"]["n_params"]["from"] == '"Params (M)"*1e6'
    assert not _unit_doubts(group)


def test_a_missing_column_is_offered_in_the_unit_of_its_name(run: Run, tmp_path: Path) -> None:
    done = _fit(run, _in_millions(tmp_path / "millions.csv"))
    assert done.status == 2
    assert """--map 'tokens="Tokens (B)"*1e9'""" in done.stderr


def test_a_perplexity_is_no_loss_and_its_logarithm_is(run: Run, tmp_path: Path) -> None:
    rows = [(N, D, round(math.exp(loss), 3)) for N, D, loss in BASE]
    table = write_table(tmp_path / "ppl.csv", ("N", "D", "perplexity"), rows)
    missing = _fit(run, table)
    assert missing.status == 2
    assert "--map 'val_loss=ln(perplexity)'" in missing.stderr
    mapped = _group(_fit(run, table, "--map", "val_loss=perplexity", "--json", "-"))
    [doubt] = _unit_doubts(mapped)
    assert "--map 'val_loss=ln(perplexity)'" in doubt
    group = _group(_fit(run, table, "--map", "val_loss=ln(perplexity)", "--json", "-"))
    assert _n_star(group) == pytest.approx(TRUE_N_AT_1E20, rel=0.1)
    assert not _unit_doubts(group)


def test_points_that_mark_thousands_are_named_with_their_column(run: Run, tmp_path: Path) -> None:
    rows = [(N, f"{round(D / 1e8):,}".replace(",", "."), loss) for N, D, loss in BASE]
    table = write_table(tmp_path / "german.csv", ("N", "D", "loss"), rows, separator=";")
    doubts = _group(_fit(run, table, "--json", "-"))["doubts"]
    assert "'D' holds 833 and 2.778: does the point mark thousands?" in doubts[0]


def test_weights_are_used_only_when_mapped_and_then_said(run: Run, tmp_path: Path) -> None:
    header = ("N", "D", "loss", "weights")
    table = write_table(tmp_path / "weights.csv", header, [(*row, row[0]) for row in BASE])
    plain = write_table(tmp_path / "base.csv", header[:3], BASE)
    alike = _group(_fit(run, table, "--json", "-"))
    assert alike["exponents"] == _group(_fit(run, plain, "--json", "-"))["exponents"]
    weighted = ("--map", "weight=weights")
    assert "rows are weighted" in _fit(run, table, *weighted).stdout
    assert _group(_fit(run, table, *weighted, "--json", "-"))["exponents"] != alike["exponents"]


def test_a_mapped_name_leaves_open_what_n_counts(run: Run, tmp_path: Path) -> None:
    table = write_table(tmp_path / "base.csv", ("N", "D", "loss"), BASE)
    done = _fit(run, table, "--map", "n_params=N")
    assert "what N counts is unknown" in done.stdout
    assert "does not say what its N counts" in done.stdout


def test_numbers_as_people_write_them_give_the_law_of_the_plain_table(
    run: Run, tmp_path: Path
) -> None:
    plain = write_table(tmp_path / "base.csv", ("N", "D", "loss"), BASE)
    rows = [
        (f"{N / 1e6:g}M", f"{D:,}".replace(",", "."), f"{loss}".replace(".", ","))
        for N, D, loss in BASE
    ]
    table = write_table(tmp_path / "odd.csv", ("N", "D", "loss"), rows, separator=";")
    group = _group(_fit(run, table, "--json", "-"))
    assert group["law"] == _group(_fit(run, plain, "--json", "-"))["law"]
    assert group["read"]["n_params"]["written"] == "8M"
    assert not _unit_doubts(group)


def test_small_models_pass_without_a_word(run: Run, tmp_path: Path) -> None:
    rows = [
        (N, D, round(2.1 + 20 / N**0.3 + 40 / D**0.28, 4))
        for N in (1500, 4000, 15_000, 60_000)
        for D in (1e5, 3e6, 1e8, 1e9)
    ]
    table = write_table(tmp_path / "small.csv", ("N", "D", "loss"), rows)
    assert not _unit_doubts(_group(_fit(run, table, "--json", "-")))


def test_a_comma_that_may_be_either_is_refused_by_column(run: Run, tmp_path: Path) -> None:
    rows = [(f"{N // 1000:,}", D, loss) for N, D, loss in BASE if N < 1e9]
    rows = [row for row in rows if row[0].count(",") == 1]
    done = _fit(run, write_table(tmp_path / "comma.csv", ("N", "D", "loss"), rows))
    assert done.status == 2
    assert "column 'N' is ambiguous" in done.stderr


def test_a_map_that_is_no_arithmetic_names_its_option(run: Run, tmp_path: Path) -> None:
    table = write_table(tmp_path / "base.csv", ("N", "D", "loss"), BASE)
    for given in ("sum(N)", "N*", "(SELECT 1)", "Nn*2"):
        done = _fit(run, table, "--map", f"n_params={given}")
        assert done.status == 2
        assert "--map" in done.stderr
        assert given in done.stderr


def _trials(batch: float) -> Iterator[tuple[int, int, float, int, float]]:
    """Trials of one size with their minimum at lr 3e-3 and this batch."""
    rng = random.Random(3)
    for _ in range(14):
        x, y = rng.uniform(-1.3, 1.3), rng.uniform(-1.3, 1.3)
        loss = 3.4 + 0.06 * x * x + 0.02 * y * y + rng.gauss(0, 0.001)
        yield (
            60_000_000,
            4_000_000_000,
            3e-3 * math.exp(x),
            round(batch * math.exp(y)),
            round(loss, 5),
        )


TRIALS = ("N", "D", "lr", "bs", "loss")


def _best(done: Done, name: str) -> float:
    assert done.status == 0, done.stderr
    return json.loads(done.stdout)["optima"][0][name]["value"]


def test_a_batch_in_sequences_is_asked_about_with_the_way_out(run: Run, tmp_path: Path) -> None:
    rows = [(*row, 2048) for row in _trials(128)]
    table = write_table(tmp_path / "bs.csv", (*TRIALS, "seq_len"), rows)
    done = run("fit-lr", table)
    assert done.status == 2
    assert "'bs' seems to count sequences" in done.stderr
    assert "--map 'batch_tokens=bs*seq_len'" in done.stderr
    mended = run("fit-lr", table, "--map", "batch_tokens=bs*seq_len", "--json", "-")
    # Fourteen trials with a noise of 0.001 leave the batch to a few percent.
    assert _best(mended, "batch_tokens") == pytest.approx(128 * 2048, rel=0.1)
    assert json.loads(mended.stdout)["read"]["batch_tokens"]["from"] == "bs*seq_len"


def test_steps_tell_sequences_from_tokens(run: Run, tmp_path: Path) -> None:
    for length, status in ((1024, 2), (1, 0)):
        rows = [(*row, round(row[1] / row[3] / length)) for row in _trials(4096)]
        table = write_table(tmp_path / "steps.csv", (*TRIALS, "steps"), rows)
        done = run("fit-lr", table)
        assert done.status == status
        assert ("1/1024 of the tokens" in done.stderr) == (status == 2)


def test_a_batch_said_to_be_in_tokens_is_doubted_first_where_it_cannot_be(
    run: Run, tmp_path: Path
) -> None:
    rows = [(*row, 2048) for row in _trials(128)]
    table = write_table(tmp_path / "bs.csv", (*TRIALS, "seq_len"), rows)
    done = run("fit-lr", table, "--map", "batch_tokens=bs")
    assert done.status == 0
    assert "seems to count sequences" in done.stdout.splitlines()[0]


def test_batches_in_tokens_pass_without_a_word(run: Run, tmp_path: Path) -> None:
    table = write_table(tmp_path / "tokens.csv", TRIALS, _trials(262_144))
    done = run("fit-lr", table)
    assert " ".join(done.stdout.split()).startswith(
        "read: N from 'N' (parameters), D from 'D' (tokens), loss from 'loss', lr from 'lr', "
        "batch from 'bs' (tokens)"
    )
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "sequences" not in done.stdout


def test_trials_in_units_that_cannot_be_are_refused(run: Run, tmp_path: Path) -> None:
    rows = [(N / 1e6, D / 1e9, *rest) for N, D, *rest in _trials(262_144)]
    done = run("fit-lr", write_table(tmp_path / "units.csv", TRIALS, rows))
    assert done.status == 2
    assert "--map 'n_params=N*1e6' --map 'tokens=D*1e9'" in done.stderr


def test_a_rate_that_no_training_survives_is_doubted_first(run: Run, tmp_path: Path) -> None:
    rows = [(N, D, 1000 * lr, *rest) for N, D, lr, *rest in _trials(262_144)]
    done = run("fit-lr", write_table(tmp_path / "lr.csv", TRIALS, rows))
    assert "lr ('lr') is" in done.stdout.splitlines()[0]


@pytest.mark.parametrize(
    ("header", "cells", "mend"),
    [
        (("params", "compute (EFLOPs)"), (6e-9,), "--map 'train_flops=\"compute (EFLOPs)\"*1e18'"),
        (("params", "log10_tokens"), (9.0,), "--map 'tokens=pow(10,log10_tokens)'"),
        (("params", *(f"metrics.m{k}" for k in range(44))), (1,) * 44, "--map tokens=COLUMN"),
    ],
)
def test_a_missing_column_is_named_in_two_lines_with_the_option_that_gives_it(
    run: Run, tmp_path: Path, header: tuple[str, ...], cells: tuple[float, ...], mend: str
) -> None:
    rows = [(N, *cells, L) for N, _, L in BASE]
    done = run("fit", write_table(tmp_path / "table.csv", (*header, "loss"), rows))
    assert done.status == 2
    assert mend in done.stderr
    # Two lines of 80 columns, and what a long name takes.
    assert len(done.stderr) < 190


@pytest.mark.parametrize(
    ("column", "arithmetic"),
    [("bits_per_token", "bits_per_token*ln(2)"), ("log_likelihood", "-log_likelihood")],
)
def test_a_loss_in_another_unit_is_offered_in_nats(
    run: Run, tmp_path: Path, column: str, arithmetic: str
) -> None:
    table = write_table(tmp_path / "table.csv", ("N", "D", column), BASE)
    assert f"--map 'val_loss={arithmetic}'" in run("fit", table).stderr


def test_steps_times_a_batch_of_sequences_are_no_tokens(run: Run, tmp_path: Path) -> None:
    header = ("N", "steps", "batch_size", "seq_len", "loss")
    rows = [(N, D // 65_536, 64, 1024, L) for N, D, L in BASE]
    table = write_table(tmp_path / "steps.csv", header, rows)
    wrong = run("fit", table, "--bootstrap", 0, "--map", "tokens=steps*batch_size")
    words = " ".join(wrong.stdout.split())
    assert words.startswith("DOUBTFUL: D (steps*batch_size) is steps times batch_size")
    assert "--map 'tokens=(steps*batch_size)*seq_len'" in words
    right = run("fit", table, "--bootstrap", 0, "--map", "tokens=steps*batch_size*seq_len")
    assert "sequences" not in right.stdout
    in_tokens = [(N, D // 65_536, 65_536, 1024, L) for N, D, L in BASE]
    table = write_table(tmp_path / "tokens.csv", header, in_tokens)
    done = run("fit", table, "--bootstrap", 0, "--map", "tokens=steps*batch_size")
    assert "sequences" not in done.stdout


def test_logarithms_taken_for_counts_are_called_logarithms(run: Run, tmp_path: Path) -> None:
    rows = [(math.log10(N), math.log10(D), L) for N, D, L in BASE]
    table = write_table(tmp_path / "logs.csv", ("log10_N", "log10_D", "loss"), rows)
    maps = ("--map", "n_params=log10_N", "--map", "tokens=log10_D")
    words = " ".join(run("fit", table, "--bootstrap", 0, *maps).stdout.split())
    assert "Is it a logarithm? Then --map 'n_params=pow(10,log10_N)'" in words


def test_unique_tokens_are_read_only_by_the_law_that_uses_them(run: Run, tmp_path: Path) -> None:
    rows = [(*row, "all" if k % 2 else "") for k, row in enumerate(BASE)]
    table = write_table(tmp_path / "unique.csv", ("N", "D", "loss", "unique_tokens"), rows)
    done = run("fit", table, "--bootstrap", 0)
    assert done.status == 0
    assert "; 'unique_tokens' not read" in " ".join(done.stdout.split())
    done = run("fit", table, "--bootstrap", 0, "--form", "data_constrained")
    assert done.status == 2
    assert "'unique_tokens' should hold numbers, not 'all'" in done.stderr


def test_an_empty_cell_in_another_count_of_n_is_named(run: Run, tmp_path: Path) -> None:
    rows = [(N, 0 if k else "", D, L) for k, (N, D, L) in enumerate(BASE)]
    rows = [(N, total if total == "" else 1.1 * N, D, L) for N, total, D, L in rows]
    table = write_table(tmp_path / "counts.csv", ("N", "total_params", "D", "loss"), rows)
    words = " ".join(run("fit", table, "--bootstrap", 0).stdout.split())
    assert "n_params_total is empty in some rows, so no law counts N by it. Line 2." in words


def test_unique_tokens_of_another_name_are_mapped_as_any_column() -> None:
    frame = pl.DataFrame(BASE, schema=["N", "D", "loss"], orient="row")
    frame = frame.with_columns(corpus=pl.col("D") / 4)
    runs = read_runs(source_of(frame), {"unique_tokens": "corpus"})
    times = epochs(runs.used)
    assert times is not None
    assert times.to_list() == [4.0] * len(BASE)
    assert epochs(read_runs(source_of(frame)).used) is None
