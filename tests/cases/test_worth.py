"""What a change is worth, asked of tables as files: one ranked answer, and refusals by name."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.cases.conftest import Run
from tests.pairs_of_tables import pair

GAINS = {"none": 1.0, "better": 1.3, "worse": 0.8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base.csv and a table for each of `GAINS`; 400,000 tokens/s against 500,000 on one GPU."""
    folder = tmp_path_factory.mktemp("worth")
    rng = np.random.default_rng(5)
    for name, gain in GAINS.items():
        tables = pair(rng, gain, noise=1e-3)
        for file, table, speed in (("base", tables[0], 5e5), (name, tables[1], 4e5)):
            columns = ["n_params", "tokens", "train_flops", "flops_budget", "val_loss"]
            frame = table.frame.select(columns).with_columns(
                val_bpb=pl.col("val_loss") / 3,
                tokens_per_s=pl.lit(speed),
                gpu=pl.lit("H100"),
                vocab_size=pl.lit(512),
            )
            frame.write_csv(folder / f"{file}.csv")
    return folder


def test_one_variant_leads_with_its_multipliers_and_the_projection(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    tables = [str(folder / f"{name}.csv") for name in ("base", "better")]
    printed = run("compare", *tables, "--bootstrap", "20", "--at", "1e19", "--report", str(page))
    assert printed.status == 0, printed.stderr
    first, table = (part.strip() for part in printed.stdout.split("\n\n")[:2])
    words = " ".join(first.split())
    assert words.startswith(f"{tables[1]} needs 1.")
    assert "times less compute than" in words
    assert "times less time. At 1.00e+19 FLOPs the multiplier is" in words
    assert "verdict" in table
    assert 'id="speedup"' in page.read_text()


def test_many_variants_are_one_ranked_table_and_one_document(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    tables = [str(folder / f"{name}.csv") for name in ("base", "worse", "none", "better")]
    asked = ("--bootstrap", "40", "--at", "1e19", "--asymptote", "1.8")
    written = tmp_path / "worth.json"
    printed = run("compare", *tables, *asked, "--json", written)
    assert printed.status == 0, printed.stderr
    # What each did to its law is on the page.
    assert printed.stdout.count("verdict") == 1
    assert "law, first" not in printed.stdout
    assert "--report PAGE.html" in printed.stdout
    document = json.loads(written.read_text())
    names = [Path(entry["name"]).stem for entry in document["variants"]]
    assert names == ["better", "none", "worse"]
    for name, entry in zip(names, document["variants"], strict=True):
        worth = entry["speedup"]
        # Half as wide again as the interval: 40 draws tell its ends to a fifth.
        spread = 1.5 * np.log(worth["compute"]["upper"] / worth["compute"]["lower"])
        assert abs(np.log(worth["compute"]["value"] / GAINS[name])) < spread
        assert worth["time"]["value"] == pytest.approx(0.8 * worth["compute"]["value"])
        assert len(worth["by_budget"]) == 4
        assert worth["projection"]["flops"] == 1e19
        assert worth["asymptote"]["kind"] == "given"
        assert worth["asymptote"]["value"] == 1.8
        assert set(worth["asymptote"]["others"]) == {"shared", "free"}
    verdicts = {n: e["speedup"]["projection"]["verdict"] for n, e in zip(
        names, document["variants"], strict=True)}  # fmt: skip
    assert verdicts == {"better": "holds", "none": "not shown", "worse": "not shown"}


@pytest.mark.parametrize(
    ("changed", "options", "message"),
    [
        ({"train_flops": 9 * pl.col("train_flops"), "flops_budget": 9 * pl.col("flops_budget")},
         (), "no common budget: "),
        ({"vocab_size": pl.lit(999)}, (), "the tokenizers differ (vocab_size 512 in "),
        ({"loss_unit": pl.lit("bpb")}, (), "Both have bits per byte, which do compare: --bpb."),
        ({}, ("--asymptote", "3.9"), "--asymptote 3.9 is not below every loss"),
        ({}, ("--asymptote", "some"), "--asymptote 'some': write shared, free, or a loss"),
        ({}, ("--at", "-1"), "--at -1.0 must be positive training FLOPs"),
    ],
)  # fmt: skip
def test_what_does_not_compare_is_refused(
    run: Run,
    folder: Path,
    tmp_path: Path,
    changed: dict[str, pl.Expr],
    options: tuple[str, ...],
    message: str,
) -> None:
    other = tmp_path / "other.csv"
    pl.read_csv(folder / "better.csv").with_columns(**changed).write_csv(other)
    printed = run("compare", str(folder / "base.csv"), str(other), "--bootstrap", "1", *options)
    assert printed.status == 2
    assert message in " ".join(printed.stderr.split())


def test_bits_per_byte_compare_between_tokenizers(run: Run, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    pl.read_csv(folder / "better.csv").with_columns(vocab_size=pl.lit(999)).write_csv(other)
    tables = str(folder / "base.csv"), str(other)
    printed = run("compare", *tables, "--bpb", "--bootstrap", "20", "--json", "-")
    document = json.loads(printed.stdout)
    assert document["unit"] == "bits per byte"
    assert 1.2 < document["speedup"]["compute"]["value"] < 1.4


def test_a_table_alone_has_nothing_to_be_compared_with(run: Run, folder: Path) -> None:
    printed = run("compare", str(folder / "base.csv"))
    assert printed.status == 2
    assert "alone has nothing to be compared with" in printed.stderr


def test_one_run_claims_no_change_and_one_draw_no_interval(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    whole = folder / "base.csv"
    single = tmp_path / "single.csv"
    pl.read_csv(whole).head(1).write_csv(single)
    printed = run("compare", str(whole), str(single), "--bootstrap", "20")
    assert printed.status == 0, printed.stderr
    assert printed.stdout.startswith("No change is shown: ")
    words = " ".join(printed.stdout.split())
    assert "too few runs for an interval" in words
    assert "1 loss at the same N and D" in words
    printed = run("compare", str(whole), str(folder / "better.csv"), "--bootstrap", "1")
    first = " ".join(printed.stdout.partition("needs")[0].split())
    assert "Too few for 90% intervals: 1 draw. Take 1000." in first
