"""A run trained through the core, in a home of its own: no servers, no sweep."""

from collections.abc import Callable
from pathlib import Path

from flows.runs.curve import CurveWriter
from flows.runs.directory import RunDir
from llama_core.config import AdamW, TrainConfig, Wsd
from llama_core.corpus.config import CorpusConfig, FileText
from llama_core.corpus.preparation import prepare
from llama_core.records import CheckpointRecord
from llama_core.train import train
from sweeps.grid import Cell
from sweeps.spec import DataRef, PlannedRun, RunSpec
from tests.core_tools import story, tiny


def trained_run(
    home: Path,
    *,
    seq_len: int = 16,
    unicode: bool = False,
    text: Callable[[int], str] = story,
    steps: int = 20,
    **shape: int,
) -> RunDir:
    """A run `test/one` with horizons at half of its steps and at all, four rows a step."""
    books = home / "books"
    books.mkdir()
    for number in range(60):
        (books / f"{number:02d}.txt").write_text(text(number))
    config = CorpusConfig(
        sources=(FileText(path=str(books)),), val_fraction=0.2,
        vocab_size=512 if unicode else 300, characters="unicode" if unicode else "ascii",
    )  # fmt: skip
    corpus = prepare(config, home)
    horizons = 2 * steps * seq_len, 4 * steps * seq_len
    recipe = TrainConfig(
        seq_len=seq_len, batch_tokens=4 * seq_len, warmup_tokens=4 * seq_len,
        schedule=Wsd(horizons=horizons), optimizer=AdamW(lr=0.01), eval_tokens=4 * seq_len,
    )  # fmt: skip
    model = tiny(vocab_size=corpus.vocab_size, **shape)
    spec = RunSpec(model=model, train=recipe, data=DataRef(digest=corpus.digest))
    cells = tuple(Cell(tokens=t, flops_budget=None, train_flops=1) for t in horizons)
    planned = PlannedRun(sweep="test", name="one", run=spec, cells=cells, lr_source="test")
    run = RunDir(home / "runs" / planned.id)
    run.create(planned)
    curve = CurveWriter(run.curve_path)
    for record in train(spec.model, recipe, corpus.open(recipe), checkpoints=run.checkpoints):
        if not isinstance(record, CheckpointRecord):
            curve.append(record)
    curve.close()
    return run
