"""Files and logs of every usual kind give the plain table's law, or say why they cannot."""

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path

import optuna
import polars as pl
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from tests.cases.conftest import Done, Run
from tests.others_tables import BASE, write_table

HEADER = ("N", "D", "loss")
FRAME = pl.DataFrame(BASE, schema=HEADER, orient="row")


def _exponent(done: Done) -> float:
    assert done.status == 0, done.stderr
    [group] = json.loads(done.stdout)["groups"]
    return float(group["exponents"]["N"])


def _fit(run: Run, table: object, *options: object) -> Done:
    return run("fit", table, "--bootstrap", 0, "--json", "-", *options)


def _tsv_gz(path: Path) -> None:
    path.write_bytes(gzip.compress(FRAME.write_csv(separator="\t").encode()))


def _semicolons_gz(path: Path) -> None:
    path.write_bytes(gzip.compress(FRAME.write_csv(separator=";").encode(), compresslevel=1))


def _utf16(path: Path) -> None:
    path.write_text(FRAME.write_csv(separator="\t"), encoding="utf-16")


def _pandas_columns(path: Path) -> None:
    columns = {
        name: dict(enumerate(values)) for name, values in FRAME.to_dict(as_series=False).items()
    }
    path.write_text(json.dumps(columns))


@pytest.mark.parametrize(
    "write",
    [_tsv_gz, _semicolons_gz, _utf16, _pandas_columns, pl.DataFrame.write_ndjson],
    ids=["tsv.gz", "semicolons.gz", "utf16", "pandas json", "json lines"],
)
def test_every_usual_form_gives_the_plain_tables_law(
    run: Run, tmp_path: Path, write: Callable[..., None]
) -> None:
    path = tmp_path / "runs.table"
    write(FRAME, path) if write is pl.DataFrame.write_ndjson else write(path)
    assert _exponent(_fit(run, path)) == pytest.approx(0.4725, abs=5e-4)


@pytest.mark.parametrize(
    ("header", "extra", "words"),
    [
        ((*HEADER, " loss"), (9.9,), "columns 3 and 4 of line 1 are both named 'loss'"),
        ((*HEADER, "loss"), (9.9,), "columns 3 and 4 of line 1 are both named 'loss'"),
        ((*HEADER, "note"), (), "every row needs the 4 cells of the header (line 1), not 3"),
        (tuple(map(str, BASE[0])), (), "line 1 holds numbers"),
    ],
)
def test_a_faulty_header_is_refused_in_one_line(
    run: Run, tmp_path: Path, header: tuple[str, ...], extra: tuple[float, ...], words: str
) -> None:
    table = write_table(tmp_path / "runs.csv", header, [(*row, *extra) for row in BASE])
    done = run("fit", table)
    assert done.status == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_curves_of_a_chart_are_named_and_what_to_export_instead(run: Run, tmp_path: Path) -> None:
    name = "d16 - train/loss"
    header = ("Step", name, f"{name}__MIN", f"{name}__MAX")
    table = write_table(tmp_path / "chart.csv", header, [(k, 5.0, 5.0, 5.0) for k in range(5)])
    done = run("fit", table)
    assert done.status == 2
    assert "curves of a W&B chart" in done.stderr
    assert "Export the table of runs" in done.stderr


def test_a_column_that_the_form_does_not_use_may_have_holes(run: Run, tmp_path: Path) -> None:
    rows = [(*row, "" if k == 4 else 1e12) for k, row in enumerate(BASE)]
    table = write_table(tmp_path / "runs.csv", (*HEADER, "unique_tokens"), rows)
    assert _exponent(_fit(run, table)) == pytest.approx(0.4725, abs=5e-4)
    done = _fit(run, table, "--form", "data_constrained")
    assert done.status == 2
    assert "unique_tokens is missing" in done.stderr
    assert "Line 6." in done.stderr


def test_compute_beyond_64_bits_is_read(run: Run, tmp_path: Path) -> None:
    rows = [(N * 10, D * 10, loss, 600 * N * D) for N, D, loss in BASE]
    table = write_table(tmp_path / "runs.csv", ("N", "D", "loss", "C"), rows)
    assert _exponent(_fit(run, table)) == pytest.approx(0.4725, abs=5e-4)


def test_a_bad_value_is_named_by_the_line_of_the_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    lines = FRAME.write_csv().splitlines()
    lines[3] = lines[3].rpartition(",")[0] + ",-1"
    path.write_text("\n".join(["# ours", "", *lines]))
    done = run("fit", path)
    assert done.status == 2
    # Two lines and the header stand before the third row.
    assert "Line 6." in done.stderr


def test_a_sweep_is_fitted_where_a_folder_of_its_name_lies(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "home" / "sweeps" / "mine"
    folder.mkdir(parents=True)
    FRAME.write_parquet(folder / "observations.parquet")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert _exponent(_fit(run, "mine")) == pytest.approx(0.4725, abs=5e-4)
    (tmp_path / "theirs").mkdir()
    done = run("fit", "theirs")
    assert done.status == 2
    assert "theirs is a folder without TensorBoard's event files" in done.stderr


def test_an_optuna_study_gives_its_best_rate_and_batch(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    study = optuna.create_study(
        study_name="lr", storage=JournalStorage(JournalFileBackend(str(path)))
    )
    study.set_user_attr("n_params", 60_000_000)
    study.set_user_attr("tokens", 4_000_000_000)
    ranges = {
        "lr": FloatDistribution(1e-4, 1.0, log=True),
        "batch_tokens": IntDistribution(1, 10**7),
    }
    for lr in (7.5e-4, 1.5e-3, 3e-3, 6e-3, 1.2e-2):
        for batch in (32_768, 65_536, 131_072):
            # Trials at the highest rate are stopped early, with a loss below all others.
            pruned = lr > 1e-2
            off = math.log(lr / 3e-3) ** 2 + math.log(batch / 65_536) ** 2
            study.add_trial(
                create_trial(
                    state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
                    params={"lr": lr, "batch_tokens": batch},
                    distributions=ranges,
                    value=2.0 if pruned else 3.0 + 0.02 * off,
                )
            )
    for name in (path, f"optuna:lr@{path}"):
        done = run("fit-lr", name, "--json", "-")
        assert done.status == 0, done.stderr
        # The trials are an exact parabola of both logarithms.
        laws = json.loads(done.stdout)
        assert laws["lr"]["coef"] == pytest.approx(3e-3, rel=1e-3)
        assert laws["batch"]["coef"] == pytest.approx(65_536, rel=1e-3)
    done = run("fit-lr", f"optuna:rl@{path}")
    assert done.status == 2
    assert "has no study 'rl': lr" in done.stderr


def test_a_missing_experiment_says_where_it_was_looked_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = run("fit", "mlflow:scaling")
    assert done.status == 2
    assert "MLFLOW_TRACKING_URI" in done.stderr


def test_a_title_above_the_names_is_pointed_out(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    write_table(tmp_path / "below.csv", HEADER, BASE)
    path.write_text("Runs,2026\n" + (tmp_path / "below.csv").read_text())
    done = run("fit", path)
    assert done.status == 2
    assert "line 1 has 2 cells and every row 3. Delete what stands above" in done.stderr
