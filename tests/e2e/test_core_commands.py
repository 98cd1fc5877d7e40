"""generate and export-hf on a run trained through the core, in a home of its own."""

import json

import pytest

from flows.rundir import RunDir
from llama_core.config import AdamW, CorpusConfig, FileText, TrainConfig, Wsd
from llama_core.corpus import prepare
from llama_core.train import train
from sweeps.spec import Cell, DataRef, PlannedRun, RunSpec
from tests.core_tools import story, tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A home with one finished run of two horizons, and the run's id."""
    home = tmp_path_factory.mktemp("trained")
    books = home / "books"
    books.mkdir()
    for number in range(60):
        (books / f"{number:02d}.txt").write_text(story(number))
    config = CorpusConfig(sources=(FileText(path=str(books)),), vocab_size=300, val_fraction=0.2)
    corpus = prepare(config, home)
    recipe = TrainConfig(
        seq_len=16, batch_tokens=64, warmup_tokens=64, schedule=Wsd(horizons=(640, 1280)),
        optimizer=AdamW(lr=0.01), eval_tokens=160,
    )  # fmt: skip
    spec = RunSpec(model=tiny(vocab_size=300), train=recipe, data=DataRef(digest=corpus.digest))
    cells = tuple(Cell(tokens=t, flops_budget=None, train_flops=1) for t in (640, 1280))
    planned = PlannedRun(sweep="test", name="one", run=spec, cells=cells, lr_source="test")
    run = RunDir(home / "runs" / planned.id)
    run.create(planned)
    for _ in train(spec.model, recipe, corpus.open(recipe), checkpoints=run.checkpoints):
        pass
    return home, planned.id


def test_generate_continues_the_prompt_and_the_same_seed_says_the_same(isoflop, trained):
    home, run = trained
    first = isoflop("generate", run, "Loss falls", "--tokens", "8", home=home)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("Loss falls")
    again = isoflop("generate", run[:6], "Loss falls", "--tokens", "8", "--json", "-", home=home)
    answer = json.loads(again.stdout)
    assert answer["text"] == first.stdout[:-1]
    assert answer["horizon"] == 1280


def test_export_hf_writes_what_transformers_reads(isoflop, trained, tmp_path):
    transformers = pytest.importorskip("transformers")
    home, run = trained
    folder = tmp_path / "exported"
    done = isoflop("export-hf", run, str(folder), "--horizon", "640", "--json", "-", home=home)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["horizon"] == 640
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer("Loss falls", return_tensors="pt")
    assert model(**ids).logits.shape[-1] == 300
    again = isoflop("export-hf", run, str(folder), home=home)
    assert again.returncode == 2
    assert "not an empty folder" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generate", "nosuchrun", "x"], "0 runs"),
        (["generate", "..", "x"], "0 runs"),
        (["generate", "RUN", "x", "--horizon", "7"], "no horizon of 7 tokens; it has 640, 1280"),
        (["generate", "RUN", "x", "--top-p", "0"], "top_p"),
        (["generate", "RUN", "x", "--tokens", "0"], "--tokens 0"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(isoflop, trained, arguments, said):
    home, run = trained
    refused = isoflop(*[run if a == "RUN" else a for a in arguments], home=home)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert refused.stdout == ""
