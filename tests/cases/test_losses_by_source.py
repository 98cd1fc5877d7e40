"""A sweep on two sources: which source has which loss, wherever a user looks."""

import csv
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flows.mirror.metrics import metric_points
from flows.plans.plan import make_plan, sweep_folder
from flows.plans.stored import write_plan
from flows.results.report import write_report
from flows.runs.curve import CurveWriter
from flows.runs.directory import RunDir
from flows.runs.table import observations_frame
from flows.settings import Home, Settings, open_home
from flows.training.execute import execute
from flows.training.stacked import execute_stack
from llama_core.config import Placement
from llama_core.corpus.config import CorpusConfig, FileText
from sweeps.load import load_spec
from sweeps.plan import Plan
from tests.cases.conftest import Run
from tests.core_tools import story

HERE = Placement(device="cpu", threads=1, compile="off", stack=8)
# Sums of float32 in another order.
ROUNDING = 1e-6


def _code(seed: int) -> str:
    """Made-up code, which the models learn sooner than prose."""
    draw = np.random.default_rng(seed)
    lines = [f"def f{i}(x): return x + {draw.integers(1_000_000)}" for i in range(400)]
    return "\n".join(lines)


def _write(folder: Path, texts: list[str]) -> Path:
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"{number:02d}.txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return open_home(Settings(home=tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def planned(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Two seeds of one model on prose and code, trained as a stack and one by one."""
    texts = tmp_path_factory.mktemp("texts")
    prose = _write(texts / "prose", [story(seed) for seed in range(40)])
    code = _write(texts / "code", [_code(seed) for seed in range(12)])
    sources = [
        {"kind": "files", "path": str(prose), "name": "prose", "weight": 3},
        {"kind": "files", "path": str(code), "name": "c++", "weight": 1},
    ]
    grid = {"kind": "tokens", "tokens": [8_192, 16_384]}
    changes = {
        "name": "two", "corpus.sources": sources, "corpus.vocab_size": 300,
        "corpus.val_fraction": 0.2, "ladder.widths": [16], "grid": grid, "seq_len": 32,
        "eval_tokens": 4_096, "seeds": [0, 1, 2],
    }  # fmt: skip
    spec = load_spec("smoke", [f"{name}={json.dumps(value)}" for name, value in changes.items()])
    made, _ = make_plan(spec, home)
    runs = []
    for each in made.runs:
        run = RunDir(home.runs / each.id)
        run.create(each)
        run.place(HERE)
        runs.append(run)
    assert execute_stack(runs[:2], home)
    execute(runs[2], home)
    folder = sweep_folder(made, home)
    write_report(made, home, folder)
    write_plan(made, home)
    return made


@pytest.fixture
def command(run: Run, home: Home, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs commands in the home of that sweep."""
    monkeypatch.setenv("ISOFLOP_HOME", str(home.root))
    return run


def test_the_pooled_loss_is_the_sources_weighted_as_the_table_states(
    planned: Plan, home: Home
) -> None:
    rows = observations_frame(planned.runs, home)
    assert rows.height == 6
    for unit, family in (("val_loss", "loss_"), ("val_bpb", "bpb_")):
        losses = rows.select(f"{family}prose", f"{family}c++").to_numpy()
        tokens = rows.select("val_tokens_prose", "val_tokens_c++").to_numpy()
        # Bytes of the validation text follow from nats, bits per byte and tokens.
        nats = rows.select("loss_prose", "loss_c++").to_numpy()
        weights = tokens if family == "loss_" else nats * tokens / losses
        pooled = (losses * weights).sum(1) / weights.sum(1)
        assert rows[unit].to_numpy() == pytest.approx(pooled, rel=ROUNDING)
        swapped = (losses * weights[:, ::-1]).sum(1) / weights.sum(1)
        assert np.abs(swapped / pooled - 1).min() > 1_000 * ROUNDING
    assert (rows["val_tokens_prose"] + rows["val_tokens_c++"]).unique().to_list() == [4_096]
    shares = rows.select("share_prose", "share_c++").unique()
    assert shares.rows() == [(0.75, 0.25)]


def test_show_report_export_and_tracker_say_which_source_has_which_loss(
    command: Run, planned: Plan, home: Home, tmp_path: Path
) -> None:
    each = planned.runs[0]
    run = RunDir(home.runs / each.id)
    [first, last] = run.result().observations  # type: ignore[union-attr]
    prose, code = last.sources
    shown = command("show", each.id).stdout
    assert "losses by source" in shown
    for source in (*first.sources, *last.sources):
        words = (source.name, f"{source.share:.1%}", f"{source.val_tokens:,}")
        [line] = [s for s in shown.splitlines() if all(f" {w} " in s for w in words)
                  and f"{source.loss:.4f}" in s]  # fmt: skip
        assert f"{source.bpb:.4f}" in line
    document = json.loads(command("show", each.id, "--json", "-").stdout)
    assert document["losses"][1]["sources"][1]["loss"] == code.loss
    page = (home.sweeps / "two" / "report.html").read_text()
    assert "Losses by source" in page
    assert f"{prose.loss:.4f}" in page
    assert f"{code.bpb:.4f}" in page
    assert command("export", "two", "--format", "csv", "--to", tmp_path).status == 0
    with (tmp_path / "observations.csv").open() as file:
        exported = [row for row in csv.DictReader(file) if row["parent_run_id"] == each.id]
    assert [float(row["loss_c++"]) for row in exported] == [first.sources[1].loss, code.loss]
    points = dict(metric_points(run, each))
    assert points["loss_by_source/prose"].value == prose.loss
    assert points["bpb_by_source/c__"].value == code.bpb


def test_the_table_is_one_of_mixtures_and_still_one_of_losses(
    command: Run, planned: Plan, tmp_path: Path
) -> None:
    # One mixture is no law: its columns are read, and more mixtures are asked for.
    refused = command("mix", "two")
    assert refused.status == 2
    assert "different mixtures" in refused.stderr
    command("export", "two", "--format", "csv", "--to", tmp_path)
    # A fit takes val_loss for the loss, and not the sources'.
    fitted = command("fit", tmp_path / "observations.csv")
    assert "could all be" not in fitted.stderr
    assert "loss_" not in fitted.stderr


def test_a_source_without_text_in_the_validation_set_is_named_when_the_sweep_is_planned(
    planned: Plan, home: Home, tmp_path: Path
) -> None:
    prose, code = planned.spec.corpus.sources
    note = _write(tmp_path / "note", [story(99, sentences=1), story(98)])
    tiny = {"kind": "files", "path": str(note), "name": "note"}
    sources = (prose, code, FileText.model_validate(tiny))
    corpus = planned.spec.corpus.model_copy(update={"sources": sources})
    spec = planned.spec.model_copy(update={"corpus": corpus, "name": "three", "seq_len": 128})
    made, _ = make_plan(spec, home)
    assert [w for w in made.warnings if "no loss of its own" in w] == [
        "source 'note' has no text among the 4,096 validation tokens, so it has no loss of its "
        "own. Raise eval_tokens or corpus.val_fraction, or add text."
    ]
    with pytest.raises(ValueError, match="Use another name"):
        CorpusConfig(sources=(FileText(path="a", name="unit"), FileText(path="b", name="b")))


def test_a_run_of_an_earlier_version_lacks_the_columns_and_nothing_else(
    planned: Plan, home: Home, tmp_path: Path
) -> None:
    run = RunDir(home.runs / planned.runs[0].id)
    before = observations_frame(planned.runs, home)
    kept = run.result_path.read_text()
    result = json.loads(kept)
    for observation in result["observations"]:
        del observation["sources"]
    run.result_path.write_text(json.dumps(result))
    try:
        after = observations_frame(planned.runs, home)
        alone = observations_frame(planned.runs[:1], home)
    finally:
        run.result_path.write_text(kept)
    assert after.schema == before.schema
    assert after["loss_prose"].null_count() == 2
    common = [name for name in before.columns if "prose" not in name and "c++" not in name]
    assert after.select(common).equals(before.select(common))
    assert alone.columns == common


def test_a_curve_whose_last_line_is_longer_than_its_tail_is_still_read(
    planned: Plan, home: Home, tmp_path: Path
) -> None:
    source = RunDir(home.runs / planned.runs[0].id)
    rows = [row for row in source.curve.rows() if row["kind"] == "eval"]
    steps = source.curve.steps()
    many = rows[-1] | {"sources": rows[-1]["sources"] * 60}
    copy = RunDir(tmp_path / "run")
    copy.path.mkdir()
    copy.curve_path.write_text(source.curve_path.read_text() + json.dumps(many) + "\n")
    assert copy.curve.last() == many
    assert copy.curve.steps().equals(steps)
    assert isinstance(steps, pl.DataFrame)
    # A writer goes on behind it.
    writer = CurveWriter(copy.curve_path, 1)
    writer.close()
    assert copy.curve.last() == many
